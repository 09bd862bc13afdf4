// What a loaded server loses when sonde watches: nginx under wrk, with and without a collector, in pairs. `node bench/server.ts`
// prints it. Requests a second are what users see, but move with the neighbours of a virtual machine; processor time a
// request hardly does.

import {
  differences,
  type Figure,
  figure,
  printFigures,
  type RunOptions,
  ratios,
} from './figure.ts';
import { type Load, paced, wrk } from './loads.ts';
import { cpuTimeUs } from './machine.ts';
import { type Nginx, startNginx } from './nginx.ts';
import { undoOnSignals, withCleanup } from './process.ts';
import { Collector, cannotRun, Reducer } from './sonde.ts';

/** Shorter than sonde's own, so that each turn has its share of what an interval's end costs. */
const INTERVAL = '2s';
const CONNECTIONS = 16;
const RATE = 2000;

/** What one load gave in one turn. */
interface Sample {
  readonly per_second: number;
  /** Of server and client, in microseconds a request. */
  readonly cpu_us: number;
  readonly server_cpu_us: number;
  readonly p50_us?: number;
  readonly p99_us?: number;
  readonly errors: number;
}

interface LoadCase {
  readonly name: string;
  readonly run: (
    port: number,
    seconds: number,
  ) => Promise<Load & { p50_us?: number; p99_us?: number }>;
}

const CASES: readonly LoadCase[] = [
  {
    name: 'keep-alive',
    run: (port, seconds) => wrk({ port, seconds, connections: CONNECTIONS, close: false }),
  },
  {
    name: 'Connection: close',
    run: (port, seconds) => wrk({ port, seconds, connections: CONNECTIONS, close: true }),
  },
  {
    name: `keep-alive at ${RATE}/s`,
    run: (port, seconds) => paced({ port, seconds, rate: RATE, threads: 8, close: 0 }),
  },
  {
    name: `Connection: close at ${RATE}/s`,
    run: (port, seconds) => paced({ port, seconds, rate: RATE, threads: 8, close: 1 }),
  },
];

/** What sonde itself took in a turn, in microseconds of processor time a second. */
interface Turn {
  readonly samples: readonly Sample[];
  readonly collector_us: number;
  readonly reducer_us: number;
  readonly seconds: number;
}

async function sample(one: LoadCase, nginx: Nginx, seconds: number): Promise<Sample> {
  const before = nginx.cpuUs();
  const load = await one.run(nginx.port, seconds);
  const server_us = nginx.cpuUs() - before;
  return {
    per_second: load.requests / load.seconds,
    cpu_us: (server_us + load.cpu_us) / load.requests,
    server_cpu_us: server_us / load.requests,
    errors: load.errors,
    ...(load.p50_us !== undefined && { p50_us: load.p50_us }),
    ...(load.p99_us !== undefined && { p99_us: load.p99_us }),
  };
}

async function turn(
  nginx: Nginx,
  reducer: Reducer,
  seconds: number,
  collector?: Collector,
): Promise<Turn> {
  const cpu = () => [collector ? cpuTimeUs(collector.pid) : 0, cpuTimeUs(reducer.pid)] as const;
  const before = cpu();
  const start = performance.now();
  const samples: Sample[] = [];
  for (const one of CASES) samples.push(await sample(one, nginx, seconds));
  const after = cpu();
  return {
    samples,
    collector_us: after[0] - before[0],
    reducer_us: after[1] - before[1],
    seconds: (performance.now() - start) / 1000,
  };
}

async function turnWith(nginx: Nginx, reducer: Reducer, seconds: number): Promise<Turn> {
  reducer.resume();
  const collector = await Collector.start(reducer, INTERVAL);
  const done = await turn(nginx, reducer, seconds, collector);
  await collector.stop();
  reducer.pause();
  return done;
}

function caseFigures(i: number, without: readonly Turn[], with_: readonly Turn[]): Figure[] {
  const { name } = CASES[i]!;
  const of = (turns: readonly Turn[], what: keyof Sample) =>
    turns.map(({ samples }) => samples[i]![what] ?? Number.NaN);
  const both = (what: keyof Sample, label: string, unit: string) => [
    figure(`${name}: ${label}, without`, unit, of(without, what)),
    figure(`${name}: ${label}, with`, unit, of(with_, what)),
  ];
  const errors = [...of(without, 'errors'), ...of(with_, 'errors')].reduce((a, b) => a + b, 0);
  const per_request = [
    ...both('cpu_us', 'CPU, server and client', 'us/request'),
    figure(
      `${name}: CPU, more with`,
      'us/request',
      differences(of(without, 'cpu_us'), of(with_, 'cpu_us')),
    ),
    figure(
      `${name}: CPU of the server alone, more with`,
      'us/request',
      differences(of(without, 'server_cpu_us'), of(with_, 'server_cpu_us')),
    ),
    ...(errors > 0 ? [figure(`${name}: errors in all turns`, '1', [errors])] : []),
  ];
  if (without[0]!.samples[i]!.p50_us !== undefined) {
    return [
      ...both('p50_us', 'latency p50', 'us'),
      ...both('p99_us', 'latency p99', 'us'),
      ...per_request,
    ];
  }
  const per_second = [of(without, 'per_second'), of(with_, 'per_second')] as const;
  return [
    figure(
      `${name}: RATIO of requests/s`,
      '1',
      ratios(...per_second),
      'with over without, per pair',
    ),
    ...both('per_second', 'requests', '1/s'),
    ...per_request,
  ];
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const [pairs, seconds] = options.quick ? [2, 1] : [9, 3];
  const nginx = await startNginx();
  const reducer = await Reducer.start();
  const without: Turn[] = [];
  const with_: Turn[] = [];
  await turn(nginx, reducer, 1); // caches and clocks warm up
  reducer.pause();
  for (let pair = 0; pair < pairs; pair += 1) {
    // A B, B A, …: a machine that grows slower or faster meanwhile favours neither
    if (pair % 2 === 0) without.push(await turn(nginx, reducer, seconds));
    with_.push(await turnWith(nginx, reducer, seconds));
    if (pair % 2 === 1) without.push(await turn(nginx, reducer, seconds));
  }
  const share = (what: 'collector_us' | 'reducer_us') =>
    with_.map((one) => one[what] / one.seconds / 1e4);
  return [
    ...CASES.flatMap((_, i) => caseFigures(i, without, with_)),
    figure('collector meanwhile', '% of a core', share('collector_us')),
    figure('reducer and store meanwhile', '% of a core', share('reducer_us')),
  ];
}

export async function run(options: RunOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [{ name: 'server', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
