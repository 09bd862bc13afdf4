// Arrow bytes back into columns. The bytes may come from a stranger: whatever is wrong with them is a value with a
// reason, never a throw, and nothing is allocated that the bytes themselves do not pay for.

import {
  type Data,
  DataType,
  type Dictionary,
  type Field,
  type RecordBatch,
  RecordBatchReader,
  type Schema,
  type Utf8,
  type Vector,
} from 'apache-arrow';
import {
  type Batch,
  type DimensionColumn,
  type HistogramColumnData,
  type MeasureColumn,
  numberArray,
  type StringColumn,
  wireColumns,
} from './columns.ts';
import {
  type Dimension,
  type Measure,
  measureColumns,
  SCALE_DEFAULT,
  SCALE_MAX,
  SCALE_MIN,
  type TableDefinition,
} from './definition.ts';
import { parseDefinition } from './foreign.ts';

/** A closed set: it goes into the ledger. */
export type BadReason = 'bad_arrow' | 'unknown_table' | 'bad_column' | 'many_batches';

export type Decoded =
  | {
      readonly ok: true;
      readonly batch: Batch;
      /** u64 values that came above 2^53 - 1 and were held there. */
      readonly saturated: number;
      /** Columns of the bytes that the definition does not have: not read. */
      readonly ignored: readonly string[];
    }
  | { readonly ok: false; readonly reason: BadReason; readonly detail: string };

/** The reader's own definition of a table; undefined refuses the batch. */
export type DefinitionLookup = (name: string) => TableDefinition | undefined;

const TWO_32 = 2 ** 32;
const EXACT_MAX = Number.MAX_SAFE_INTEGER;
/** A row has at least its time. */
const ROW_BYTES_MIN = 8;

/** What a column of a stranger can be wrong about; caught in this file. */
class BadColumn extends Error {}

/** What one decoding keeps count of. */
interface Tally {
  saturated: number;
}

/**
 * Reads an Arrow IPC stream with one record batch. Without `lookup` the definition in the schema counts (our own
 * spool); with it, the reader's: columns that it has and the bytes have not are empty, others are ignored.
 * Accepts what any Arrow writer makes of the columns: plain or dictionary strings, any width of integer, any order.
 */
export function decodeBatch(bytes: Uint8Array, lookup?: DefinitionLookup): Decoded {
  try {
    return decode(aligned(bytes), lookup);
  } catch (error) {
    // apache-arrow throws on bytes that are no Arrow, of many kinds; to us it is one.
    const detail = error instanceof Error ? error.message : String(error);
    return refused(error instanceof BadColumn ? 'bad_column' : 'bad_arrow', detail);
  }
}

function decode(bytes: Uint8Array, lookup: DefinitionLookup | undefined): Decoded {
  const reader = RecordBatchReader.from(bytes);
  reader.open();
  // Apache Arrow's types promise a schema, but an empty stream has none.
  const metadata = (reader.schema as Schema | undefined)?.metadata;
  if (metadata === undefined) return refused('bad_arrow', 'the stream has no schema');
  const name = metadata.get('sonde.table') ?? '';
  const definition =
    lookup === undefined ? parseDefinition(metadata.get('sonde.definition') ?? '') : lookup(name);
  if (definition === undefined) return refused('unknown_table', name.slice(0, 64));
  const first = reader.next();
  if (first.done === true) return refused('bad_arrow', 'the stream has no record batch');
  if (reader.next().done !== true) return refused('many_batches', definition.name);
  const record: RecordBatch = first.value;
  if (record.numRows * ROW_BYTES_MIN > bytes.length) {
    return refused('bad_arrow', `${record.numRows} rows in ${bytes.length} bytes`);
  }
  return toBatch(definition, record);
}

function refused(reason: BadReason, detail: string): Decoded {
  return { ok: false, reason, detail };
}

/** 64-bit views need an address that divides by 8, which a slice of a network buffer may not have. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes);
}

interface Source {
  readonly field: Field;
  readonly data: Data;
}
type Sources = ReadonlyMap<string, Source>;

function toBatch(definition: TableDefinition, record: RecordBatch): Decoded {
  const rows = record.numRows;
  const tally: Tally = { saturated: 0 };
  const sources = new Map<string, Source>();
  for (const [i, field] of record.schema.fields.entries()) {
    sources.set(field.name, { field, data: record.data.children[i]! });
  }
  const times_ms = new Float64Array(rows);
  readTimes(sources.get('time'), times_ms);
  const batch: Batch = {
    definition,
    rows,
    times_ms,
    dimensions: definition.dimensions.map((each) => readDimension(each, sources, rows)),
    measures: definition.measures.map((each) => readMeasure(each, sources, rows, tally)),
  };
  for (const { name } of wireColumns(definition)) sources.delete(name);
  return { ok: true, batch, saturated: tally.saturated, ignored: [...sources.keys()] };
}

function readTimes(source: Source | undefined, into: Float64Array): void {
  if (source === undefined) throw new BadColumn('column "time" is missing');
  const { type } = source.data;
  const isTime = DataType.isTimestamp(type) && type.unit === 1;
  if (!isTime) throw new BadColumn(`column "time" is ${type}, not a timestamp in ms`);
  readWords('time', source.data, true, into);
  for (const time of into) {
    if (!(time >= 0 && time <= EXACT_MAX)) throw new BadColumn('column "time" is out of range');
  }
}

function readDimension(dimension: Dimension, sources: Sources, rows: number): DimensionColumn {
  const { name, type } = dimension;
  const source = sources.get(name);
  if (type === 'string') {
    if (source === undefined) return { ids: new Int32Array(rows), dictionary: [''] };
    return readStrings(name, source.data, rows);
  }
  const values = numberArray(type, rows);
  if (source === undefined) return { values };
  const numbers = new Float64Array(rows);
  readNumbers(name, source.data, numbers, 0);
  values.set(numbers);
  for (let row = 0; row < rows; row += 1) {
    const value = numbers[row]!;
    const fits = values[row] === value && value <= EXACT_MAX && (type === 'i32' || value >= 0);
    if (!fits) throw new BadColumn(`column "${name}": ${value} is no ${type}`);
  }
  return { values };
}

function readMeasure(
  measure: Measure,
  sources: Sources,
  rows: number,
  tally: Tally,
): MeasureColumn {
  const { name, type, fold } = measure;
  if (fold === 'histogram') return readHistogram(measure, sources, rows, tally);
  const nothing = fold === 'sum' ? 0 : Number.NaN;
  const values = new Float64Array(rows).fill(nothing);
  const source = sources.get(name);
  if (source === undefined) return { values };
  readNumbers(name, source.data, values, nothing);
  if (type === 'u64') tally.saturated += holdWhole(name, values);
  return { values };
}

/** Holds u64 values in the exact range; says how many were above. */
function holdWhole(name: string, values: Float64Array): number {
  let saturated = 0;
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i]!;
    if (value < 0) throw new BadColumn(`column "${name}": ${value} is no u64`);
    if (!(value > EXACT_MAX)) continue;
    values[i] = EXACT_MAX;
    saturated += 1;
  }
  return saturated;
}

function readHistogram(
  measure: Measure,
  sources: Sources,
  rows: number,
  tally: Tally,
): HistogramColumnData {
  const [nameBuckets, nameCounts, nameSum] = measureColumns(measure) as [string, string, string];
  const sums = new Float64Array(rows);
  const sumSource = sources.get(nameSum);
  if (sumSource !== undefined) readNumbers(nameSum, sumSource.data, sums, 0);
  const scale = measure.scale ?? SCALE_DEFAULT;
  const bucketSource = sources.get(nameBuckets);
  const countSource = sources.get(nameCounts);
  if (bucketSource === undefined || countSource === undefined) {
    const empty = { buckets: new Int32Array(0), counts: new Float64Array(0) };
    return { scale, offsets: new Int32Array(rows + 1), ...empty, sums };
  }
  const buckets = readList(nameBuckets, bucketSource.data, rows);
  const counts = readList(nameCounts, countSource.data, rows);
  for (let row = 0; row <= rows; row += 1) {
    if (buckets.offsets[row] === counts.offsets[row]) continue;
    throw new BadColumn(`columns "${nameBuckets}" and "${nameCounts}" differ in length`);
  }
  const whole = Int32Array.from(buckets.values);
  if (!whole.every((bucket, i) => bucket === buckets.values[i])) {
    throw new BadColumn(`column "${nameBuckets}" is not of i32`);
  }
  tally.saturated += holdWhole(nameCounts, counts.values);
  return {
    scale: scaleOf(bucketSource.field, scale),
    offsets: buckets.offsets,
    buckets: whole,
    counts: counts.values,
    sums,
  };
}

/** The sender's scale may be finer than ours: merging makes it coarser. */
function scaleOf(field: Field, scale: number): number {
  const text = field.metadata.get('sonde.scale');
  if (text === undefined) return scale;
  const sent = Number(text);
  if (Number.isInteger(sent) && sent >= SCALE_MIN && sent <= SCALE_MAX) return sent;
  throw new BadColumn(`column "${field.name}": scale "${text.slice(0, 16)}"`);
}

interface List {
  /** Rebased to begin with 0. */
  readonly offsets: Int32Array;
  readonly values: Float64Array;
}

function readList(name: string, data: Data, rows: number): List {
  if (!DataType.isList(data.type)) throw new BadColumn(`column "${name}" is ${data.type}, no list`);
  const from: Int32Array = data.valueOffsets;
  const child = data.children[0];
  if (child === undefined || (rows > 0 && from.length <= rows)) {
    throw new BadColumn(`column "${name}" is cut off`);
  }
  const first = rows > 0 ? from[0]! : 0;
  const offsets = new Int32Array(rows + 1);
  for (let row = 0; row < rows; row += 1) {
    const length = from[row + 1]! - from[row]!;
    if (length < 0) throw new BadColumn(`column "${name}" has offsets that fall`);
    offsets[row + 1] = offsets[row]! + (isNull(data, row) ? 0 : length);
    if (isNull(data, row) && length > 0) throw new BadColumn(`column "${name}" fills a null`);
  }
  const length = offsets[rows]!;
  if (first < 0 || first + length > child.length)
    throw new BadColumn(`column "${name}" is cut off`);
  const values = new Float64Array(length);
  readNumbers(name, child.slice(first, length), values, 0);
  return { offsets, values };
}

/** Any number type into doubles; nulls leave `nothing`. */
function readNumbers(name: string, data: Data, into: Float64Array, nothing: number): void {
  const { type } = data;
  if (DataType.isInt(type)) {
    if (type.bitWidth === 64) readWords(name, data, type.isSigned, into);
    else copy(name, data, into);
  } else if (DataType.isFloat(type) && type.precision !== 0) {
    copy(name, data, into);
  } else throw new BadColumn(`column "${name}" is ${type}, no number`);
  if (data.nullCount === 0) return;
  for (let i = 0; i < into.length; i += 1) if (isNull(data, i)) into[i] = nothing;
}

function copy(name: string, data: Data, into: Float64Array): void {
  const values: ArrayLike<number> = data.values;
  if (values.length < into.length) throw new BadColumn(`column "${name}" is cut off`);
  for (let i = 0; i < into.length; i += 1) into[i] = values[i]!;
}

/** 64-bit values by their words: a BigInt a value would cost more than all the rest. */
function readWords(name: string, data: Data, signed: boolean, into: Float64Array): void {
  const values: BigInt64Array | BigUint64Array = data.values;
  if (values.length < into.length) throw new BadColumn(`column "${name}" is cut off`);
  const words = new Uint32Array(values.buffer, values.byteOffset, into.length * 2);
  for (let i = 0; i < into.length; i += 1) {
    const high = words[i * 2 + 1]!;
    into[i] = (signed ? high | 0 : high) * TWO_32 + words[i * 2]!;
  }
}

function isNull(data: Data, row: number): boolean {
  if (data.nullCount === 0) return false;
  const at = data.offset + row;
  return ((data.nullBitmap[at >>> 3] ?? 0) & (1 << (at & 7))) === 0;
}

function readStrings(name: string, data: Data, rows: number): StringColumn {
  const { type } = data;
  if (DataType.isUtf8(type)) return internTexts(textsOf(name, data), rows);
  if (!DataType.isDictionary(type) || !DataType.isUtf8((type as Dictionary).dictionary)) {
    throw new BadColumn(`column "${name}" is ${type}, neither text nor a dictionary of texts`);
  }
  const chunks = (data.dictionary as Vector<Utf8> | undefined)?.data ?? [];
  const dictionary = chunks.flatMap((chunk) => textsOf(name, chunk));
  const ids = new Int32Array(rows);
  const numbers = new Float64Array(rows);
  copy(name, data, numbers);
  let empty = -1;
  for (let row = 0; row < rows; row += 1) {
    let id = numbers[row]!;
    if (isNull(data, row)) {
      if (empty < 0) empty = dictionary.push('') - 1;
      id = empty;
    }
    if (!(id >= 0 && id < dictionary.length)) {
      throw new BadColumn(`column "${name}": no string ${id} in the dictionary`);
    }
    ids[row] = id;
  }
  return { ids, dictionary };
}

/** All strings of plain UTF-8 data; nulls are empty. */
function textsOf(name: string, data: Data): string[] {
  const offsets: Int32Array = data.valueOffsets;
  if (data.length > 0 && offsets.length <= data.length) {
    throw new BadColumn(`column "${name}" is cut off`);
  }
  const bytes: Uint8Array = data.values;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  for (let i = 0; i < data.length; i += 1) {
    const from = offsets[i]!;
    const to = offsets[i + 1]!;
    // Offsets that fall or jump back would let few bytes become many strings.
    if (!(from >= 0 && from <= to && to <= bytes.length)) {
      throw new BadColumn(`column "${name}" has text outside of its bytes`);
    }
    texts.push(isNull(data, i) ? '' : buffer.toString('utf8', from, to));
  }
  return texts;
}

function internTexts(texts: readonly string[], rows: number): StringColumn {
  const ids = new Int32Array(rows);
  const known = new Map<string, number>();
  for (let row = 0; row < rows; row += 1) {
    const text = texts[row] ?? '';
    let id = known.get(text);
    if (id === undefined) {
      id = known.size;
      known.set(text, id);
    }
    ids[row] = id;
  }
  return { ids, dictionary: [...known.keys()] };
}
