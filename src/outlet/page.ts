// docs/metrics.md: every metric of both pages, from the definitions that fill them.

import type { TableDefinition } from '../table/definition.ts';
import { metricNames } from './naming.ts';
import { labelsOf, type MetricHead } from './prometheus.ts';
import type { TfoMetric } from './tfo.ts';

export interface MetricsPage {
  readonly tables: readonly TableDefinition[];
  readonly tfo: readonly TfoMetric[];
  /** What a page says of itself, beside the tables. */
  readonly own: readonly MetricHead[];
}

const INTRODUCTION = `# Metrics

Written by \`npm run docs\` from the tables' definitions and from \`src/outlet/tfo.ts\`; change them there.

There are two pages. The reducer (\`sonde run\`, \`sonde reducer\`) shows what all collectors sent, at \`reducer.metrics\`
(127.0.0.1:8888). The agent (\`sonde start\`) shows what its own collector saw, at \`agent.metrics\` (:8888). Counters count from
the start of the process that shows them. Label sets have a limit; what is beyond it has the value \`<other>\` in every label
and is counted, so that sums stay right. An empty label is left out, and so is a counter at 0, but for tables without
dimensions. A histogram has \`_bucket\`, \`_sum\` and \`_count\`, a summary \`_sum\` (values times their weight) and \`_count\` (the weight).
`;

export function metricsPage({ tables, tfo, own }: MetricsPage): string {
  const shown = tables.filter(({ kind }) => kind !== 'event');
  const parts = [
    INTRODUCTION,
    tfoPart(tfo, tables),
    '## The reducer, and the agent on itself\n',
    'Each series has the label `host` as well. The agent shows those of `sonde_` tables.\n',
    ...shown.map(tablePart),
    '### About the page and the process that shows it\n',
    metricTable(own.map(({ name, type, help }) => [name, type, '', help])),
  ];
  return `${parts.join('\n')}`;
}

function tfoPart(metrics: readonly TfoMetric[], tables: readonly TableDefinition[]): string {
  const known = new Set(tables.map(({ name }) => name));
  const lines = metrics.map(({ name, type, help, unit, rows, collector }) => {
    const labels = Object.keys(rows[0]?.labels ?? {});
    const from = [...new Set(rows.map(({ table }) => table))];
    const missing = from.some((table) => !known.has(table)) ? '; no source yet' : '';
    const meaning = `${help}${unit === '1' ? '' : ` (${unit})`}`;
    const source = `from \`${from.join(', ')}\`${missing}`;
    return [name, type, labels.join(', '), `${meaning}; ${source} (${collector})`] as const;
  });
  const head =
    'Names, labels and units are those of the agent that the document describes. In brackets at the end: the sub-collector.\n';
  return `## The agent: tfo_ebpf\n\n${head}\n${metricTable(lines)}`;
}

function tablePart(def: TableDefinition): string {
  const labels = labelsOf(def);
  const rows = metricNames(def).map(({ name, type, help }) => [name, type, '', help] as const);
  const all = labels.length === 0 ? 'none' : labels.map((name) => `\`${name}\``).join(', ');
  const words = wrapped(`${sentence(def.help)}. Labels: ${all}.`);
  return `### ${def.name}\n\n${words}\n\n${metricTable(rows)}`;
}

type Line = readonly [name: string, type: string, labels: string, help: string];

function metricTable(lines: readonly Line[]): string {
  const labelled = lines.some(([, , labels]) => labels !== '');
  const head = labelled ? '| metric | type | labels | meaning |' : '| metric | type | meaning |';
  const rule = labelled ? '|---|---|---|---|' : '|---|---|---|';
  const rows = lines.map(([name, type, labels, help]) => {
    const cells = labelled ? [`\`${name}\``, type, labels, help] : [`\`${name}\``, type, help];
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  });
  return `${[head, rule, ...rows].join('\n')}\n`;
}

const WIDTH = 120;

function wrapped(text: string): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? '';
    if (last !== '' && last.length + word.length >= WIDTH) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines.join('\n');
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Every series name that a page may show, for checks of what asks for them: dashboards, alert rules. */
export function seriesNames({ tables, tfo, own }: MetricsPage): ReadonlySet<string> {
  const plain = [...tfo, ...own, ...tables.flatMap((def) => metricNames(def))];
  return new Set(
    plain.flatMap(({ name, type }) => {
      if (type === 'histogram') return ['_bucket', '_sum', '_count'].map((end) => name + end);
      return type === 'summary' ? [`${name}_sum`, `${name}_count`] : [name];
    }),
  );
}
