// What each kernel program costs: nanoseconds a run, by the kernel's own statistics, under three loads. `node bench/programs.ts`
// prints it. Measuring itself costs 30 to 45 ns a run, which programs that do nothing on the same hooks show in the same
// run: net figures are less by what the floor of their hook is.

import { enableStats } from '../src/bpf/stats.ts';
import { type Figure, figure, printFigures, type RunOptions } from './figure.ts';
import { attach, hooks, loadFloor } from './floor.ts';
import { tool, wrk } from './loads.ts';
import { type Nginx, startNginx } from './nginx.ts';
import { later, undoOnSignals, withCleanup } from './process.ts';
import { Collector, cannotRun, Reducer, type RunningProgram } from './sonde.ts';

interface Runs {
  readonly runs: number;
  readonly ns: number;
}

/** One load; how many events of its own kind it made. */
interface LoadCase {
  readonly name: string;
  /** What a figure is divided by: request, connection, round trip. */
  readonly event: string;
  readonly run: (nginx: Nginx, seconds: number) => Promise<number>;
}

const CASES: readonly LoadCase[] = [
  {
    name: 'keep-alive HTTP',
    event: 'request',
    run: async ({ port }, seconds) =>
      (await wrk({ port, seconds, connections: 16, close: false })).requests,
  },
  {
    name: 'connection churn',
    event: 'connection',
    run: async ({ port }, seconds) =>
      (await wrk({ port, seconds, connections: 16, close: true })).requests,
  },
  {
    name: 'UDP ping-pong',
    event: 'round trip',
    run: async (_, seconds) => {
      const words = { count: 10_000_000, seconds, threads: 2 };
      return (await tool<{ round_trips: number }>('udp', words)).round_trips;
    },
  },
];

function readAll(programs: readonly RunningProgram[]): ReadonlyMap<string, Runs> {
  return new Map(
    programs.map(({ name, program }) => {
      const { run_count, run_time_ns } = program.stats();
      return [name, { runs: run_count, ns: run_time_ns }];
    }),
  );
}

/** What each program did meanwhile; programs that did not run are left out. */
async function meanwhile(
  programs: readonly RunningProgram[],
  work: () => Promise<number>,
): Promise<{ events: number; runs: ReadonlyMap<string, Runs> }> {
  const before = readAll(programs);
  const events = await work();
  const runs = new Map<string, Runs>();
  for (const [name, now] of readAll(programs)) {
    const { runs: count, ns } = before.get(name)!;
    if (now.runs > count) runs.set(name, { runs: now.runs - count, ns: now.ns - ns });
  }
  return { events, runs };
}

interface Turn {
  readonly raw: number;
  readonly net: number;
  readonly per_event: number;
  readonly net_per_event: number;
}

/** Rare programs (sweeps, exec) are not part of a request's cost. */
const PER_EVENT_MIN = 0.01;

/** `floors`: by program, the empty one on its hook; where there is none, that of another hook says nearly the same. */
function turnOf(
  name: string,
  runs: ReadonlyMap<string, Runs>,
  events: number,
  floors: ReadonlyMap<string, string>,
): Turn | undefined {
  const own = runs.get(name)!;
  const floor = runs.get(floors.get(name) ?? '') ?? runs.get('floor_recv');
  if (own.runs / events < PER_EVENT_MIN || floor === undefined) return undefined;
  const net_ns = own.ns - (own.runs * floor.ns) / floor.runs;
  return {
    raw: own.ns / own.runs,
    net: net_ns / own.runs,
    per_event: own.runs / events,
    net_per_event: net_ns / events,
  };
}

function caseFigures(
  { name, event }: LoadCase,
  turns: readonly ReadonlyMap<string, Turn>[],
): Figure[] {
  const names = [...new Set(turns.flatMap((turn) => [...turn.keys()]))].sort();
  const figures: Figure[] = [];
  for (const program of names) {
    const own = turns.flatMap((turn) => turn.get(program) ?? []);
    const of = (what: keyof Turn) => own.map((turn) => turn[what]);
    const head = `${name}, ${program}`;
    figures.push(figure(`${head}: raw`, 'ns/run', of('raw')));
    if (program.startsWith('floor_')) continue;
    figures.push(figure(`${head}: net`, 'ns/run', of('net')));
    figures.push(figure(`${head}: runs`, `1/${event}`, of('per_event')));
    figures.push(figure(`${head}: net`, `ns/${event}`, of('net_per_event')));
  }
  const sums = turns.map((turn) =>
    [...turn]
      .filter(([program]) => !program.startsWith('floor_'))
      .reduce((sum, [, { net_per_event }]) => sum + net_per_event, 0),
  );
  figures.push(figure(`${name}: all programs, net`, `ns/${event}`, sums, 'both ends are local'));
  return figures;
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const [rounds, seconds] = options.quick ? [2, 1] : [5, 2];
  const nginx = await startNginx();
  const reducer = await Reducer.start();
  const collector = await Collector.start(reducer);
  const running = collector.programs();
  const sections = hooks();
  const floor = await loadFloor(new Set(running.map(({ name }) => sections.get(name) ?? '')));
  for (const program of floor) attach(program);
  const floors = new Map(
    [...sections].map(([name, section]) => [
      name,
      floor.find((one) => one.section === section)?.name ?? '',
    ]),
  );
  const all = [...running, ...floor.map((program) => ({ name: program.name, program }))];
  const switched = enableStats();
  later(() => switched.close());
  const turns = CASES.map(() => [] as ReadonlyMap<string, Turn>[]);
  for (let round = 0; round < rounds; round += 1) {
    for (const [i, one] of CASES.entries()) {
      const { events, runs } = await meanwhile(all, () => one.run(nginx, seconds));
      const named = [...runs.keys()].map(
        (name) => [name, turnOf(name, runs, events, floors)] as const,
      );
      turns[i]!.push(new Map(named.flatMap(([name, turn]) => (turn ? [[name, turn]] : []))));
    }
  }
  for (const { program } of running) program.close();
  await collector.stop();
  return CASES.flatMap((one, i) => caseFigures(one, turns[i]!));
}

export async function run(options: RunOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined)
    return [{ name: 'kernel programs', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
