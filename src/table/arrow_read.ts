// Arrow to columns. The data may come from a stranger: a column that is not what it should be throws `BadColumn`, which
// `decodeBatch` makes a value of, and nothing is allocated that the bytes themselves do not pay for.

import {
  type Data,
  DataType,
  type Dictionary,
  type Field,
  type Utf8,
  type Vector,
} from 'apache-arrow';
import {
  type DimensionColumn,
  type HistogramColumnData,
  type MeasureColumn,
  numberArray,
  type StringColumn,
} from './columns.ts';
import {
  type Dimension,
  type Measure,
  measureColumns,
  SCALE_DEFAULT,
  SCALE_MAX,
  SCALE_MIN,
} from './definition.ts';

const TWO_32 = 2 ** 32;
const EXACT_MAX = Number.MAX_SAFE_INTEGER;

/** Field metadata of `x_buckets`: the scale of the buckets. */
export const METADATA_SCALE = 'sonde.scale';

/** What a column of a stranger can be wrong about; caught by `decodeBatch`. */
export class BadColumn extends Error {}

/** What one decoding keeps count of. */
export interface Tally {
  saturated: number;
}

export interface Source {
  readonly field: Field;
  readonly data: Data;
}
export type Sources = ReadonlyMap<string, Source>;

export function readTimes(source: Source | undefined, into: Float64Array): void {
  if (source === undefined) throw new BadColumn('column "time" is missing');
  const { type } = source.data;
  const isTime = DataType.isTimestamp(type) && type.unit === 1;
  if (!isTime) throw new BadColumn(`column "time" is ${type}, not a timestamp in ms`);
  readWords('time', source.data, true, into);
  for (const time of into) {
    if (!(time >= 0 && time <= EXACT_MAX)) throw new BadColumn('column "time" is out of range');
  }
}

export function readDimension(
  dimension: Dimension,
  sources: Sources,
  rows: number,
): DimensionColumn {
  const { name, type } = dimension;
  const source = sources.get(name);
  if (type === 'string') {
    const dictionary = rows > 0 ? [''] : [];
    if (source === undefined) return { ids: new Int32Array(rows), dictionary };
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

export function readMeasure(
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
  const text = field.metadata.get(METADATA_SCALE);
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
