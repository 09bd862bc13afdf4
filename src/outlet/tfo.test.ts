// The document's metrics from batches: names and labels of the contract, values that add up, limits, and promtool.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { tables } from '../../probes/index.ts';
import { netflow } from '../../probes/netflow.ts';
import { type FlowRow, flowArrow } from '../store/testing.ts';
import { decodeBatch } from '../table/batch.ts';
import type { Batch } from '../table/columns.ts';
import { defineTable } from '../table/definition.ts';
import { Fold } from '../table/fold.ts';
import { PrometheusOutlet } from './prometheus.ts';
import { installPrometheus } from './testing.ts';
import { tfo_metrics } from './tfo.ts';
import { type TfoLimits, TfoOutlet } from './tfo_series.ts';

const NOW = 1_700_000_000_000;

function flows(rows: readonly FlowRow[]): Batch {
  const decoded = decodeBatch(flowArrow(rows, NOW), () => netflow);
  assert.ok(decoded.ok);
  return decoded.batch;
}

function outlet(limits: Partial<TfoLimits> = {}, defs = tables) {
  const page = new PrometheusOutlet([]);
  const tfo = new TfoOutlet(page, tfo_metrics, defs, limits);
  const lines = async () => {
    const text = await page.text();
    return text.split('\n').filter((line) => line.startsWith('tfo_ebpf_'));
  };
  return { page, tfo, lines };
}

const web: FlowRow = {
  direction: 'incoming',
  transport: 'tcp',
  process_name: 'nginx',
  pid: 77,
  bytes_read: 11,
  bytes_written: 1000,
  tcp_established: 2,
  rtt: 250,
  rtt_samples: 2,
};

/** The 21 names of the document's catalogue; whoever changes one breaks the contract. */
const NAMES = [
  ...['syscall_count', 'syscall_latency_ns', 'syscall_errors', 'tcp_connections'],
  ...['tcp_bytes_sent', 'tcp_bytes_recv', 'tcp_rtt_ns', 'tcp_retransmits', 'udp_packets_sent'],
  ...['udp_packets_recv', 'fileio_operations', 'fileio_bytes', 'fileio_latency_ns'],
  ...['sched_context_switches', 'sched_runq_latency_ns', 'sched_oncpu_ns', 'sched_migrations'],
  ...['memory_page_faults', 'memory_major_faults', 'memory_minor_faults', 'tcp_state_transitions'],
];

test('the names are those of the document', () => {
  assert.equal(NAMES.length, 21);
  assert.deepEqual(
    tfo_metrics.map(({ name }) => name),
    NAMES.map((name) => `tfo_ebpf_${name}`),
  );
});

test('what a metric asks of a table is there', () => {
  for (const { name, rows } of tfo_metrics) {
    for (const { table, labels, where, add, minus = [] } of rows) {
      const def = tables.find((one) => one.name === table);
      if (def === undefined) continue; // of a source that this sonde does not have
      const dimensions = def.dimensions.map((one) => one.name);
      const measures = def.measures.map((one) => one.name);
      const asked = [...Object.values(labels), ...Object.keys(where ?? {})];
      for (const one of asked) {
        const column = typeof one === 'string' ? one : one.column;
        assert.ok(dimensions.includes(column), `${name}: ${table}.${column}`);
      }
      for (const one of [...add, ...minus]) {
        assert.ok(measures.includes(one), `${name}: ${table}.${one}`);
      }
    }
  }
});

test('sums by process, what began before sonde taken off, means of the last interval', async () => {
  const { tfo, lines } = outlet();
  tfo.add(flows([web, { ...web, src_port: 80, rtt: 1000, rtt_samples: 1 }]), NOW);
  tfo.add(flows([{ ...web, transport: 'udp', packets_written: 5, rtt_samples: 0 }]), NOW);
  const nginx = '{pid="77",comm="nginx"}';
  assert.deepEqual(await lines(), [
    `tfo_ebpf_tcp_connections${nginx} 4`,
    `tfo_ebpf_tcp_bytes_sent${nginx} 2000`,
    `tfo_ebpf_tcp_bytes_recv${nginx} 22`,
    `tfo_ebpf_udp_packets_sent${nginx} 5`,
  ]);
  const older = { preexisting: 1, bytes_read: 100, bytes_read_before_start: 90 };
  tfo.add(flows([{ ...web, ...older, tcp_established: 1, rtt: 400, rtt_samples: 1 }]), NOW);
  const after = await lines();
  assert.ok(after.includes(`tfo_ebpf_tcp_bytes_recv${nginx} 32`), after.join('\n'));
  assert.ok(after.includes(`tfo_ebpf_tcp_connections${nginx} 4`));
  assert.ok(after.includes(`tfo_ebpf_tcp_rtt_ns${nginx} 400000`));
});

test('a histogram counts by its sum, in nanoseconds', async () => {
  const def = defineTable({
    name: 'syscall',
    help: 'as the source of system calls has it',
    kind: 'fold',
    rows_max: 8,
    dimensions: [
      { name: 'pid', type: 'u32', help: '' },
      { name: 'process_name', type: 'string', help: '' },
      { name: 'syscall', type: 'string', help: '' },
    ],
    measures: [
      { name: 'calls', type: 'u64', unit: '1', fold: 'sum', help: '' },
      { name: 'errors', type: 'u64', unit: '1', fold: 'sum', help: '' },
      { name: 'latency', type: 'u64', unit: 'us', fold: 'histogram', help: '' },
    ],
  });
  const fold = new Fold(def);
  for (const us of [3, 5]) {
    const dims = Float64Array.of(9, fold.intern('cat'), fold.intern('read'));
    fold.add(dims, Float64Array.of(1, 0, us));
  }
  const { tfo, lines } = outlet({}, [def]);
  tfo.add(fold.close(NOW)!, NOW);
  assert.deepEqual(await lines(), [
    'tfo_ebpf_syscall_count{pid="9",comm="cat",syscall="read"} 2',
    'tfo_ebpf_syscall_latency_ns{pid="9",comm="cat",syscall="read"} 8000',
  ]);
});

test('states have the names of the document', async () => {
  const def = defineTable({
    name: 'tcp_state',
    help: 'as the source of TCP states has it',
    kind: 'fold',
    rows_max: 8,
    dimensions: ['from_state', 'to_state'].map((name) => ({ name, type: 'string', help: '' })),
    measures: [{ name: 'transitions', type: 'u64', unit: '1', fold: 'sum', help: '' }],
  });
  const fold = new Fold(def);
  fold.add(
    Float64Array.of(fold.intern('SYN-SENT'), fold.intern('ESTABLISHED')),
    Float64Array.of(3),
  );
  const { tfo, lines } = outlet({ idle_ms: 1, isAlive: () => false }, [def]);
  tfo.add(fold.close(NOW)!, NOW);
  tfo.expire(NOW + 10); // of no process: stays
  assert.deepEqual(await lines(), [
    'tfo_ebpf_tcp_state_transitions{old_state="SYN_SENT",new_state="ESTABLISHED"} 3',
  ]);
});

test('label sets beyond the limit share one, and are counted', async () => {
  const { page, tfo, lines } = outlet({ series_max: 2 });
  const many = [1, 2, 3, 4].map((pid) => ({ ...web, pid, rtt_samples: 0 }));
  tfo.add(flows(many), NOW);
  const sent = (await lines()).filter((line) => line.startsWith('tfo_ebpf_tcp_bytes_sent'));
  assert.deepEqual(sent, [
    'tfo_ebpf_tcp_bytes_sent{pid="1",comm="nginx"} 1000',
    'tfo_ebpf_tcp_bytes_sent{pid="2",comm="nginx"} 1000',
    'tfo_ebpf_tcp_bytes_sent{pid="<other>",comm="<other>"} 2000',
  ]);
  assert.match(await page.text(), /^sonde_tfo_rows_overflowed_total 6$/m);
});

test('series go with their process, not before they could be read', async () => {
  const { tfo, lines } = outlet({ idle_ms: 1000, isAlive: (pid) => pid === '2' });
  tfo.add(flows([1, 2].map((pid) => ({ ...web, pid, rtt_samples: 0 }))), NOW);
  tfo.expire(NOW + 999);
  assert.equal((await lines()).length, 6);
  tfo.expire(NOW + 1000);
  const left = await lines();
  assert.equal(left.length, 3);
  assert.ok(left.every((line) => line.includes('pid="2"')));
});

const no_promtool = installPrometheus() ?? false;

test('promtool finds nothing wrong but the names, which are a contract', {
  skip: no_promtool,
}, async () => {
  const { page, tfo } = outlet();
  tfo.add(flows([web, { ...web, process_name: 'a "b"\n\\c' }]), NOW);
  const options = { input: await page.text(), encoding: 'utf8' } as const;
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], options);
  const about_names =
    /should have "_total" suffix|abbreviated units|use base unit "(seconds|bytes)"|non-histogram/;
  const others = `${stdout}${stderr}`.split('\n').filter((line) => line !== '');
  assert.deepEqual(
    others.filter((line) => !about_names.test(line)),
    [],
  );
});
