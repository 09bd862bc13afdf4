// Decodes the records of the `http` source (record.bpf.h). A record is a run of like requests: its dimensions are found
// once, its requests are added one by one.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext, RecordDecoder, RecordSource } from '../../src/table/probe.ts';
import { httpflow } from '../httpflow.ts';
import { positions } from '../interned.ts';
import {
  flow_role,
  HttpRecordView,
  HttpRestRecordView,
  http_flag,
  http_record,
  http_rest_record,
  record_kind,
} from '../layout.gen.ts';
import { type HttpRows, httpRows } from './rows.ts';

const ENTRY_BYTES = 16;
const ENTRIES_MAX = http_record.entry_length;
const HEAD_BYTES = http_record.entry;
/** `ttfb` of entries without one (record.bpf.h). */
const NO_MESSAGE = 0xffffffff;
const NO_RESPONSE = 0xfffffffe;
const COARSE = 0x80000000;

const M = positions(httpflow.measures);

export const httpRecords: RecordSource = {
  kind: record_kind.RECORD_HTTP,
  open: (context) => new HttpDecoder(context),
};

export class HttpDecoder implements RecordDecoder {
  readonly #fold: Fold;
  readonly #rows: HttpRows;
  readonly #view = new HttpRecordView(new Uint8Array(0));
  readonly #rest = new HttpRestRecordView(new Uint8Array(0));
  readonly #measures = new Float64Array(httpflow.measures.length);
  #bytes: Buffer = Buffer.alloc(0);

  constructor(context: DecodeContext) {
    this.#rows = httpRows(context);
    this.#fold = this.#rows.fold;
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#rest.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(at: number, length: number, now_ms: number): boolean {
    if (length < http_rest_record.SIZE) return false;
    if ((this.#rest.move(at).head_flags & http_flag.HTTP_OVERFLOW) !== 0) return this.#decodeRest();
    if (length < HEAD_BYTES + ENTRY_BYTES) return false;
    const view = this.#view.move(at);
    const room = Math.min(ENTRIES_MAX, Math.floor((length - HEAD_BYTES) / ENTRY_BYTES));
    if (view.entries > room || view.first >= view.entries) return false;
    this.#rows.key(view, this.#bytes, now_ms);
    this.#decodeEntries(view, at);
    return true;
  }

  #decodeEntries(view: HttpRecordView, at: number): void {
    const m = this.#measures;
    const bytes = this.#bytes;
    const serves = view.role === flow_role.ROLE_INCOMING;
    let from = at + HEAD_BYTES + view.first * ENTRY_BYTES;
    for (let i = view.first; i < view.entries; i += 1) {
      const ttfb = bytes.readUInt32LE(from);
      const request = bytes.readUInt32LE(from + 8);
      const response = bytes.readUInt32LE(from + 12);
      m[M.count] = ttfb === NO_MESSAGE ? 0 : 1;
      m[M.latency] = ttfb >= NO_RESPONSE ? Number.NaN : nanoseconds(ttfb);
      m[M.latency_max] = m[M.latency]!;
      m[M.duration] = nanoseconds(bytes.readUInt32LE(from + 4));
      m[M.bytes_read] = serves ? request : response;
      m[M.bytes_written] = serves ? response : request;
      this.#fold.add(this.#rows.dims, m);
      from += ENTRY_BYTES;
    }
  }

  /** Totals of records that found the ring full. */
  #decodeRest(): boolean {
    const m = this.#measures;
    const rest = this.#rest;
    const serves = rest.role === flow_role.ROLE_INCOMING;
    this.#rows.other(serves, rest.status_class);
    m[M.count] = rest.rest_requests;
    m[M.bytes_read] = serves ? rest.rest_bytes_request : rest.rest_bytes_response;
    m[M.bytes_written] = serves ? rest.rest_bytes_response : rest.rest_bytes_request;
    m[M.latency] = Number.NaN;
    m[M.latency_max] = Number.NaN;
    m[M.duration] = rest.rest_duration_ns;
    const row = this.#fold.addRow(this.#rows.dims, m, 0);
    const answered = rest.rest_answered;
    if (row < 0 || answered === 0) return true;
    // Of these only the mean is known.
    const histogram = this.#fold.bucketsOf(row, M.latency, rest.rest_ttfb_ns);
    histogram.addValue(row, rest.rest_ttfb_ns / answered, answered);
    return true;
  }
}

/** A time as the kernel side packs it: nanoseconds, or with the highest bit units of 1024. */
function nanoseconds(time: number): number {
  return time < COARSE ? time : (time - COARSE) * 1024;
}
