// A batch on the wire: an Arrow IPC stream, or the same messages one by one for Arrow Flight. Columns are handed to
// Arrow as they are; u64 goes through pairs of 32-bit words, since BigInt would cost an allocation a value.

import {
  type Data,
  type DataType,
  Dictionary,
  Field,
  Float64,
  Int32,
  List,
  Message,
  MessageHeader,
  makeData,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  TimestampMillisecond,
  Uint8,
  Uint16,
  Uint32,
  Uint64,
  Utf8,
  Vector,
} from 'apache-arrow';
import {
  type Batch,
  type DimensionColumn,
  type HistogramColumnData,
  isHistogramColumn,
  isStringColumn,
  type NumberArray,
  type WireColumn,
  wireColumns,
} from './columns.ts';
import { SCALE_DEFAULT, type TableDefinition } from './definition.ts';

// Those who speak of batches need not know in which file which half stands.
export type { Batch } from './columns.ts';
export { wireColumns } from './columns.ts';
export { decodeBatch } from './decode.ts';

/** Schema metadata: the table's name, and its definition as JSON, so that a batch on disk explains itself. */
export const METADATA_TABLE = 'sonde.table';
export const METADATA_DEFINITION = 'sonde.definition';
/** Field metadata of `x_buckets`: the scale of the buckets. */
export const METADATA_SCALE = 'sonde.scale';
const METADATA_HELP = 'sonde.help';

const TWO_32 = 2 ** 32;
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

const schemas = new WeakMap<TableDefinition, Schema>();

/** The Arrow schema of a table. The same object for the same definition: dictionaries are known by their type. */
export function arrowSchema(def: TableDefinition): Schema {
  const known = schemas.get(def);
  if (known !== undefined) return known;
  const fields = wireColumns(def).map(fieldOf);
  const metadata = new Map([
    [METADATA_TABLE, def.name],
    [METADATA_DEFINITION, JSON.stringify(def)],
  ]);
  const schema = new Schema(fields, metadata);
  schemas.set(def, schema);
  return schema;
}

/** The batch as a complete Arrow IPC stream: schema, dictionaries, one record batch, end. */
export function encodeBatch(batch: Batch): Uint8Array {
  const writer = new RecordBatchStreamWriter();
  writer.write(toRecordBatch(batch));
  writer.finish();
  return writer.toUint8Array(true);
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

function fieldOf(column: WireColumn, position: number): Field {
  const metadata = new Map([[METADATA_HELP, column.help]]);
  if (column.kind === 'buckets')
    metadata.set(METADATA_SCALE, String(column.measure?.scale ?? SCALE_DEFAULT));
  return new Field(column.name, typeOf(column, position), column.nullable, metadata);
}

function typeOf({ kind }: WireColumn, position: number): DataType {
  switch (kind) {
    case 'time':
      return new TimestampMillisecond();
    case 'string':
      return new Dictionary(new Utf8(), new Int32(), position);
    case 'u8':
      return new Uint8();
    case 'u16':
      return new Uint16();
    case 'u32':
      return new Uint32();
    case 'i32':
      return new Int32();
    case 'u64':
      return new Uint64();
    case 'f64':
      return new Float64();
    case 'buckets':
      return new List(new Field('item', new Int32(), false));
    case 'counts':
      return new List(new Field('item', new Uint64(), false));
  }
}

function toRecordBatch(batch: Batch): RecordBatch {
  const { definition, rows } = batch;
  const schema = arrowSchema(definition);
  const types = schema.fields.map(({ type }) => type as DataType);
  const children: Data[] = [wholeData(types[0]!, batch.times_ms, undefined)];
  for (const column of batch.dimensions) {
    children.push(dimensionData(types[children.length]!, column));
  }
  for (const [i, column] of batch.measures.entries()) {
    const at = children.length;
    if (isHistogramColumn(column)) {
      if (column.scale !== (definition.measures[i]!.scale ?? SCALE_DEFAULT)) {
        throw new Error(`column "${definition.measures[i]!.name}" has scale ${column.scale}`);
      }
      children.push(...histogramData(types.slice(at, at + 3), column));
    } else {
      const nullable = definition.measures[i]!.fold !== 'sum';
      children.push(valueData(types[at]!, column.values, nullable));
    }
  }
  const struct = new Struct(schema.fields);
  return new RecordBatch(schema, makeData({ type: struct, length: rows, nullCount: 0, children }));
}

function dimensionData(type: DataType, column: DimensionColumn): Data {
  if (!isStringColumn(column)) {
    if (type instanceof Uint64) return wholeData(type, column.values, undefined);
    return plainData(type, column.values);
  }
  const dictionary = new Vector([textData(column.dictionary)]);
  const length = column.ids.length;
  const dictionaryType = type as Dictionary<Utf8, Int32>; // typeOf made it so
  return makeData({ type: dictionaryType, length, nullCount: 0, data: column.ids, dictionary });
}

function valueData(type: DataType, values: Float64Array, nullable: boolean): Data {
  const nulls = nullable ? nullsOf(values) : undefined;
  if (type instanceof Uint64) return wholeData(type, values, nulls);
  return plainData(type, values, nulls);
}

function histogramData(types: readonly DataType[], column: HistogramColumnData): readonly Data[] {
  const { offsets, buckets, counts, sums } = column;
  const lists = [plainData(new Int32(), buckets), wholeData(new Uint64(), counts, undefined)];
  const data = lists.map((child, i) =>
    makeData({
      type: types[i] as List<DataType>, // typeOf made it so
      length: offsets.length - 1,
      nullCount: 0,
      valueOffsets: offsets,
      child,
    }),
  );
  return [...data, plainData(types[2]!, sums)];
}

interface Nulls {
  readonly nullCount: number;
  readonly nullBitmap: Uint8Array;
}

/** NaN says that nothing was observed; a bit of 1 says that something was. */
function nullsOf(values: Float64Array): Nulls | undefined {
  let nullCount = 0;
  const nullBitmap = new Uint8Array((values.length + 7) >>> 3);
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isNaN(values[i])) nullCount += 1;
    else nullBitmap[i >>> 3]! |= 1 << (i & 7);
  }
  return nullCount === 0 ? undefined : { nullCount, nullBitmap };
}

/** Data of a type whose array is the one given. */
function plainData(type: DataType, data: NumberArray, nulls?: Nulls): Data {
  // Arrow's overloads want one concrete type; which it is stands in the schema.
  return makeData({ type: type as Float64, length: data.length, data, ...(nulls ?? NO_NULLS) });
}

/** 64-bit data of whole doubles >= 0. */
function wholeData(type: DataType, values: ArrayLike<number>, nulls: Nulls | undefined): Data {
  const words = new Uint32Array(values.length * 2);
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i]!;
    // Modulo 2^32 for the low word is what a shift does; NaN becomes 0, under a null.
    words[i * 2] = value >>> 0;
    words[i * 2 + 1] = value / TWO_32;
  }
  const data = new BigUint64Array(words.buffer);
  return makeData({ type: type as Uint64, length: values.length, data, ...(nulls ?? NO_NULLS) });
}

const NO_NULLS = { nullCount: 0 };

function textData(texts: readonly string[]): Data<Utf8> {
  const valueOffsets = new Int32Array(texts.length + 1);
  let length = 0;
  for (const text of texts) length += text.length;
  // UTF-8 takes at most three bytes for a code unit.
  const bytes = Buffer.allocUnsafe(length * 3);
  let at = 0;
  for (let i = 0; i < texts.length; i += 1) {
    at += bytes.write(texts[i]!, at);
    valueOffsets[i + 1] = at;
  }
  const data = new Uint8Array(bytes.buffer, bytes.byteOffset, at);
  return makeData({ type: new Utf8(), length: texts.length, nullCount: 0, valueOffsets, data });
}
