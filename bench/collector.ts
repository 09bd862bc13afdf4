// What the collector itself takes: processor time and memory, idle and under load; what it lost; and how long it takes to
// sweep many open sockets. `node bench/collector.ts` prints it.

import { setTimeout as delay } from 'node:timers/promises';
import type { BpfIter } from '../src/bpf/iter.ts';
import { type Figure, figure, printFigures, type RunOptions } from './figure.ts';
import { counted, Held, type PacedLoad, wrk } from './loads.ts';
import { cpuTimeUs, memory } from './machine.ts';
import { type Nginx, startNginx } from './nginx.ts';
import { undoOnSignals, withCleanup } from './process.ts';
import { Collector, cannotRun, Reducer } from './sonde.ts';

const SOCKETS = 100_000;
/** Longer than a turn of the collector: what a sweep put into the ring is out of it. */
const DRAIN_MS = 500;
const PASSES_MAX = 100;
const MIB = 2 ** 20;

interface Cost {
  /** Percent of one core. */
  readonly collector: number;
  readonly reducer: number;
  readonly collector_us: number;
}

/** Processor time of both roles while `work` runs. */
async function costOf<Result>(
  collector: Collector,
  reducer: Reducer,
  work: () => Promise<Result>,
): Promise<{ cost: Cost; result: Result }> {
  const start = performance.now();
  const before = [cpuTimeUs(collector.pid), cpuTimeUs(reducer.pid)] as const;
  const result = await work();
  const used = [cpuTimeUs(collector.pid) - before[0], cpuTimeUs(reducer.pid) - before[1]] as const;
  const wall_us = (performance.now() - start) * 1000;
  const percent = (us: number) => (us / wall_us) * 100;
  const cost = { collector: percent(used[0]), reducer: percent(used[1]), collector_us: used[0] };
  return { cost, result };
}

function residentFigures(label: string, collector: Collector, reducer: Reducer): Figure[] {
  return [
    figure(`${label}: memory, collector`, 'MiB', [memory(collector.pid).rss / MIB]),
    figure(`${label}: memory, reducer and store`, 'MiB', [memory(reducer.pid).rss / MIB]),
  ];
}

async function measureIdle(
  collector: Collector,
  reducer: Reducer,
  seconds: number,
): Promise<Figure[]> {
  await delay(5000); // the start is over: its rows are sent, its garbage collected
  const records = collector.records();
  const { cost } = await costOf(collector, reducer, () => delay(seconds * 1000));
  const note = `${collector.records() - records} records of other programs in ${seconds} s`;
  return [
    figure('idle: CPU, collector', '% of a core', [cost.collector], note),
    figure('idle: CPU, reducer and store', '% of a core', [cost.reducer]),
    ...residentFigures('idle', collector, reducer),
  ];
}

/** New connections as fast as they come: each has two ends, and each end a record. */
async function measureChurn(
  collector: Collector,
  reducer: Reducer,
  nginx: Nginx,
  seconds: number,
): Promise<Figure[]> {
  const before = collector.records();
  const work = () => wrk({ port: nginx.port, seconds, connections: 16, close: true });
  const { cost, result } = await costOf(collector, reducer, work);
  const records = collector.records() - before;
  return [
    figure('churn: connections', '1/s', [result.requests / result.seconds]),
    figure('churn: records', '1/s', [records / result.seconds]),
    figure('churn: CPU, collector', '% of a core', [cost.collector]),
    figure('churn: CPU, collector', 'us/record', [cost.collector_us / records]),
    figure('churn: CPU, reducer and store', '% of a core', [cost.reducer]),
    ...residentFigures('churn', collector, reducer),
  ];
}

/** Counted at both ends and asked of the store: the truth is the client's own count. */
async function measureTruth(reducer: Reducer, nginx: Nginx, count: number): Promise<Figure[]> {
  const sums = () =>
    reducer.rows<{ closed: string | number }>(
      `SELECT sum(tcp_closed) AS closed FROM netflow WHERE transport = 'tcp'
       AND (src_port = ${nginx.port} OR dst_port = ${nginx.port})`,
    );
  const before = Number((await sums())[0]!.closed);
  const truth = await counted({ port: nginx.port, count, threads: 16, seconds: 60 });
  await delay(1000); // the last ends come after their programs', in the kernel's own time
  const closed = Number((await sums())[0]!.closed) - before;
  const note = `store ${closed}, truth ${2 * ends(truth)} ends`;
  return [figure('truth: ends stored of ends made', '1', [closed / (2 * ends(truth))], note)];
}

function ends({ requests, errors }: PacedLoad): number {
  return requests + errors;
}

/** What the ledger says was lost or folded, whatever the reason. */
async function measureLedger(reducer: Reducer): Promise<Figure[]> {
  const rows = await reducer.rows<{ outcome: string; reason: string; stage: string; n: number }>(
    `SELECT stage, outcome, reason, sum(count) AS n FROM sonde_ledger
     WHERE outcome IN ('dropped', 'sampled', 'folded') GROUP BY ALL ORDER BY ALL`,
  );
  const figures = rows.map(({ stage, outcome, reason, n }) =>
    figure(`ledger: ${stage}, ${outcome} ${reason}`.trim(), 'records', [Number(n)]),
  );
  if (rows.some(({ outcome }) => outcome === 'dropped')) return figures;
  return [...figures, figure('ledger: dropped', 'records', [0])];
}

interface Pass {
  readonly wall_ms: number;
  readonly cpu_ms: number;
  readonly records: number;
}

function pass(collector: Collector, sweep: BpfIter, buffer: Uint8Array): Pass {
  const records = collector.records();
  const cpu = process.threadCpuUsage();
  const start = performance.now();
  sweep.run(buffer);
  const wall_ms = performance.now() - start;
  const { user, system } = process.threadCpuUsage(cpu);
  return { wall_ms, cpu_ms: (user + system) / 1000, records: collector.records() - records };
}

/** Passes until one finds nothing more: a pass stops early when it has filled the ring to three quarters. */
async function passes(collector: Collector, sweep: BpfIter): Promise<readonly Pass[]> {
  const buffer = new Uint8Array(4096);
  const done: Pass[] = [];
  while (done.length < PASSES_MAX) {
    const one = pass(collector, sweep, buffer);
    if (one.records < SOCKETS / 100) return done; // what is left is the traffic of others
    done.push(one);
    await delay(DRAIN_MS);
  }
  return done;
}

function sum(all: readonly Pass[], what: keyof Pass): number {
  return all.reduce((total, one) => total + one[what], 0);
}

async function sweepFigures(collector: Collector, held: Held, rounds: number): Promise<Figure[]> {
  const buffer = new Uint8Array(4096);
  const files = collector.sweep('files_sweep');
  const sweep = collector.sweep('tcp_sweep');
  await passes(collector, sweep);
  const many = (iter: BpfIter) =>
    Array.from({ length: rounds }, () => pass(collector, iter, buffer));
  const quiet = many(sweep);
  const found = many(files);
  const busy: (readonly Pass[])[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await held.exchange();
    busy.push(await passes(collector, sweep));
    await delay(DRAIN_MS);
  }
  const per = (all: readonly Pass[], what: 'wall_ms' | 'cpu_ms') => all.map((one) => one[what]);
  const busy_note = `${busy[0]?.length ?? 0} passes, ${sum(busy[0] ?? [], 'records')} records`;
  return [
    figure('sweep, nothing changed', 'ms', per(quiet, 'wall_ms')),
    figure('sweep, nothing changed: CPU', 'ms', per(quiet, 'cpu_ms')),
    figure('sweep of open files', 'ms', per(found, 'wall_ms')),
    figure(
      'sweep, all changed',
      'ms',
      busy.map((all) => sum(all, 'wall_ms')),
      busy_note,
    ),
    figure(
      'sweep, all changed: CPU',
      'ms',
      busy.map((all) => sum(all, 'cpu_ms')),
    ),
  ];
}

/** The collector sweeps at its start, too: the open files twice, and every connection that it found. */
async function measureSweep(reducer: Reducer, options: RunOptions): Promise<Figure[]> {
  const held = await Held.open((options.quick ? SOCKETS / 10 : SOCKETS) / 2);
  await held.exchange();
  const sockets = 2 * held.connections;
  const start = performance.now();
  const collector = await Collector.start(reducer, '1h');
  const up_ms = performance.now() - start;
  const all = await sweepFigures(collector, held, options.quick ? 2 : 5);
  const rss = memory(collector.pid).rss / MIB;
  await held.close();
  await collector.stop();
  const figures = [
    figure('start of the collector', 'ms', [up_ms], 'from its launch until all is attached'),
    ...all,
    figure('memory, collector', 'MiB', [rss]),
  ];
  const missing = held.why === '' ? [] : [`this machine allows no more: ${held.why}`];
  return figures.map((one) => ({
    ...one,
    name: `${sockets.toLocaleString('en')} sockets: ${one.name}`,
    ...(missing.length > 0 && { note: [...missing, one.note ?? ''].join('; ') }),
  }));
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const nginx = await startNginx();
  const reducer = await Reducer.start();
  const collector = await Collector.start(reducer);
  const idle = await measureIdle(collector, reducer, options.quick ? 5 : 30);
  const churn = await measureChurn(collector, reducer, nginx, options.quick ? 3 : 20);
  const truth = await measureTruth(reducer, nginx, options.quick ? 5000 : 50_000);
  const ledger = await measureLedger(reducer);
  await collector.stop();
  return [...idle, ...churn, ...truth, ...ledger, ...(await measureSweep(reducer, options))];
}

export async function run(options: RunOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [{ name: 'collector', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
