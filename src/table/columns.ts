// A batch is a closed table: typed arrays, one a column, and nothing that was ever a row object. Here stands its shape,
// and the one list of columns from which the wire, the store and the pages derive theirs.

import {
  type Dimension,
  type DimensionType,
  type Measure,
  measureColumns,
  type TableDefinition,
} from './definition.ts';

/** Ids point into `dictionary`, which holds only strings that occur. */
export interface StringColumn {
  readonly ids: Int32Array;
  readonly dictionary: readonly string[];
}

/** u64 dimensions are doubles below 2^53. */
export type NumberArray = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array;

export interface NumberColumn {
  readonly values: NumberArray;
}

/** One value a row; NaN means that nothing was observed (never in a `sum`). */
export interface ValueColumn {
  readonly values: Float64Array;
}

/**
 * Buckets of row r stand from `offsets[r]` to `offsets[r + 1]`, indices ascending.
 * `sums` is the sum of what was added; the number of observations is the sum of the counts.
 */
export interface HistogramColumnData {
  readonly scale: number;
  readonly offsets: Int32Array;
  readonly buckets: Int32Array;
  readonly counts: Float64Array;
  readonly sums: Float64Array;
}

export type DimensionColumn = StringColumn | NumberColumn;
export type MeasureColumn = ValueColumn | HistogramColumnData;

/** Columns stand in the order of the definition. */
export interface Batch {
  readonly definition: TableDefinition;
  readonly rows: number;
  /** Milliseconds since 1970, one a row: the end of the interval, or when the event was. */
  readonly times_ms: Float64Array;
  readonly dimensions: readonly DimensionColumn[];
  readonly measures: readonly MeasureColumn[];
}

export type WireKind = 'time' | DimensionType | 'f64' | 'buckets' | 'counts';

/** A column as it is on the wire: what it is called, what it holds, and what it came from. */
export interface WireColumn {
  readonly name: string;
  readonly kind: WireKind;
  readonly nullable: boolean;
  readonly help: string;
  readonly dimension?: Dimension;
  readonly measure?: Measure;
}

/**
 * All columns on the wire, in order: `time`, the dimensions, the measures. A histogram `x` has three: `x_buckets`
 * (list of i32), `x_counts` (list of u64), `x_sum` (f64).
 */
export function wireColumns(def: TableDefinition): readonly WireColumn[] {
  const time = def.kind === 'event' ? 'When it happened' : 'End of the interval';
  const columns: WireColumn[] = [{ name: 'time', kind: 'time', nullable: false, help: time }];
  for (const dimension of def.dimensions) {
    const { name, type, help } = dimension;
    columns.push({ name, kind: type, nullable: false, help, dimension });
  }
  for (const measure of def.measures) columns.push(...measureWireColumns(measure));
  return columns;
}

function measureWireColumns(measure: Measure): readonly WireColumn[] {
  const { type, fold, help } = measure;
  const names = measureColumns(measure);
  if (fold !== 'histogram') {
    return [{ name: names[0]!, kind: type, nullable: fold !== 'sum', help, measure }];
  }
  const kinds = ['buckets', 'counts', 'f64'] as const;
  return kinds.map((kind, i) => ({ name: names[i]!, kind, nullable: false, help, measure }));
}

export function isStringColumn(column: DimensionColumn): column is StringColumn {
  return 'dictionary' in column;
}

export function isHistogramColumn(column: MeasureColumn): column is HistogramColumnData {
  return 'offsets' in column;
}

/** An array for `rows` values of a dimension that is no string. */
export function numberArray(type: Exclude<DimensionType, 'string'>, rows: number): NumberArray {
  switch (type) {
    case 'u8':
      return new Uint8Array(rows);
    case 'u16':
      return new Uint16Array(rows);
    case 'u32':
      return new Uint32Array(rows);
    case 'i32':
      return new Int32Array(rows);
    case 'u64':
      return new Float64Array(rows);
  }
}
