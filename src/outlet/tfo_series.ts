// What the document's metrics show: sums since the start by labels, and means of the last interval. Label values come
// from strangers, and processes come and go: series have a limit, and those of processes that ended go.

import type { Batch, MeasureColumn } from '../table/columns.ts';
import { isHistogramColumn, isStringColumn } from '../table/columns.ts';
import type { TableDefinition, Unit } from '../table/definition.ts';
import type { PrometheusOutlet } from './prometheus.ts';
import { mended, OTHER, type SeriesCounts } from './series.ts';
import type { TfoMetric, TfoRows } from './tfo.ts';

export interface TfoLimits {
  /** Label sets of each metric; what comes after goes to one series and is counted. */
  readonly series_max: number;
  /** A series that had no row for so long goes if its process has ended. */
  readonly idle_ms: number;
  /** Whether a process of this number runs. */
  readonly isAlive: (pid: string) => boolean;
}

const SERIES_MAX_DEFAULT = 5000;
/** Longer than any scrape interval: the last values of a process that ended have been read. */
const IDLE_MS_DEFAULT = 300_000;

const NANOSECONDS: Readonly<Partial<Record<Unit, number>>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 };

interface Series {
  readonly labels: Readonly<Record<string, string>>;
  value: number;
  weight: number;
  used_ms: number;
}

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export class TfoOutlet {
  readonly counts: SeriesCounts = { overflowed: 0, evicted: 0, mended: 0 };
  readonly #metrics: readonly TfoSeries[];

  /** Adds the metrics to a page. `tables`: those that batches may be of. */
  constructor(
    page: PrometheusOutlet,
    metrics: readonly TfoMetric[],
    tables: readonly TableDefinition[],
    limits: Partial<TfoLimits> = {},
  ) {
    const whole = {
      series_max: limits.series_max ?? SERIES_MAX_DEFAULT,
      idle_ms: limits.idle_ms ?? IDLE_MS_DEFAULT,
      isAlive: limits.isAlive ?? (() => true),
    };
    this.#metrics = metrics.map((metric) => new TfoSeries(metric, tables, whole, this.counts));
    for (const [i, { name, help, type }] of metrics.entries()) {
      page.register(name, help, type, () => this.#metrics[i]!.samples());
    }
    this.#registerOwn(page);
  }

  add(batch: Batch, now_ms: number): void {
    for (const metric of this.#metrics) metric.add(batch, now_ms);
  }

  /** Series of processes that ended go. */
  expire(now_ms: number): void {
    for (const metric of this.#metrics) metric.expire(now_ms);
  }

  #registerOwn(page: PrometheusOutlet): void {
    const rows = [
      ['series', 'gauge', 'Label sets of tfo_ebpf metrics on this page', () => this.#size()],
      [
        'rows_overflowed_total',
        'counter',
        'Rows beyond the limit of label sets: in the series with labels <other>',
        () => this.counts.overflowed,
      ],
      [
        'series_evicted_total',
        'counter',
        'Label sets of processes that ended',
        () => this.counts.evicted,
      ],
    ] as const;
    for (const [name, type, help, value] of rows) {
      page.register(`sonde_tfo_${name}`, help, type, () => [{ labels: {}, value: value() }]);
    }
  }

  #size(): number {
    return this.#metrics.reduce((sum, metric) => sum + metric.size, 0);
  }
}

/** Reads rows of one table: which count, under which labels, with which value. */
interface Reader {
  readonly table: string;
  labels(batch: Batch): (row: number) => string[] | undefined;
  values(batch: Batch): (row: number) => { readonly value: number; readonly weight: number };
}

class TfoSeries {
  readonly #metric: TfoMetric;
  readonly #limits: TfoLimits;
  readonly #counts: SeriesCounts;
  readonly #readers: readonly Reader[];
  readonly #names: readonly string[];
  readonly #series = new Map<string, Series>();
  #overflow: Series | undefined;

  constructor(
    metric: TfoMetric,
    tables: readonly TableDefinition[],
    limits: TfoLimits,
    counts: SeriesCounts,
  ) {
    this.#metric = metric;
    this.#limits = limits;
    this.#counts = counts;
    this.#names = Object.keys(metric.rows[0]?.labels ?? {});
    this.#readers = metric.rows.flatMap((rows) => {
      const def = tables.find(({ name }) => name === rows.table);
      return def === undefined ? [] : [readerOf(metric, rows, def, counts)];
    });
  }

  get size(): number {
    return this.#series.size;
  }

  *samples(): Generator<Sample> {
    const all = [...this.#series.values(), ...(this.#overflow ? [this.#overflow] : [])];
    for (const { labels, value, weight } of all) {
      if (this.#metric.type === 'counter') yield { labels, value };
      else if (weight > 0) yield { labels, value: value / weight };
    }
  }

  add(batch: Batch, now_ms: number): void {
    for (const reader of this.#readers) {
      if (reader.table !== batch.definition.name) continue;
      if (this.#metric.type === 'gauge') this.#forgetMeans();
      const labels = reader.labels(batch);
      const values = reader.values(batch);
      for (let row = 0; row < batch.rows; row += 1) {
        const { value, weight } = values(row);
        if (!(value > 0)) continue; // also NaN: nothing was observed
        const texts = labels(row);
        if (texts !== undefined) this.#addTo(this.#find(texts), value, weight, now_ms);
      }
    }
  }

  expire(now_ms: number): void {
    const { idle_ms, isAlive } = this.#limits;
    for (const [key, { labels, used_ms }] of this.#series) {
      if (now_ms - used_ms < idle_ms || labels.pid === undefined || isAlive(labels.pid)) continue;
      this.#series.delete(key);
      this.#counts.evicted += 1;
    }
  }

  #addTo(series: Series, value: number, weight: number, now_ms: number): void {
    series.value += value;
    series.weight += weight;
    series.used_ms = now_ms;
  }

  #forgetMeans(): void {
    const all = [...this.#series.values(), ...(this.#overflow ? [this.#overflow] : [])];
    for (const series of all) {
      series.value = 0;
      series.weight = 0;
    }
  }

  #find(texts: readonly string[]): Series {
    const key = texts.join('\u0000');
    const known = this.#series.get(key);
    if (known !== undefined) return known;
    if (this.#series.size >= this.#limits.series_max) {
      this.#counts.overflowed += 1;
      this.#overflow ??= this.#make(texts.map(() => OTHER));
      return this.#overflow;
    }
    const series = this.#make(texts);
    this.#series.set(key, series);
    return series;
  }

  #make(texts: readonly string[]): Series {
    const labels = Object.fromEntries(this.#names.map((name, i) => [name, texts[i]!]));
    return { labels, value: 0, weight: 0, used_ms: 0 };
  }
}

function readerOf(
  metric: TfoMetric,
  rows: TfoRows,
  def: TableDefinition,
  counts: SeriesCounts,
): Reader {
  const columns = Object.values(rows.labels);
  return {
    table: rows.table,
    labels: (batch) => {
      const passes = Object.entries(rows.where ?? {}).map(([name, wanted]) => {
        const text = textsOf(batch, name, counts);
        return (row: number) => text(row) === wanted;
      });
      const texts = columns.map((one) => {
        if (typeof one === 'string') return textsOf(batch, one, counts);
        const text = textsOf(batch, one.column, counts);
        return (row: number) => one.values[text(row)] ?? text(row);
      });
      return (row) =>
        passes.every((passed) => passed(row)) ? texts.map((text) => text(row)) : undefined;
    },
    values: (batch) => {
      const add = rows.add.map((name) => measureOf(batch, def, name, metric, rows));
      const minus = (rows.minus ?? []).map((name) => measureOf(batch, def, name, metric, rows));
      return (row) => {
        const parts = add.map((read) => read(row));
        const less = minus.reduce((sum, read) => sum + read(row).value, 0);
        return {
          value: parts.reduce((sum, { value }) => sum + value, 0) - less,
          weight: parts.reduce((sum, { weight }) => sum + weight, 0),
        };
      };
    },
  };
}

function textsOf(batch: Batch, name: string, counts: SeriesCounts): (row: number) => string {
  const column = batch.dimensions[batch.definition.dimensions.findIndex((d) => d.name === name)];
  if (column === undefined) return () => '';
  if (!isStringColumn(column)) return (row) => String(column.values[row]);
  const texts = column.dictionary.map((text) => mended(text, counts));
  return (row) => texts[column.ids[row]!] ?? '';
}

type Value = (row: number) => { readonly value: number; readonly weight: number };

const NOTHING: Value = () => ({ value: 0, weight: 0 });

/** A mean and a histogram have a weight; of a mean the value is times its weight. */
function measureOf(
  batch: Batch,
  def: TableDefinition,
  name: string,
  metric: TfoMetric,
  { observations = false }: TfoRows,
): Value {
  const index = def.measures.findIndex((measure) => measure.name === name);
  const measure = def.measures[index];
  const column: MeasureColumn | undefined = batch.measures[index];
  if (measure === undefined || column === undefined) return NOTHING;
  const factor = metric.unit === 'ns' && !observations ? (NANOSECONDS[measure.unit] ?? 1) : 1;
  if (isHistogramColumn(column)) {
    return (row) => {
      const { offsets, counts, sums } = column;
      const weight = counts.subarray(offsets[row]!, offsets[row + 1]!).reduce((a, b) => a + b, 0);
      return { value: observations ? weight : sums[row]! * factor, weight };
    };
  }
  const weights = batch.measures[def.measures.findIndex((one) => one.name === measure.weight)];
  const weigh = weights === undefined || isHistogramColumn(weights) ? undefined : weights.values;
  return (row) => {
    const value = column.values[row]! * factor;
    const weight = weigh?.[row] ?? 1;
    return { value: weigh === undefined ? value : value * weight, weight };
  };
}
