// The page: names and values from definitions and batches, limits, hostile labels, and the real promtool's opinion.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { captureStats } from '../../probes/capture/stats.ts';
import { netflow } from '../../probes/netflow.ts';
import { type FlowRow, flowArrow } from '../store/testing.ts';
import { decodeBatch } from '../table/batch.ts';
import type { Batch } from '../table/columns.ts';
import { Fold } from '../table/fold.ts';
import { ledgerTable } from '../table/ledger.ts';
import { sampleTable } from '../table/testing.ts';
import { PrometheusOutlet } from './prometheus.ts';
import { installPrometheus } from './testing.ts';

const NOW = 1_700_000_000_000;

function flows(rows: readonly FlowRow[]): Batch {
  const decoded = decodeBatch(flowArrow(rows, NOW), () => netflow);
  assert.ok(decoded.ok);
  return decoded.batch;
}

const web: FlowRow = {
  direction: 'incoming',
  transport: 'tcp',
  family: 'IPv4',
  src_ip: '192.0.2.1',
  src_port: 443,
  dst_ip: '192.0.2.7',
  process_name: 'nginx',
  pid: 77,
  bytes_read: 11,
  rtt: 250,
  rtt_samples: 2,
  connect_latency: 3000,
};

const LABELS =
  'host="h",direction="incoming",transport="tcp",family="IPv4",src_ip="192.0.2.1",' +
  'src_port="443",dst_ip="192.0.2.7",dst_port="0",process_name="nginx"';

test('counters, summaries and histograms in base units, summed over what is no label', async () => {
  const outlet = new PrometheusOutlet([netflow]);
  outlet.add(flows([web, { ...web, pid: 78, bytes_read: 31 }]), 'h', NOW);
  outlet.add(flows([{ ...web, connect_latency: 100_000 }]), 'h', NOW + 10_000);
  const lines = (await outlet.text()).split('\n');
  for (const line of [
    '# HELP sonde_netflow_bytes_read_total Bytes received (bytes)',
    '# TYPE sonde_netflow_bytes_read_total counter',
    `sonde_netflow_bytes_read_total{${LABELS}} 53`,
    '# TYPE sonde_netflow_rtt_seconds summary',
    `sonde_netflow_rtt_seconds_sum{${LABELS}} 0.0015`,
    `sonde_netflow_rtt_seconds_count{${LABELS}} 6`,
    '# TYPE sonde_netflow_connect_latency_seconds histogram',
    `sonde_netflow_connect_latency_seconds_bucket{le="0.000001024",${LABELS}} 0`,
    `sonde_netflow_connect_latency_seconds_bucket{le="0.000004096",${LABELS}} 2`,
    `sonde_netflow_connect_latency_seconds_bucket{le="0.000065536",${LABELS}} 2`,
    `sonde_netflow_connect_latency_seconds_bucket{le="0.000262144",${LABELS}} 3`,
    `sonde_netflow_connect_latency_seconds_bucket{le="+Inf",${LABELS}} 3`,
    `sonde_netflow_connect_latency_seconds_sum{${LABELS}} 0.000106`,
    `sonde_netflow_connect_latency_seconds_count{${LABELS}} 3`,
  ]) {
    assert.ok(lines.includes(line), `missing: ${line}`);
  }
});

test('counters of a table without dimensions stand on the page before they count anything', async () => {
  const outlet = new PrometheusOutlet([captureStats]);
  const fold = new Fold(captureStats);
  fold.add(new Float64Array(0), new Float64Array(captureStats.measures.length));
  outlet.add(fold.close(NOW)!, 'h', NOW);
  const lines = (await outlet.text())
    .split('\n')
    .filter((line) => line.startsWith('sonde_capture'));
  assert.equal(lines.length, captureStats.measures.length);
  assert.ok(lines.every((line) => line.endsWith('{host="h"} 0')));
});

test('label sets beyond the limit go to one series and are counted; nothing of them is lost', async () => {
  const outlet = new PrometheusOutlet([netflow], { series_max: 10 });
  const rows = Array.from({ length: 30 }, (_, i) => ({ ...web, process_name: `p${i}` }));
  outlet.add(flows(rows), 'h', NOW);
  outlet.add(flows(rows), 'h', NOW);
  const text = await outlet.text();
  const values = [...text.matchAll(/^sonde_netflow_bytes_read_total\{(.*)\} (\d+)$/gm)];
  assert.equal(values.length, 11);
  assert.equal(
    values.reduce((sum, [, , value]) => sum + Number(value), 0),
    2 * 30 * 11,
  );
  assert.equal(values.at(-1)?.[2], String(2 * 20 * 11));
  assert.match(values.at(-1)?.[1] ?? '', /process_name="<other>"/);
  assert.match(text, /^sonde_outlet_rows_overflowed_total\{table="netflow"\} 40$/m);
});

test('an idle label set makes place for a new one, and says so', async () => {
  const outlet = new PrometheusOutlet([netflow], { series_max: 1, idle_ms: 1000 });
  outlet.add(flows([web]), 'h', NOW);
  outlet.add(flows([{ ...web, process_name: 'later' }]), 'h', NOW + 20_000);
  const text = await outlet.text();
  assert.doesNotMatch(text, /process_name="nginx"/);
  assert.match(text, /process_name="later"/);
  assert.match(text, /^sonde_outlet_series_evicted_total\{table="netflow"\} 1$/m);
});

const HOSTILE = [
  'quote"} 1\nfake_metric{a="',
  'back\\slash\\',
  'line\nfeed\r',
  'half \ud800 pair',
  'nul\u0000byte',
  `long ${'x'.repeat(1000)}`,
  '<other>',
  '日本語 🦀',
];

/** A batch whose process names no decoder has mended. */
function hostile(): Batch {
  const fold = new Fold(netflow);
  const dims = new Float64Array(netflow.dimensions.length);
  const measures = new Float64Array(netflow.measures.length).fill(1);
  for (const [i] of HOSTILE.entries()) {
    for (const [at, { name, type }] of netflow.dimensions.entries()) {
      dims[at] = type === 'string' ? fold.intern(name === 'process_name' ? `#${i}` : '') : 0;
    }
    fold.add(dims, measures);
  }
  const batch = fold.close(NOW);
  assert.ok(batch);
  const dimensions = batch.dimensions.map((column) =>
    'dictionary' in column
      ? { ...column, dictionary: column.dictionary.map((t) => HOSTILE[Number(t.slice(1))] ?? '') }
      : column,
  );
  const names = netflow.dimensions.findIndex(({ name }) => name === 'process_name');
  return { ...batch, dimensions: batch.dimensions.with(names, dimensions[names]!) };
}

test('hostile names stay inside their quotes', async () => {
  const outlet = new PrometheusOutlet([netflow]);
  outlet.add(hostile(), 'ho"st\n', NOW);
  const text = await outlet.text();
  assert.ok(text.isWellFormed());
  for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
    assert.match(
      line,
      /^[a-z_]+(\{([a-z_0-9]+="([^"\\]|\\["\\n])*",?)*\})? (NaN|[+-]?[\d.]+(e[+-]?\d+)?)$/,
    );
    assert.ok(line.length < 2000);
  }
  assert.doesNotMatch(text, /^fake_metric/m);
  const count = [...text.matchAll(/^sonde_netflow_bytes_read_total/gm)].length;
  assert.equal(count, HOSTILE.length);
});

test('promtool has nothing to say about the page', async (t) => {
  const missing = installPrometheus();
  if (missing !== undefined) return t.skip(missing);
  const outlet = new PrometheusOutlet([netflow, sampleTable, ledgerTable]);
  outlet.add(flows([web, { ...web, direction: 'outgoing' }]), 'h', NOW);
  outlet.add(hostile(), 'h', NOW);
  const { status, stderr, stdout } = spawnSync('promtool', ['check', 'metrics'], {
    input: await outlet.text(),
  });
  assert.equal(`${stdout}${stderr}`, '');
  assert.equal(status, 0);
});
