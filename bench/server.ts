// What a loaded server loses when sonde watches: nginx under wrk without sonde, with a collector whose reducer is elsewhere,
// and with both on the machine, turn about. `node bench/server.ts` prints it. Requests a second are what users see, but move
// with the neighbours of a virtual machine; processor time a request hardly does.

import {
  differences,
  type Figure,
  figure,
  printFigures,
  type RunOptions,
  ratios,
} from './figure.ts';
import { type Load, type PacedLoad, paced, wrk } from './loads.ts';
import { cpuTimeUs } from './machine.ts';
import { type Nginx, startNginx } from './nginx.ts';
import { undoOnSignals, withCleanup } from './process.ts';
import { Collector, cannotRun, Reducer } from './sonde.ts';

const CONNECTIONS = 16;
const RATE = 2000;

/** `collector`: its reducer stands still, as one on another machine takes nothing here. */
const ARMS = ['nothing', 'collector', 'collector and reducer'] as const;
type Arm = (typeof ARMS)[number];

/** What one load gave in one turn. */
interface Sample {
  readonly per_second: number;
  /** Of server and client, in microseconds a request. */
  readonly cpu_us: number;
  readonly p50_us?: number;
  readonly p99_us?: number;
  readonly errors: number;
}

interface LoadCase {
  readonly name: string;
  readonly run: (port: number, seconds: number) => Promise<Load & Partial<PacedLoad>>;
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

async function turnWith(arm: Arm, nginx: Nginx, reducer: Reducer, seconds: number): Promise<Turn> {
  if (arm === 'nothing') return await turn(nginx, reducer, seconds);
  reducer.resume();
  const collector = await Collector.start(reducer);
  if (arm === 'collector') reducer.pause();
  const done = await turn(nginx, reducer, seconds, collector);
  reducer.resume();
  await collector.stop();
  reducer.pause();
  return done;
}

type Turns = Readonly<Record<Arm, readonly Turn[]>>;

function samplesOf(turns: readonly Turn[], i: number, what: keyof Sample): number[] {
  return turns.map(({ samples }) => samples[i]![what] ?? Number.NaN);
}

/** What one arm has of what there is without sonde, and what it takes more. */
function armFigures(i: number, arm: Arm, turns: Turns): Figure[] {
  const { name } = CASES[i]!;
  const base = (what: keyof Sample) => samplesOf(turns.nothing, i, what);
  const own = (what: keyof Sample) => samplesOf(turns[arm], i, what);
  const label = `${name}, ${arm}`;
  const sum = (all: readonly number[]) => all.reduce((a, b) => a + b, 0);
  const is_paced = turns.nothing[0]!.samples[i]!.p50_us !== undefined;
  const more = differences(base('cpu_us'), own('cpu_us'));
  const shown = is_paced
    ? [
        figure(`${label}: latency p50`, 'us', own('p50_us')),
        figure(`${label}: latency p99`, 'us', own('p99_us')),
      ]
    : [figure(`${label}: requests`, '1/s', own('per_second'))];
  const cpu = figure(`${label}: CPU, server and client`, 'us/request', own('cpu_us'));
  if (arm === 'nothing') return [...shown, cpu];
  const whole = sum(own('per_second')) / sum(base('per_second'));
  const ratio = [
    figure(`${label}: RATIO`, '1', ratios(base('per_second'), own('per_second')), 'per pair'),
    figure(`${label}: RATIO`, '1', [whole], 'all turns together'),
    figure(
      `${label}: RATIO by CPU`,
      '1',
      ratios(own('cpu_us'), base('cpu_us')),
      'what a core serves',
    ),
  ];
  return [
    ...(is_paced ? [] : ratio),
    ...shown,
    cpu,
    figure(`${label}: CPU, more than without`, 'us/request', more),
  ];
}

function shareFigures(turns: Turns): Figure[] {
  const share = (arm: Arm, what: 'collector_us' | 'reducer_us') =>
    turns[arm].map((one) => one[what] / one.seconds / 1e4);
  const both = 'collector and reducer';
  return [
    figure('collector meanwhile', '% of a core', share('collector', 'collector_us')),
    figure('collector meanwhile, reducer here', '% of a core', share(both, 'collector_us')),
    figure('reducer and store meanwhile', '% of a core', share(both, 'reducer_us')),
  ];
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const [rounds, seconds] = options.quick ? [2, 1] : [9, 2];
  const nginx = await startNginx();
  const reducer = await Reducer.start();
  const turns: Record<Arm, Turn[]> = { nothing: [], collector: [], 'collector and reducer': [] };
  await turn(nginx, reducer, 1); // caches and clocks warm up
  reducer.pause();
  for (let round = 0; round < rounds; round += 1) {
    // there and back: a machine that grows slower or faster meanwhile favours none
    const order = round % 2 === 0 ? ARMS : [...ARMS].reverse();
    for (const arm of order) turns[arm].push(await turnWith(arm, nginx, reducer, seconds));
  }
  const all = Object.values(turns).flat();
  const errors = all.flatMap(({ samples }) => samples.map((one) => one.errors));
  return [
    ...CASES.flatMap((_, i) => ARMS.flatMap((arm) => armFigures(i, arm, turns))),
    ...shareFigures(turns),
    figure('requests that failed', '1', [errors.reduce((a, b) => a + b, 0)]),
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
