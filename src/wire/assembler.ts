// From the messages of one DoPut stream to batches. Two dialects: our collectors send many self-contained batches on
// one stream, each announced by its metadata; any other Arrow client sends one schema and then record batches.
import type { FlightData } from './flight.ts';
import { type FlightMessage, messageHead } from './ipc.ts';
import { type BatchMetadata, decodeBatchMetadata } from './metadata.ts';
import type { Refusal } from './stats.ts';

export interface WireBatch {
  readonly table: string;
  /** The header of the schema message. */
  readonly schema: Uint8Array;
  /** Dictionaries and record batches: with the schema they are self-contained. */
  readonly messages: readonly FlightMessage[];
  readonly rows: number;
  readonly bytes: number;
  /** The client's own bytes, for clients that are not ours. */
  readonly app_metadata: Uint8Array;
}

export interface AssembledBatch {
  readonly batch: WireBatch;
  /** Undefined for a foreign client: nothing to drop repeats by. */
  readonly about: BatchMetadata | undefined;
}

export type Assembled =
  | { kind: 'none' }
  | { kind: 'batch'; value: AssembledBatch }
  | { kind: 'refused'; reason: Refusal; details: string };

export interface AssemblerLimits {
  readonly batch_bytes_max: number;
  readonly tables_max: number;
}

const TABLE = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;
const none: Assembled = { kind: 'none' };

function refused(reason: Refusal, details: string): Assembled {
  return { kind: 'refused', reason, details };
}

export class Assembler {
  private readonly limits: AssemblerLimits;
  private readonly tables = new Set<string>();
  private table = '';
  private schema: Uint8Array | undefined;
  private about: BatchMetadata | undefined;
  private messages: FlightMessage[] = [];
  private rows = 0;
  private bytes = 0;

  constructor(limits: AssemblerLimits) {
    this.limits = limits;
  }

  push(data: FlightData): Assembled {
    if (data.data_header.length === 0) {
      // A descriptor or metadata alone is legal; the schema may follow.
      return data.descriptor ? this.name(data) : none;
    }
    const head = messageHead(data.data_header);
    if (!head) return refused('malformed', 'data_header is no Arrow message');
    if (head.body_bytes > data.data_body.length) return refused('malformed', 'data_body is short');
    if (head.kind === 'schema') return this.begin(data);
    if (!this.schema) return refused('malformed', 'a batch before its schema');
    if (head.kind === 'other') return refused('malformed', 'neither dictionary nor record batch');
    const { data_header, data_body } = data;
    this.messages.push({ data_header, data_body });
    this.bytes += data_header.length + data_body.length;
    this.rows += head.rows;
    if (this.bytes > this.limits.batch_bytes_max) return refused('too_large', 'batch too large');
    if (this.about) return this.messages.length === this.about.messages ? this.finish() : none;
    return head.kind === 'record' ? this.finishForeign(data.app_metadata) : none;
  }

  private name(data: FlightData): Assembled {
    const { path = [], command = new Uint8Array(0) } = data.descriptor ?? {};
    const table = path.length > 0 ? path.join('.') : Buffer.from(command).toString('utf8');
    if (!TABLE.test(table)) return refused('malformed', 'the descriptor names no table');
    this.tables.add(table);
    if (this.tables.size > this.limits.tables_max) {
      return refused('too_many_tables', `more than ${this.limits.tables_max} on one stream`);
    }
    this.table = table;
    return none;
  }

  private begin(data: FlightData): Assembled {
    if (this.about && this.messages.length < this.about.messages) {
      return refused('malformed', 'a batch ends before its last message');
    }
    if (data.descriptor) {
      const named = this.name(data);
      if (named.kind === 'refused') return named;
    }
    if (this.table === '') return refused('malformed', 'a schema without a descriptor');
    this.schema = data.data_header;
    this.about = decodeBatchMetadata(data.app_metadata);
    this.messages = [];
    this.rows = 0;
    this.bytes = data.data_header.length;
    return this.about?.messages === 0 ? this.finish() : none;
  }

  private take(app_metadata: Uint8Array): Assembled {
    const { table, schema = new Uint8Array(0), messages, rows, bytes, about } = this;
    const batch = { table, schema, messages, rows, bytes, app_metadata };
    return { kind: 'batch', value: { batch, about } };
  }

  private finish(): Assembled {
    const result = this.take(new Uint8Array(0));
    this.schema = undefined;
    this.about = undefined;
    this.messages = [];
    return result;
  }

  /** Dictionaries of a foreign stream stand for all its later batches: they are kept. */
  private finishForeign(app_metadata: Uint8Array): Assembled {
    const result = this.take(app_metadata);
    this.messages = this.messages.filter(
      (one) => messageHead(one.data_header)?.kind === 'dictionary',
    );
    this.rows = 0;
    const kept = this.messages.map((one) => one.data_header.length + one.data_body.length);
    this.bytes = kept.reduce((sum, bytes) => sum + bytes, this.schema?.length ?? 0);
    return result;
  }
}
