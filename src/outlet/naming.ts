// From a table's definition to Prometheus names: base units, `_total` for what only grows, and what each fold becomes.

import type { Measure, TableDefinition, Unit } from '../table/definition.ts';

export type MetricType = 'counter' | 'gauge' | 'summary' | 'histogram';

export interface MetricName {
  readonly measure: Measure;
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  /** What a stored value is multiplied with to be in the base unit. */
  readonly factor: number;
}

const BASE: Readonly<Record<Unit, { readonly suffix: string; readonly factor: number }>> = {
  '1': { suffix: '', factor: 1 },
  By: { suffix: 'bytes', factor: 1 },
  ns: { suffix: 'seconds', factor: 1e-9 },
  us: { suffix: 'seconds', factor: 1e-6 },
  ms: { suffix: 'seconds', factor: 1e-3 },
  s: { suffix: 'seconds', factor: 1 },
};

/** A weighted mean is a summary: `_sum` is value times weight, `_count` the weight, so that rates divide right. */
const TYPES = {
  sum: 'counter',
  min: 'gauge',
  max: 'gauge',
  last: 'gauge',
  mean: 'summary',
  histogram: 'histogram',
} as const;

/** `sonde_netflow_bytes_read_total`, `sonde_netflow_connect_latency_seconds`, … */
export function metricNames(def: TableDefinition): readonly MetricName[] {
  return def.measures.map((measure) => {
    const { suffix, factor } = BASE[measure.unit];
    const type = TYPES[measure.fold];
    const words = measure.name.split('_');
    const parts = [tablePrefix(def), measure.name];
    if (suffix !== '' && !words.includes(suffix)) parts.push(suffix);
    if (type === 'counter') parts.push('total');
    const unit = suffix === '' ? '' : ` (${suffix})`;
    return { measure, name: parts.join('_'), help: sentence(measure.help) + unit, type, factor };
  });
}

export function tablePrefix(def: TableDefinition): string {
  return def.name.startsWith('sonde_') ? def.name : `sonde_${def.name}`;
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Powers of two between which a histogram's buckets are drawn, by unit; their bounds are bounds of ours. */
const EXPONENTS: Readonly<Record<Unit, readonly [least: number, greatest: number, step: number]>> =
  {
    ns: [10, 36, 2],
    us: [0, 26, 2],
    ms: [-4, 16, 2],
    s: [-10, 10, 2],
    By: [6, 32, 2],
    '1': [0, 20, 2],
  };

/** Exponents of the upper bounds, ascending; `+Inf` is not among them. */
export function bucketExponents(unit: Unit): readonly number[] {
  const [least, greatest, step] = EXPONENTS[unit];
  const list: number[] = [];
  for (let exponent = least; exponent <= greatest; exponent += step) list.push(exponent);
  return list;
}
