// A batch as the messages of Arrow Flight, which carries header and body of an IPC message apart.

import { Message, MessageHeader } from 'apache-arrow';
import { encodeBatch } from './batch.ts';
import type { Batch } from './columns.ts';

const CONTINUATION = 0xffffffff;
const PREFIX_BYTES = 8;

/** One message of Arrow Flight, under the names of its protocol. */
export interface FlightPiece {
  readonly kind: 'schema' | 'dictionary' | 'batch';
  /** The IPC message's flatbuffer. */
  readonly data_header: Uint8Array;
  /** Empty for the schema. */
  readonly data_body: Uint8Array;
}

/** The batch as messages of Arrow Flight: one schema, a dictionary per string column, one batch. Views, no copies. */
export function encodePieces(batch: Batch): readonly FlightPiece[] {
  return splitStream(encodeBatch(batch));
}

/** Takes an IPC stream that we wrote apart. Not for strangers' bytes: what is wrong throws. */
export function splitStream(bytes: Uint8Array): readonly FlightPiece[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pieces: FlightPiece[] = [];
  let at = 0;
  while (at + PREFIX_BYTES <= bytes.length) {
    const header_bytes = view.getInt32(at + 4, true);
    if (header_bytes === 0) break;
    at += PREFIX_BYTES;
    const data_header = bytes.subarray(at, at + header_bytes);
    const { bodyLength, headerType } = Message.decode(data_header);
    at += header_bytes;
    const data_body = bytes.subarray(at, at + bodyLength);
    at += bodyLength;
    pieces.push({ kind: pieceKind(headerType), data_header, data_body });
  }
  return pieces;
}

/** The opposite of `splitStream`: an IPC stream of messages, as `decodeBatch` takes it. */
export function joinPieces(
  pieces: readonly Pick<FlightPiece, 'data_header' | 'data_body'>[],
): Uint8Array {
  const lengths = pieces.map(
    ({ data_header, data_body }) =>
      PREFIX_BYTES + padded(data_header.length) + padded(data_body.length),
  );
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, PREFIX_BYTES));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [i, { data_header, data_body }] of pieces.entries()) {
    const header_bytes = padded(data_header.length);
    view.setUint32(at, CONTINUATION, true);
    view.setInt32(at + 4, header_bytes, true);
    bytes.set(data_header, at + PREFIX_BYTES);
    bytes.set(data_body, at + PREFIX_BYTES + header_bytes);
    at += lengths[i]!;
  }
  view.setUint32(at, CONTINUATION, true);
  return bytes;
}

function padded(length: number): number {
  return (length + 7) & ~7;
}

function pieceKind(type: MessageHeader): FlightPiece['kind'] {
  if (type === MessageHeader.Schema) return 'schema';
  return type === MessageHeader.DictionaryBatch ? 'dictionary' : 'batch';
}
