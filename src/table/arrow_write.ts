// Columns to Arrow, as they are. u64 goes through pairs of 32-bit words: BigInt would cost an allocation a value.

import {
  type Data,
  type DataType,
  type Dictionary,
  type Float64,
  Int32,
  type List,
  makeData,
  Uint64,
  Utf8,
  Vector,
} from 'apache-arrow';
import {
  type DimensionColumn,
  type HistogramColumnData,
  isStringColumn,
  type NumberArray,
} from './columns.ts';

const TWO_32 = 2 ** 32;

export function dimensionData(type: DataType, column: DimensionColumn): Data {
  if (!isStringColumn(column)) {
    if (type instanceof Uint64) return wholeData(type, column.values, undefined);
    return plainData(type, column.values);
  }
  const dictionary = new Vector([textData(column.dictionary)]);
  const length = column.ids.length;
  const dictionaryType = type as Dictionary<Utf8, Int32>; // typeOf made it so
  return makeData({ type: dictionaryType, length, nullCount: 0, data: column.ids, dictionary });
}

export function valueData(type: DataType, values: Float64Array, nullable: boolean): Data {
  const nulls = nullable ? nullsOf(values) : undefined;
  if (type instanceof Uint64) return wholeData(type, values, nulls);
  return plainData(type, values, nulls);
}

export function histogramData(
  types: readonly DataType[],
  column: HistogramColumnData,
): readonly Data[] {
  const { offsets, buckets, counts, sums } = column;
  // Two copies of the offsets: Arrow's writer takes one array written twice in a row for one chunk,
  // and so cuts the body short when all lists are empty.
  const lists = [
    { offsets, child: plainData(new Int32(), buckets) },
    { offsets: offsets.slice(), child: wholeData(new Uint64(), counts, undefined) },
  ];
  const data = lists.map(({ offsets: valueOffsets, child }, i) =>
    makeData({
      type: types[i] as List<DataType>, // typeOf made it so
      length: offsets.length - 1,
      nullCount: 0,
      valueOffsets,
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
export function wholeData(
  type: DataType,
  values: ArrayLike<number>,
  nulls: Nulls | undefined,
): Data {
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
  const bytes = Buffer.from(new ArrayBuffer(length * 3));
  let at = 0;
  for (let i = 0; i < texts.length; i += 1) {
    at += bytes.write(texts[i]!, at);
    valueOffsets[i + 1] = at;
  }
  const data = bytes.subarray(0, at);
  return makeData({ type: new Utf8(), length: texts.length, nullCount: 0, valueOffsets, data });
}
