// Rows of one interval with equal dimensions become one. This is where a million packets become a table of a few
// hundred rows, so the path of a known key allocates nothing: keys and cells are rows of doubles, turned into columns
// once, when the interval closes.

import { Cells } from './cells.ts';
import {
  type Batch,
  type DimensionColumn,
  type NumberColumn,
  numberArray,
  type StringColumn,
} from './columns.ts';
import type { Dimension, DimensionType, TableDefinition } from './definition.ts';
import type { HistogramColumn } from './histogram.ts';
import { ID_OTHER, Interner } from './interner.ts';
import { KeyIndex } from './keys.ts';

const STRINGS_MAX = 1 << 20;
const EVENTS_MIN = 64;

/** Least and greatest value of each type. */
const RANGES: Readonly<Record<Exclude<DimensionType, 'string'>, readonly [number, number]>> = {
  u8: [0, 0xff],
  u16: [0, 0xffff],
  u32: [0, 0xffffffff],
  i32: [-0x80000000, 0x7fffffff],
  u64: [0, Number.MAX_SAFE_INTEGER],
};

export interface FoldOptions {
  /** Instead of the definition's. */
  readonly rows_max?: number;
  /** Distinct strings of an interval; what comes after becomes `<other>`. */
  readonly strings_max?: number;
}

/** Since the fold was made. `added = closed + folded + dropped + rows` at any time. */
export interface FoldCounts {
  /** Calls of `add`, and rows of merged batches. */
  readonly added: number;
  /** Rows that left in batches. */
  readonly closed: number;
  /** Adds that joined a row that was there. */
  readonly folded: number;
  /** Adds that went to the overflow row. Nothing of them is lost but the key. */
  readonly overflowed: number;
  /** Events beyond `rows_max`: these are lost. */
  readonly dropped: number;
  /** Values that left the exact range and were held at 2^53 - 1. */
  readonly saturated: number;
  /** Values that a u64 or a histogram cannot hold (negative, infinite): left out. */
  readonly invalid: number;
  /** Strings that became `<other>`. */
  readonly strings_refused: number;
  /** Strings that were cut, or were no Unicode. */
  readonly strings_mended: number;
}

/**
 * Folds rows of one table. One per thread, never shared.
 *
 * ```ts
 * const fold = new Fold(definition);
 * dims[0] = fold.intern('nginx');
 * dims[1] = 443;
 * measures[0] = 1500;
 * fold.add(dims, measures);
 * const batch = fold.close(Date.now());
 * ```
 */
export class Fold {
  readonly definition: TableDefinition;
  readonly rows_max: number;
  readonly #interner: Interner;
  readonly #keys: KeyIndex;
  readonly #cells: Cells;
  readonly #event: boolean;
  /** The key of the overflow row. */
  readonly #other: Float64Array;
  /** Events only: when each was, 0 for the time of `close`. */
  #times: Float64Array;
  #added = 0;
  #closed = 0;
  #folded = 0;
  #overflowed = 0;
  #dropped = 0;

  constructor(def: TableDefinition, options: FoldOptions = {}) {
    this.definition = def;
    this.rows_max = options.rows_max ?? def.rows_max;
    const strings = def.dimensions.filter(({ type }) => type === 'string').length;
    const strings_max = options.strings_max ?? Math.min(this.rows_max * strings + 2, STRINGS_MAX);
    this.#interner = new Interner(strings_max);
    this.#keys = new KeyIndex(def);
    this.#cells = new Cells(def.measures);
    this.#event = def.kind === 'event';
    this.#times = new Float64Array(this.#event ? EVENTS_MIN : 0);
    this.#other = Float64Array.from(def.dimensions, ({ type }) =>
      type === 'string' ? ID_OTHER : 0,
    );
  }

  /** Rows held now, the overflow row included. */
  get rows(): number {
    return this.#keys.rows;
  }

  /** Changes whenever ids from `intern` lose their meaning; only `close` does that. */
  get epoch(): number {
    return this.#interner.epoch;
  }

  get counts(): FoldCounts {
    return {
      added: this.#added,
      closed: this.#closed,
      folded: this.#folded,
      overflowed: this.#overflowed,
      dropped: this.#dropped,
      saturated: this.#cells.saturated,
      invalid: this.#cells.invalid,
      strings_refused: this.#interner.refused,
      strings_mended: this.#interner.mended,
    };
  }

  /** Number that stands for a string in `dims`; good until `epoch` changes. */
  intern(text: string): number {
    return this.#interner.intern(text);
  }

  /**
   * Adds one row: a number per dimension (ids of `intern` for strings, whole numbers below 2^53 else) and one per
   * measure (NaN: nothing observed). `time_ms` is for events; 0 stands for the time of `close`.
   * False if there was no room for a row of its own: a fold row goes to the overflow row, an event is dropped. Both
   * are counted. A dimension out of its type's range throws: the decoder is wrong.
   */
  add(dims: Float64Array, measures: Float64Array, time_ms = 0): boolean {
    const overflowed = this.#overflowed;
    const row = this.addRow(dims, measures, time_ms);
    return row >= 0 && this.#overflowed === overflowed;
  }

  /** As `add`, but says the row, or -1 for a dropped event: `merge.ts` adds buckets to it. */
  addRow(dims: Float64Array, measures: Float64Array, time_ms: number): number {
    this.#added += 1;
    const row = this.#event ? this.#append(dims, time_ms) : this.#rowOf(dims);
    if (row >= 0) this.#cells.apply(row, measures);
    return row;
  }

  /** The buckets of a row's histogram measure, whose sum grows by `sum`. */
  bucketsOf(row: number, measure: number, sum: number): HistogramColumn {
    return this.#cells.applyBuckets(row, measure, sum);
  }

  /**
   * Ends the interval: its rows as a batch, undefined if there are none. The fold is empty afterwards.
   * `time_ms`: milliseconds since 1970, the end of the interval.
   */
  close(time_ms: number): Batch | undefined {
    const rows = this.#keys.rows;
    if (rows === 0) return undefined;
    const def = this.definition;
    const remap = new Int32Array(this.#interner.size);
    const batch: Batch = {
      definition: def,
      rows,
      times_ms: this.#closeTimes(rows, time_ms),
      dimensions: def.dimensions.map((dimension, i) => this.#column(dimension, i, remap)),
      measures: def.measures.map((_, i) => this.#cells.column(i, rows)),
    };
    this.#closed += rows;
    this.#keys.clear();
    this.#cells.clear(rows);
    this.#interner.renew();
    return batch;
  }

  #rowOf(dims: Float64Array): number {
    const found = this.#keys.find(dims);
    if (found >= 0) {
      this.#folded += 1;
      return found;
    }
    this.#check(dims);
    if (this.#keys.rows < this.rows_max) return this.#open(dims);
    this.#overflowed += 1;
    const other = this.#keys.find(this.#other);
    if (other < 0) return this.#open(this.#other);
    this.#folded += 1;
    return other;
  }

  #open(dims: Float64Array): number {
    const row = this.#keys.insert(dims);
    this.#cells.open(row);
    return row;
  }

  #append(dims: Float64Array, time_ms: number): number {
    this.#check(dims);
    if (this.#keys.rows >= this.rows_max) {
      this.#dropped += 1;
      return -1;
    }
    const row = this.#keys.append(dims);
    this.#cells.open(row);
    if (row >= this.#times.length) {
      const times = new Float64Array(this.#times.length * 2);
      times.set(this.#times);
      this.#times = times;
    }
    this.#times[row] = time_ms;
    return row;
  }

  /** Only new keys come here, so a known key pays nothing for it. */
  #check(dims: Float64Array): void {
    const { name, dimensions } = this.definition;
    for (let i = 0; i < dimensions.length; i += 1) {
      const value = dims[i]!;
      const { type, name: column } = dimensions[i]!;
      const least = type === 'string' ? 0 : RANGES[type][0];
      const most = type === 'string' ? this.#interner.size - 1 : RANGES[type][1];
      if (Number.isInteger(value) && value >= least && value <= most) continue;
      throw new Error(`table "${name}", column "${column}": ${value} is no ${type}`);
    }
  }

  #closeTimes(rows: number, time_ms: number): Float64Array {
    if (!this.#event) return new Float64Array(rows).fill(time_ms);
    const times = this.#times.slice(0, rows);
    for (let row = 0; row < rows; row += 1) if (times[row] === 0) times[row] = time_ms;
    if (this.#times.length > EVENTS_MIN && rows * 8 < this.#times.length) {
      this.#times = new Float64Array(this.#times.length / 2);
    }
    return times;
  }

  #column({ type }: Dimension, position: number, remap: Int32Array): DimensionColumn {
    if (type === 'string') return this.#stringColumn(position, remap);
    const { rows, keys } = this.#keys;
    const width = this.definition.dimensions.length;
    const values = numberArray(type, rows);
    for (let row = 0; row < rows; row += 1) values[row] = keys[row * width + position]!;
    return { values } satisfies NumberColumn;
  }

  /** `remap` is scratch: 1 + the place in the dictionary, by id. */
  #stringColumn(position: number, remap: Int32Array): StringColumn {
    const { rows, keys } = this.#keys;
    const width = this.definition.dimensions.length;
    const ids = new Int32Array(rows);
    const dictionary: string[] = [];
    remap.fill(0);
    for (let row = 0; row < rows; row += 1) {
      const id = keys[row * width + position]!;
      if (remap[id] === 0) remap[id] = dictionary.push(this.#interner.text(id));
      ids[row] = remap[id]! - 1;
    }
    return { ids, dictionary };
  }
}
