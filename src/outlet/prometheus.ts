// The page at /metrics. Names, units and help follow from the tables' definitions; prom-client writes the text.

import { Registry } from 'prom-client';
import type { Batch } from '../table/columns.ts';
import type { TableDefinition } from '../table/definition.ts';
import type { MetricName, MetricType } from './naming.ts';
import { type Series, type SeriesLimits, SeriesTable } from './series.ts';

export interface PrometheusOptions {
  /** Label sets held for each table; what comes after goes to one overflow series and is counted. */
  readonly series_max?: number;
  readonly idle_ms?: number;
  /** Dimensions that are labels, by table; others are summed over. */
  readonly labels?: Readonly<Record<string, readonly string[]>>;
}

/** `process_executable_path`, `pid`, `cgroup_*`, `netns` and pod names multiply series and are asked of the store. */
const NETFLOW_LABELS: readonly string[] = [
  'direction',
  'transport',
  'family',
  'src_ip',
  'src_port',
  'dst_ip',
  'dst_port',
  'process_name',
  'container_id',
  'error_type',
  'dst_domain',
  'src_k8s_namespace',
  'dst_k8s_namespace',
  'src_k8s_deployment_name',
  'dst_k8s_deployment_name',
];

/** The path is a label by its template only. */
const HTTPFLOW_LABELS: readonly string[] = [
  ...NETFLOW_LABELS.filter((name) => name !== 'error_type' && name !== 'transport'),
  'method',
  'route',
  'status_code',
  'http_version',
  'tls',
];

const SERIES_MAX_DEFAULT = 5000;
const IDLE_MS_DEFAULT = 3_600_000;

/** One line of the exposition, as prom-client takes it. */
interface Sample {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly sharedLabels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What prom-client's registry needs to know of a metric; ours count for themselves. */
interface PlainMetric {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  get(): Promise<{
    readonly name: string;
    readonly help: string;
    readonly type: MetricType;
    readonly values: readonly Sample[];
  }>;
}

/** What is known of a metric before it has samples. */
export interface MetricHead {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
}

export class PrometheusOutlet {
  /** Every metric of the page, in its order. */
  readonly heads: MetricHead[] = [];
  readonly #registry = new Registry();
  readonly #tables = new Map<string, SeriesTable>();

  constructor(tables: readonly TableDefinition[], options: PrometheusOptions = {}) {
    const limits: SeriesLimits = {
      series_max: options.series_max ?? SERIES_MAX_DEFAULT,
      idle_ms: options.idle_ms ?? IDLE_MS_DEFAULT,
    };
    for (const def of tables) {
      // Events are asked of the store: each would be a series of its own.
      if (def.kind === 'event') continue;
      const labels = options.labels?.[def.name] ?? labelsOf(def);
      const table = new SeriesTable(def, labels, limits);
      this.#tables.set(def.name, table);
      for (const [i, metric] of table.metrics.entries()) {
        this.register(metric.name, metric.help, metric.type, () => samples(table, metric, i));
      }
    }
    this.#registerOwn();
  }

  get content_type(): string {
    return this.#registry.contentType;
  }

  /** Rows of a stored batch. Tables that the page does not show are ignored. */
  add(batch: Batch, host: string, now_ms: number): void {
    this.#tables.get(batch.definition.name)?.add(batch, host, now_ms);
  }

  /** Adds a metric whose samples are made when the page is asked for. */
  register(name: string, help: string, type: MetricType, read: () => Iterable<Sample>): void {
    this.heads.push({ name, help, type });
    const metric: PlainMetric = {
      name,
      help,
      type,
      get: async () => ({ name, help, type, values: [...read()] }),
    };
    // The registry only calls get(); its own classes cannot take counts that were made elsewhere.
    this.#registry.registerMetric(metric as unknown as Parameters<Registry['registerMetric']>[0]);
  }

  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  #registerOwn(): void {
    const tables = this.#tables;
    const each = (read: (table: SeriesTable) => number) =>
      function* () {
        for (const [name, table] of tables) yield { labels: { table: name }, value: read(table) };
      };
    this.register(
      'sonde_outlet_series',
      'Label sets shown on this page',
      'gauge',
      each((table) => table.size),
    );
    this.register(
      'sonde_outlet_rows_overflowed_total',
      'Rows beyond the limit of label sets: in the series with labels <other>',
      'counter',
      each((table) => table.counts.overflowed),
    );
    this.register(
      'sonde_outlet_series_evicted_total',
      'Idle label sets that made place for new ones',
      'counter',
      each((table) => table.counts.evicted),
    );
    this.register(
      'sonde_outlet_labels_mended_total',
      'Label values that were cut or were no Unicode',
      'counter',
      each((table) => table.counts.mended),
    );
  }
}

/** The dimensions that are labels, where the page is not told others. */
export function labelsOf(def: TableDefinition): readonly string[] {
  const all = [...def.dimensions, ...(def.enriched ?? [])].map(({ name }) => name);
  const chosen = new Map([
    ['netflow', NETFLOW_LABELS],
    ['httpflow', HTTPFLOW_LABELS],
  ]).get(def.name);
  return chosen?.filter((name) => all.includes(name)) ?? all.filter((name) => name !== 'host');
}

function* samples(table: SeriesTable, metric: MetricName, i: number): Generator<Sample> {
  for (const series of table.series()) {
    const sharedLabels = shown(series);
    if (metric.type === 'histogram') {
      yield* histogramSamples(table, metric, i, series);
      continue;
    }
    const value = series.values[i]! * metric.factor;
    if (Number.isNaN(value)) continue;
    if (metric.type === 'summary') {
      const weight = series.weights[i]!;
      yield { metricName: `${metric.name}_sum`, labels: {}, sharedLabels, value };
      yield { metricName: `${metric.name}_count`, labels: {}, sharedLabels, value: weight };
    } else {
      yield { labels: {}, sharedLabels, value };
    }
  }
}

function* histogramSamples(
  table: SeriesTable,
  metric: MetricName,
  i: number,
  series: Series,
): Generator<Sample> {
  const histogram = series.histograms[i];
  if (histogram === undefined) return;
  const sharedLabels = shown(series);
  const bounds = table.bounds(i);
  let count = 0;
  for (let at = 0; at <= bounds.length; at += 1) {
    count += histogram.counts[at]!;
    const le = at < bounds.length ? 2 ** bounds[at]! * metric.factor : '+Inf';
    yield { metricName: `${metric.name}_bucket`, labels: { le }, sharedLabels, value: count };
  }
  const sum = histogram.sum * metric.factor;
  yield { metricName: `${metric.name}_sum`, labels: {}, sharedLabels, value: sum };
  yield { metricName: `${metric.name}_count`, labels: {}, sharedLabels, value: count };
}

const shown_cache = new WeakMap<Series, Readonly<Record<string, string>>>();

/** To Prometheus an empty label is no label: leaving them out makes the same series shorter. */
function shown(series: Series): Readonly<Record<string, string>> {
  const known = shown_cache.get(series);
  if (known !== undefined) return known;
  const labels = Object.fromEntries(Object.entries(series.labels).filter(([, v]) => v !== ''));
  shown_cache.set(series, labels);
  return labels;
}
