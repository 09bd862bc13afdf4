// Everything that one table shows at /metrics: sums since the start by a bounded set of labels. Label values come from
// strangers (process names, domains), so their number and length have limits, and what a limit turned away is counted.

import {
  type Batch,
  type DimensionColumn,
  isHistogramColumn,
  isStringColumn,
  type MeasureColumn,
} from '../table/columns.ts';
import { SCALE_DEFAULT, type TableDefinition } from '../table/definition.ts';
import { bucketExponents, type MetricName, metricNames } from './naming.ts';

/** What stands for every label of the rows that found no place. */
export const OTHER = '<other>';

export const LABEL_LENGTH_MAX = 256;

export interface Cumulative {
  /** One a bucket bound, then the rest. Not cumulative yet: that is done at exposition. */
  readonly counts: Float64Array;
  sum: number;
}

export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  /** By measure; NaN where nothing was observed yet. For a summary, value times weight. */
  readonly values: Float64Array;
  /** By measure; the weight of a summary. */
  readonly weights: Float64Array;
  readonly histograms: (Cumulative | undefined)[];
  used_ms: number;
}

export interface SeriesLimits {
  readonly series_max: number;
  /** A series that had no row for so long makes place for a new one, when there is no other. */
  readonly idle_ms: number;
}

/** Counts since the start. */
export interface SeriesCounts {
  /** Rows that went to the overflow series. */
  overflowed: number;
  /** Series that were idle and made place. */
  evicted: number;
  /** Label values that were cut or were no Unicode. */
  mended: number;
}

/** How often at most idle series are looked for. */
const SWEEP_MS = 10_000;

export class SeriesTable {
  readonly definition: TableDefinition;
  readonly metrics: readonly MetricName[];
  readonly counts: SeriesCounts = { overflowed: 0, evicted: 0, mended: 0 };
  readonly #labels: readonly string[];
  readonly #limits: SeriesLimits;
  readonly #series = new Map<string, Series>();
  readonly #bounds: readonly (readonly number[])[];
  #overflow: Series | undefined;
  #swept_ms = 0;

  constructor(def: TableDefinition, labels: readonly string[], limits: SeriesLimits) {
    this.definition = def;
    this.metrics = metricNames(def);
    this.#labels = labels;
    this.#limits = limits;
    this.#bounds = def.measures.map(({ fold, unit }) =>
      fold === 'histogram' ? bucketExponents(unit) : [],
    );
  }

  get size(): number {
    return this.#series.size;
  }

  /** Exponents of the bucket bounds of a measure. */
  bounds(measure: number): readonly number[] {
    return this.#bounds[measure]!;
  }

  *series(): Generator<Series> {
    yield* this.#series.values();
    if (this.#overflow !== undefined) yield this.#overflow;
  }

  /** Adds rows of this table; columns are found by name, so that an enriched batch fits as well. */
  add(batch: Batch, host: string, now_ms: number): void {
    const { dimensions } = batch.definition;
    const columns = this.#labels.map((label) => {
      const index = dimensions.findIndex(({ name }) => name === label);
      return labelColumn(index < 0 ? undefined : batch.dimensions[index], this.counts);
    });
    const first = this.#mend(host);
    const texts = new Array<string>(columns.length);
    for (let row = 0; row < batch.rows; row += 1) {
      for (let i = 0; i < columns.length; i += 1) texts[i] = columns[i]!(row);
      const series = this.#find(first, texts, now_ms);
      series.used_ms = now_ms;
      this.#addRow(series, batch, row);
    }
  }

  #mend(text: string): string {
    return mended(text, this.counts);
  }

  #find(host: string, texts: readonly string[], now_ms: number): Series {
    const key = `${host}\u0000${texts.join('\u0000')}`;
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    if (this.#series.size >= this.#limits.series_max) this.#sweep(now_ms);
    if (this.#series.size >= this.#limits.series_max) {
      this.counts.overflowed += 1;
      this.#overflow ??= this.#make(
        OTHER,
        this.#labels.map(() => OTHER),
      );
      return this.#overflow;
    }
    const series = this.#make(host, texts);
    this.#series.set(key, series);
    return series;
  }

  #make(host: string, texts: readonly string[]): Series {
    const count = this.definition.measures.length;
    return {
      labels: Object.fromEntries([
        ['host', host],
        ...this.#labels.map((label, i) => [label, texts[i]!] as const),
      ]),
      values: new Float64Array(count).fill(Number.NaN),
      weights: new Float64Array(count),
      histograms: new Array(count),
      used_ms: 0,
    };
  }

  #sweep(now_ms: number): void {
    if (now_ms - this.#swept_ms < SWEEP_MS) return;
    this.#swept_ms = now_ms;
    for (const [key, series] of this.#series) {
      if (now_ms - series.used_ms < this.#limits.idle_ms) continue;
      this.#series.delete(key);
      this.counts.evicted += 1;
    }
  }

  #addRow(series: Series, batch: Batch, row: number): void {
    const { measures } = this.definition;
    for (let i = 0; i < measures.length; i += 1) {
      const column = batch.measures[i];
      if (column === undefined) continue;
      if (isHistogramColumn(column)) this.#addHistogram(series, i, column, row);
      else this.#addValue(series, i, column.values[row]!, batch, row);
    }
  }

  #addValue(series: Series, i: number, value: number, batch: Batch, row: number): void {
    if (Number.isNaN(value)) return;
    const { values, weights } = series;
    const before = Number.isNaN(values[i]!) ? 0 : values[i]!;
    const { fold, weight } = this.definition.measures[i]!;
    if (fold === 'sum') {
      // A series that never had any is left out, which keeps the page a fifth of its size; without
      // dimensions there is but one, and a count that is absent cannot be told from one of another version.
      if (value > 0 || this.definition.dimensions.length === 0) values[i] = before + value;
    } else if (fold === 'mean') {
      const by = this.#weight(batch, weight, row);
      values[i] = before + value * by;
      weights[i]! += by;
    } else {
      values[i] = value;
    }
  }

  #weight(batch: Batch, weight: string | undefined, row: number): number {
    const index = this.definition.measures.findIndex(({ name }) => name === weight);
    const column: MeasureColumn | undefined = batch.measures[index];
    return column === undefined || isHistogramColumn(column) ? 0 : column.values[row]!;
  }

  #addHistogram(
    series: Series,
    i: number,
    column: Extract<MeasureColumn, { offsets: Int32Array }>,
    row: number,
  ): void {
    const from = column.offsets[row]!;
    const to = column.offsets[row + 1]!;
    if (from === to) return;
    const bounds = this.#bounds[i]!;
    series.histograms[i] ??= { counts: new Float64Array(bounds.length + 1), sum: 0 };
    const histogram = series.histograms[i];
    const scale = column.scale ?? SCALE_DEFAULT;
    for (let at = from; at < to; at += 1) {
      histogram.counts[boundOf(bounds, column.buckets[at]!, scale)]! += column.counts[at]!;
    }
    histogram.sum += column.sums[row]!;
  }
}

/** The first bound that is not below the bucket; bounds and buckets are powers of one base, so this is exact. */
function boundOf(bounds: readonly number[], bucket: number, scale: number): number {
  const exponent = (bucket + 1) * 2 ** -scale;
  let at = 0;
  while (at < bounds.length && bounds[at]! < exponent) at += 1;
  return at;
}

type LabelColumn = (row: number) => string;

/** Each text of a dictionary is mended once, not once a row. */
function labelColumn(column: DimensionColumn | undefined, counts: SeriesCounts): LabelColumn {
  if (column === undefined) return () => '';
  if (!isStringColumn(column)) {
    const { values } = column;
    return (row) => String(values[row]);
  }
  const texts = column.dictionary.map((text) => mended(text, counts));
  return (row) => texts[column.ids[row]!] ?? '';
}

/** Cut, and Unicode, as a label has to be. */
export function mended(text: string, counts: SeriesCounts): string {
  const fits = text.length <= LABEL_LENGTH_MAX;
  if (fits && text.isWellFormed() && !text.includes('\u0000')) return text;
  counts.mended += 1;
  const cut = fits ? text : text.slice(0, LABEL_LENGTH_MAX);
  return cut.toWellFormed().replaceAll('\u0000', '\ufffd');
}
