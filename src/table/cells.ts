// The measures of a fold: one row of doubles per key, so that a row's cells share cache lines, and the histograms
// beside them. `apply` is the inner loop of the whole system.

import type { MeasureColumn } from './columns.ts';
import type { Measure } from './definition.ts';
import { HistogramColumn } from './histogram.ts';

/** Every whole number up to here is a double of its own: sums below are exact. */
const EXACT_MAX = Number.MAX_SAFE_INTEGER;
const ROWS_MIN = 64;

// How a cell folds. Numbers, since a switch over small numbers is a jump.
const SUM_WHOLE = 0;
const SUM_REAL = 1;
const MIN = 2;
const MAX = 3;
const LAST = 4;
const MEAN = 5;
const HISTOGRAM = 6;

export class Cells {
  /** Per measure: how it folds, where its cell stands in the row, whether it is u64, which measure weighs it. */
  readonly #folds: Uint8Array;
  readonly #positions: Int32Array;
  readonly #whole: Uint8Array;
  readonly #weights: Int32Array;
  readonly #histograms: readonly HistogramColumn[];
  /** The cells of a new row: 0 for sums, NaN where nothing was observed. */
  readonly #blank: Float64Array;
  readonly #width: number;
  #cells: Float64Array;
  /** Values that left the exact range and were held at 2^53 - 1. */
  saturated = 0;
  /** Values that a u64 or a histogram cannot hold (negative, infinite): left out. */
  invalid = 0;

  constructor(measures: readonly Measure[]) {
    this.#folds = Uint8Array.from(measures, foldCode);
    this.#whole = Uint8Array.from(measures, ({ type }) => (type === 'u64' ? 1 : 0));
    this.#weights = Int32Array.from(measures, ({ weight }) =>
      measures.findIndex(({ name }) => name === weight),
    );
    this.#histograms = measures.map(({ scale }) => new HistogramColumn(scale));
    const blank: number[] = [];
    this.#positions = Int32Array.from(measures, ({ fold }) => {
      const position = blank.length;
      if (fold === 'mean') blank.push(0, 0);
      else blank.push(fold === 'sum' || fold === 'histogram' ? 0 : Number.NaN);
      return position;
    });
    this.#blank = Float64Array.from(blank);
    this.#width = blank.length;
    this.#cells = new Float64Array(ROWS_MIN * this.#width);
  }

  /** Makes a row blank; rows come in order. */
  open(row: number): void {
    const width = this.#width;
    if ((row + 1) * width > this.#cells.length) {
      const cells = new Float64Array(this.#cells.length * 2);
      cells.set(this.#cells);
      this.#cells = cells;
    }
    const base = row * width;
    for (let i = 0; i < width; i += 1) this.#cells[base + i] = this.#blank[i]!;
  }

  /** Folds one value per measure into a row; NaN folds nothing. */
  apply(row: number, values: Float64Array): void {
    const cells = this.#cells;
    const folds = this.#folds;
    const positions = this.#positions;
    const whole = this.#whole;
    const base = row * this.#width;
    for (let i = 0; i < folds.length; i += 1) {
      const value = values[i]!;
      if (!(value >= 0 && value <= EXACT_MAX)) {
        if (Number.isNaN(value)) continue;
        if (whole[i] === 1) {
          this.#outside(row, i, value);
          continue;
        }
      }
      const at = base + positions[i]!;
      switch (folds[i]) {
        case SUM_WHOLE:
          cells[at]! += value;
          if (cells[at]! > EXACT_MAX) this.#saturate(at);
          break;
        case SUM_REAL:
          cells[at]! += value;
          break;
        case MIN:
          if (!(cells[at]! <= value)) cells[at] = value;
          break;
        case MAX:
          if (!(cells[at]! >= value)) cells[at] = value;
          break;
        case LAST:
          cells[at] = value;
          break;
        case MEAN:
          this.#mean(at, value, values[this.#weights[i]!]!);
          break;
        default:
          this.#observe(row, i, at, value);
      }
    }
  }

  /** Adds buckets that another fold has counted; `sum` is the sum of their values. */
  applyBuckets(row: number, measure: number, sum: number): HistogramColumn {
    this.#cells[row * this.#width + this.#positions[measure]!]! += sum;
    return this.#histograms[measure]!;
  }

  column(measure: number, rows: number): MeasureColumn {
    const cells = this.#cells;
    const width = this.#width;
    const values = new Float64Array(rows);
    let at = this.#positions[measure]!;
    const fold = this.#folds[measure];
    for (let row = 0; row < rows; row += 1) {
      values[row] = fold === MEAN ? meanOf(cells[at]!, cells[at + 1]!) : cells[at]!;
      at += width;
    }
    if (fold === HISTOGRAM) return this.#histograms[measure]!.toData(rows, values);
    if (fold === MEAN && this.#whole[measure] === 1) roundAll(values);
    return { values };
  }

  /** Forgets all rows; gives memory back if the last use took less than an eighth. */
  clear(rows: number): void {
    const room = this.#cells.length / Math.max(this.#width, 1);
    if (room > ROWS_MIN && rows * 8 < room) this.#cells = new Float64Array(this.#cells.length / 2);
    for (let i = 0; i < this.#folds.length; i += 1) {
      if (this.#folds[i] === HISTOGRAM) this.#histograms[i]!.clear();
    }
  }

  #mean(at: number, value: number, weight: number): void {
    if (!(weight > 0)) return;
    this.#cells[at]! += value * weight;
    this.#cells[at + 1]! += weight;
  }

  #observe(row: number, measure: number, at: number, value: number): void {
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) {
      this.invalid += 1;
      return;
    }
    this.#cells[at]! += value;
    this.#histograms[measure]!.add(row, value);
  }

  #saturate(at: number): void {
    this.#cells[at] = EXACT_MAX;
    this.saturated += 1;
  }

  /** A u64 measure got what no exact u64 is: too large is held at the limit, negative is left out. */
  #outside(row: number, measure: number, value: number): void {
    if (value < 0) {
      this.invalid += 1;
      return;
    }
    this.saturated += 1;
    const at = row * this.#width + this.#positions[measure]!;
    const fold = this.#folds[measure];
    if (fold === HISTOGRAM) this.#observe(row, measure, at, EXACT_MAX);
    else if (fold === MEAN) this.invalid += 1;
    else if (fold !== MIN || Number.isNaN(this.#cells[at]!)) this.#cells[at] = EXACT_MAX;
  }
}

function foldCode({ fold, type }: Measure): number {
  switch (fold) {
    case 'sum':
      return type === 'u64' ? SUM_WHOLE : SUM_REAL;
    case 'min':
      return MIN;
    case 'max':
      return MAX;
    case 'last':
      return LAST;
    case 'mean':
      return MEAN;
    case 'histogram':
      return HISTOGRAM;
  }
}

/** Not 0 / 0 for no weight: that is a NaN with other bits than the one that is decoded. */
function meanOf(sum: number, weight: number): number {
  return weight > 0 ? sum / weight : Number.NaN;
}

function roundAll(values: Float64Array): void {
  for (let i = 0; i < values.length; i += 1) values[i] = Math.round(values[i]!);
}
