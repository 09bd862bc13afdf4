// Arrow's two framings of the same messages: the IPC stream (what the spool and the store's files hold) and Flight
// messages (what gRPC carries). Splitting copies nothing. Only the few flatbuffer fields that say where a message
// ends are read here; what is inside belongs to src/table and the store.
import type { Decoded } from './flight.ts';

/** One Arrow IPC message: the flatbuffer header and the body. */
export interface FlightMessage {
  readonly data_header: Uint8Array;
  readonly data_body: Uint8Array;
}

/** A self-contained batch: a schema, then dictionaries and record batches. */
export interface ArrowMessages {
  /** The header of the schema message; it has no body. */
  readonly schema: Uint8Array;
  readonly messages: readonly FlightMessage[];
}

export type MessageKind = 'schema' | 'dictionary' | 'record' | 'other';

export interface MessageHead {
  readonly kind: MessageKind;
  /** Rows of a record batch, 0 for other kinds. */
  readonly rows: number;
  readonly body_bytes: number;
}

const CONTINUATION = 0xffffffff;
const ALIGNMENT = 8;
/** Of the flatbuffer table `Message`: version, header_type, header, bodyLength. */
const SLOT_HEADER_TYPE = 1;
const SLOT_HEADER = 2;
const SLOT_BODY_LENGTH = 3;
/** Of the flatbuffer table `RecordBatch`. */
const SLOT_LENGTH = 0;
const KINDS: readonly MessageKind[] = ['other', 'schema', 'dictionary', 'record'];

/** Where field `slot` of the flatbuffer table at `table` lies; 0 when absent or out of bounds. */
function fieldAt(view: DataView, table: number, slot: number, width: number): number {
  const vtable = table - view.getInt32(table, true);
  if (vtable < 0 || vtable + 4 > view.byteLength) return 0;
  const entry = vtable + 4 + slot * 2;
  if (entry + 2 > vtable + view.getUint16(vtable, true)) return 0;
  if (entry + 2 > view.byteLength) return 0;
  const offset = view.getUint16(entry, true);
  return offset === 0 || table + offset + width > view.byteLength ? 0 : table + offset;
}

/** A non-negative int64 below 2^53, or -1. */
function int64At(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high > 0x1fffff ? -1 : high * 2 ** 32 + view.getUint32(at, true);
}

/** Reads the head of an Arrow IPC message; undefined when the bytes are none. */
export function messageHead(header: Uint8Array): MessageHead | undefined {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  if (view.byteLength < 8) return undefined;
  const table = view.getUint32(0, true);
  if (table + 4 > view.byteLength) return undefined;
  const kind_at = fieldAt(view, table, SLOT_HEADER_TYPE, 1);
  const kind = KINDS[kind_at === 0 ? 0 : view.getUint8(kind_at)] ?? 'other';
  const body_at = fieldAt(view, table, SLOT_BODY_LENGTH, 8);
  const body_bytes = body_at === 0 ? 0 : int64At(view, body_at);
  let rows = 0;
  const inner_at = fieldAt(view, table, SLOT_HEADER, 4);
  if (kind === 'record' && inner_at !== 0) {
    const inner = inner_at + view.getUint32(inner_at, true);
    if (inner + 4 > view.byteLength) return undefined;
    const rows_at = fieldAt(view, inner, SLOT_LENGTH, 8);
    rows = rows_at === 0 ? 0 : int64At(view, rows_at);
  }
  return body_bytes < 0 || rows < 0 ? undefined : { kind, rows, body_bytes };
}

/** Cuts an IPC stream into messages that alias it. */
export function splitStream(stream: Uint8Array): Decoded<ArrowMessages> {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  const messages: FlightMessage[] = [];
  let schema: Uint8Array | undefined;
  let at = 0;
  while (at + 8 <= stream.length && view.getUint32(at, true) === CONTINUATION) {
    const header_bytes = view.getUint32(at + 4, true);
    if (header_bytes === 0) break;
    const body_start = at + 8 + header_bytes;
    if (body_start > stream.length) return { ok: false, reason: 'truncated IPC header' };
    const data_header = stream.subarray(at + 8, body_start);
    const head = messageHead(data_header);
    if (!head) return { ok: false, reason: 'malformed IPC header' };
    at = body_start + Math.ceil(head.body_bytes / ALIGNMENT) * ALIGNMENT;
    if (body_start + head.body_bytes > stream.length) {
      return { ok: false, reason: 'truncated IPC body' };
    }
    const data_body = stream.subarray(body_start, body_start + head.body_bytes);
    if (head.kind === 'schema' && !schema) schema = data_header;
    else messages.push({ data_header, data_body });
  }
  if (!schema) return { ok: false, reason: 'IPC stream without a schema' };
  return { ok: true, value: { schema, messages } };
}

function pushEncapsulated(pieces: Uint8Array[], header: Uint8Array, body: Uint8Array): void {
  const header_padded = Math.ceil((header.length + ALIGNMENT) / ALIGNMENT) * ALIGNMENT;
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32LE(CONTINUATION, 0);
  prefix.writeUInt32LE(header_padded - ALIGNMENT, 4);
  pieces.push(prefix, header, Buffer.alloc(header_padded - ALIGNMENT - header.length), body);
  pieces.push(Buffer.alloc((ALIGNMENT - (body.length % ALIGNMENT)) % ALIGNMENT));
}

/** A schema as an encapsulated IPC message, as SchemaResult and FlightInfo carry it. */
export function encapsulate(header: Uint8Array): Buffer {
  const pieces: Uint8Array[] = [];
  pushEncapsulated(pieces, header, new Uint8Array(0));
  return Buffer.concat(pieces);
}

/** Joins messages into one IPC stream with its end mark: what Arrow readers and the store's engine take. */
export function joinStream(batch: ArrowMessages): Buffer {
  const pieces: Uint8Array[] = [];
  pushEncapsulated(pieces, batch.schema, new Uint8Array(0));
  for (const one of batch.messages) pushEncapsulated(pieces, one.data_header, one.data_body);
  const end = Buffer.alloc(8);
  end.writeUInt32LE(CONTINUATION, 0);
  pieces.push(end);
  return Buffer.concat(pieces);
}
