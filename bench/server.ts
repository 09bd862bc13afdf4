// What a loaded server loses when sonde watches: nginx under wrk without sonde, with a collector whose reducer is elsewhere,
// and with both on the machine, turn about. `node bench/server.ts` prints it; of another server with `--server go` or
// `--server node`, of other sources with `--sources tcp,udp,http`, of the loads without a rate alone with `--saturated`, of
// fixed rates alone that are a share of what the same client gets at full speed with `--share 0.7`.
// Requests a second are what users see, but move with the neighbours of a virtual machine; processor time hardly does.

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
import { undoOnSignals, withCleanup } from './process.ts';
import { Collector, cannotRun, Reducer } from './sonde.ts';
import { askedSources, type Server, startAskedServer } from './web.ts';

const CONNECTIONS = 16;
/** Of the client with a rate, one connection each. */
const THREADS = 8;
const WARM_S = 2;
/** Requests a second, of one connection a thread; what one core of this kind of machine serves is several times it. */
const RATE = { keep_alive: 10_000, close: 2000 };

interface Arm {
  readonly name: string;
  /** Undefined: what is on by default. */
  readonly sources?: readonly string[] | undefined;
  /** Else it stands still: one on another machine takes nothing here. */
  readonly reducer_runs: boolean;
}

/** With the sources of `--sources`, as often as it is given; else what is on by default. */
function askedArms(): readonly Arm[] {
  const asked = askedSources();
  return (asked.length > 0 ? asked : [undefined]).flatMap((sources) => {
    const of = sources === undefined ? '' : ` (${sources.join(',')})`;
    return [
      { name: `collector${of}`, sources, reducer_runs: false },
      { name: `collector and reducer${of}`, sources, reducer_runs: true },
    ];
  });
}

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

const SATURATED: readonly LoadCase[] = [
  {
    name: 'keep-alive',
    run: (port, seconds) => wrk({ port, seconds, connections: CONNECTIONS, close: false }),
  },
  {
    name: 'Connection: close',
    run: (port, seconds) => wrk({ port, seconds, connections: CONNECTIONS, close: true }),
  },
];

function pacedCase(close: 0 | 1, rate: number): LoadCase {
  return {
    name: `${close === 1 ? 'Connection: close' : 'keep-alive'} at ${rate}/s`,
    run: (port, seconds) => paced({ port, seconds, rate, threads: THREADS, close }),
  };
}

/** Of fixed loads, the share of what the client gets at full speed. */
function askedShare(): number | undefined {
  const at = process.argv.indexOf('--share');
  if (at < 0) return undefined;
  const share = Number(process.argv[at + 1]);
  if (share > 0 && share < 1) return share;
  throw new Error('--share takes a number between 0 and 1');
}

async function shareOf(share: number, server: Server, close: 0 | 1): Promise<LoadCase> {
  const full = { port: server.port, seconds: WARM_S, rate: 0, threads: THREADS, close };
  await paced(full); // caches and clocks warm up
  const { requests, seconds } = await paced(full);
  return pacedCase(close, Math.round((share * requests) / seconds));
}

async function askedCases(server: Server): Promise<readonly LoadCase[]> {
  const share = askedShare();
  if (share !== undefined)
    return [await shareOf(share, server, 0), await shareOf(share, server, 1)];
  if (process.argv.includes('--saturated')) return SATURATED;
  return [...SATURATED, pacedCase(0, RATE.keep_alive), pacedCase(1, RATE.close)];
}

interface Place {
  readonly cases: readonly LoadCase[];
  readonly server: Server;
  readonly reducer: Reducer;
}

/** What sonde itself took in a turn, in microseconds of processor time a second. */
interface Turn {
  readonly samples: readonly Sample[];
  readonly collector_us: number;
  readonly reducer_us: number;
  readonly seconds: number;
}

async function sample(one: LoadCase, server: Server, seconds: number): Promise<Sample> {
  const before = server.cpuUs();
  const load = await one.run(server.port, seconds);
  const server_us = server.cpuUs() - before;
  return {
    per_second: load.requests / load.seconds,
    cpu_us: (server_us + load.cpu_us) / load.requests,
    errors: load.errors,
    ...(load.p50_us !== undefined && { p50_us: load.p50_us }),
    ...(load.p99_us !== undefined && { p99_us: load.p99_us }),
  };
}

async function turn(
  { cases, server, reducer }: Place,
  seconds: number,
  collector?: Collector,
): Promise<Turn> {
  const cpu = () => [collector ? cpuTimeUs(collector.pid) : 0, cpuTimeUs(reducer.pid)] as const;
  const before = cpu();
  const start = performance.now();
  const samples: Sample[] = [];
  for (const one of cases) samples.push(await sample(one, server, seconds));
  const after = cpu();
  return {
    samples,
    collector_us: after[0] - before[0],
    reducer_us: after[1] - before[1],
    seconds: (performance.now() - start) / 1000,
  };
}

async function turnWith(arm: Arm, place: Place, seconds: number): Promise<Turn> {
  const { reducer } = place;
  reducer.resume();
  const collector = await Collector.start(reducer, '10s', arm.sources);
  if (!arm.reducer_runs) reducer.pause();
  const done = await turn(place, seconds, collector);
  reducer.resume();
  await collector.stop();
  reducer.pause();
  return done;
}

function samplesOf(turns: readonly Turn[], i: number, what: keyof Sample): number[] {
  return turns.map(({ samples }) => samples[i]![what] ?? Number.NaN);
}

function loadFigures(label: string, i: number, turns: readonly Turn[]): Figure[] {
  const own = (what: keyof Sample) => samplesOf(turns, i, what);
  const is_paced = turns[0]!.samples[i]!.p50_us !== undefined;
  const latency = is_paced
    ? [
        figure(`${label}: latency p50`, 'us', own('p50_us')),
        figure(`${label}: latency p99`, 'us', own('p99_us')),
      ]
    : [];
  return [
    figure(`${label}: requests`, '1/s', own('per_second')),
    ...latency,
    figure(`${label}: CPU, server and client`, 'us/request', own('cpu_us')),
  ];
}

/** What one arm has of what there is without sonde, and what it takes more. */
function armFigures(
  i: number,
  label: string,
  nothing: readonly Turn[],
  turns: readonly Turn[],
): Figure[] {
  const base = (what: keyof Sample) => samplesOf(nothing, i, what);
  const own = (what: keyof Sample) => samplesOf(turns, i, what);
  const sum = (all: readonly number[]) => all.reduce((a, b) => a + b, 0);
  const whole = sum(own('per_second')) / sum(base('per_second'));
  const served = ratios(base('per_second'), own('per_second'));
  const by_cpu = ratios(own('cpu_us'), base('cpu_us'));
  const more = differences(base('cpu_us'), own('cpu_us'));
  return [
    figure(`${label}: RATIO`, '1', served, 'per pair'),
    figure(`${label}: RATIO`, '1', [whole], 'all turns together'),
    figure(`${label}: RATIO by CPU`, '1', by_cpu, 'what a core serves'),
    ...loadFigures(label, i, turns),
    figure(`${label}: CPU, more than without`, 'us/request', more),
  ];
}

function shareFigures(arm: Arm, turns: readonly Turn[]): Figure[] {
  const share = (what: 'collector_us' | 'reducer_us') =>
    turns.map((one) => one[what] / one.seconds / 1e4);
  const collector = figure(`collector, of ${arm.name}`, '% of a core', share('collector_us'));
  if (!arm.reducer_runs) return [collector];
  return [collector, figure(`reducer, of ${arm.name}`, '% of a core', share('reducer_us'))];
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const [rounds, seconds] = options.quick ? [2, 1] : [9, 2];
  const server = await startAskedServer();
  const reducer = await Reducer.start();
  const cases = await askedCases(server);
  const place = { cases, server, reducer };
  const arms = askedArms();
  const nothing: Turn[] = [];
  const turns = new Map<Arm, Turn[]>(arms.map((arm) => [arm, []]));
  await turn(place, 1); // caches and clocks warm up
  reducer.pause();
  for (let round = 0; round < rounds; round += 1) {
    // there and back: a machine that grows slower or faster meanwhile favours none
    const order = [undefined, ...arms];
    for (const arm of round % 2 === 0 ? order : order.reverse()) {
      if (arm === undefined) nothing.push(await turn(place, seconds));
      else turns.get(arm)!.push(await turnWith(arm, place, seconds));
    }
  }
  const all = [nothing, ...turns.values()].flat();
  const errors = all.flatMap(({ samples }) => samples.map((one) => one.errors));
  return [
    ...cases.flatMap(({ name }, i) => [
      ...loadFigures(`${name}, nothing`, i, nothing),
      ...arms.flatMap((arm) => armFigures(i, `${name}, ${arm.name}`, nothing, turns.get(arm)!)),
    ]),
    ...arms.flatMap((arm) => shareFigures(arm, turns.get(arm)!)),
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
