// Rows of `dbflow` from commands. What belongs to a connection is made once an interval.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { dbflow } from '../dbflow.ts';
import { EndColumns, type Named } from '../end_columns.ts';
import { Interned, IPPROTO_TCP, positions } from '../interned.ts';
import { DbRecordView } from '../layout.gen.ts';
import type { Command } from './talk.ts';

const OTHER = '<other>';
/** Operations and errors of one interval: what a hostile peer may make up is bounded. */
const NAMES_MAX = 512;
const NAME = /^[A-Z0-9_.|-]{0,32}$/;

const D = positions(dbflow.dimensions);
const M = positions(dbflow.measures);

/** Whose commands they are. */
export interface DbEnds extends Named {
  readonly system: string;
  readonly serves: boolean;
  /** The record that tells addresses and owner. */
  readonly record: Buffer;
  /** Made of the record as it was, in this epoch of the fold; undefined: to be made. */
  dims: Float64Array | undefined;
  epoch: number;
}

export class DbRows {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #interned: Interned;
  readonly #ends: EndColumns;
  readonly #view = new DbRecordView(new Uint8Array(0));
  readonly #names = new Set<string>();
  readonly #measures = new Float64Array(dbflow.measures.length);
  now_ms = 0;

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(dbflow);
    this.#interned = new Interned(this.#fold);
    this.#ends = new EndColumns(context, this.#interned, D);
  }

  add(ends: DbEnds, command: Command): void {
    if (this.#interned.renew()) this.#names.clear();
    const dims = this.#dims(ends);
    dims[D.db_operation_name] = this.#name(command.operation);
    dims[D.error_type] = this.#name(command.error);
    const m = this.#measures;
    const answered = !Number.isNaN(command.first_ns);
    const latency = answered ? Math.max(0, command.first_ns - command.begin_ns) : Number.NaN;
    m[M.count] = 1;
    m[M.bytes_read] = ends.serves ? command.bytes_request : command.bytes_response;
    m[M.bytes_written] = ends.serves ? command.bytes_response : command.bytes_request;
    m[M.latency] = latency;
    m[M.latency_max] = latency;
    m[M.duration] = answered ? Math.max(0, command.last_ns - command.begin_ns) : 0;
    this.#fold.add(dims, m);
  }

  #name(text: string): number {
    if (this.#names.has(text)) return this.#interned.word(text);
    if (!NAME.test(text)) return this.#interned.word(OTHER);
    if (this.#names.size >= NAMES_MAX) {
      this.#context.note('db_name_other', 1);
      return this.#interned.word(OTHER);
    }
    this.#names.add(text);
    return this.#interned.word(text);
  }

  #dims(ends: DbEnds): Float64Array {
    if (ends.dims !== undefined && ends.epoch === this.#fold.epoch) return ends.dims;
    const dims = ends.dims ?? new Float64Array(dbflow.dimensions.length);
    this.#fill(dims, ends);
    ends.dims = dims;
    ends.epoch = this.#fold.epoch;
    return dims;
  }

  #fill(dims: Float64Array, named: DbEnds): void {
    const { record, serves, system } = named;
    this.#view.over(record);
    const view = this.#view.move(0);
    const { now_ms } = this;
    this.#ends.fill(dims, view, record, { serves, transport: IPPROTO_TCP, now_ms, named });
    this.#ends.fillOwner(dims, view);
    dims[D.db_system_name] = this.#interned.word(system);
  }
}
