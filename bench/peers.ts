// The same load with nothing, with sonde, and with other tools that watch connections: what each costs, and how much of the
// truth each tells. `node bench/peers.ts` prints it. The tools are those of Debian's libbpf-tools and bpfcc-tools; which of
// them start depends on the kernel (most need kprobes), and those that do not are named with their words.

import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Figure, figure, printFigures, type RunOptions, ratios } from './figure.ts';
import { counted, wrk } from './loads.ts';
import { cpuTimeUs, memory } from './machine.ts';
import { type Nginx, startNginx } from './nginx.ts';
import { findProgram, needProgram } from './packages.ts';
import { makeFolder, Started, undoOnSignals, withCleanup } from './process.ts';
import { Collector, cannotRun, Reducer } from './sonde.ts';

const UP_MS = 15_000;
/** What a tool holds back in its buffers is out by then. */
const SETTLE_MS = 1000;

/** Tools that tell of connections; `end` says which of their lines is the end of one. */
const TOOLS: readonly { name: string; end?: RegExp }[] = [
  { name: 'tcplife', end: /./ },
  { name: 'tcpstates', end: /-> CLOSE\s/ },
  { name: 'tcptop' },
  { name: 'tcpconnect' },
  { name: 'tcpconnlat' },
  { name: 'tcptracer' },
  { name: 'tcprtt' },
  { name: 'tcpsynbl' },
  { name: 'tcplife-bpfcc', end: /./ },
  { name: 'tcpstates-bpfcc', end: /-> CLOSE\s/ },
  { name: 'tcptop-bpfcc' },
];

/** Something that watches, while it watches. */
interface Watching {
  readonly pids: readonly number[];
  /** Stops it; how many ends of connections at this port it told of since its start. */
  stop(port: number): Promise<number>;
}

interface Watcher {
  readonly name: string;
  /** @throws Error with its words where it does not start. */
  start(): Promise<Watching>;
}

const nothing: Watcher = {
  name: 'nothing',
  start: async () => ({ pids: [], stop: async () => Number.NaN }),
};

function sonde(reducer: Reducer): Watcher {
  const closed = async (port: number) => {
    const rows = await reducer.rows<{ n: string }>(
      `SELECT sum(tcp_closed) AS n FROM netflow WHERE src_port = ${port} OR dst_port = ${port}`,
    );
    return Number(rows[0]?.n ?? 0);
  };
  let told = 0;
  return {
    name: 'sonde',
    start: async () => {
      reducer.resume();
      const collector = await Collector.start(reducer, '2s');
      const stop = async (port: number) => {
        const sum = await closed(port);
        const own = sum - told;
        told = sum;
        await collector.stop();
        reducer.pause();
        return own;
      };
      return { pids: [collector.pid, reducer.pid], stop };
    },
  };
}

/** Programs of any kind are attached once it holds a link or an open event. */
function isAttached(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) =>
      /bpf_link|perf_event/.test(readlinkSync(`/proc/${pid}/fd/${fd}`)),
    );
  } catch {
    return false; // a descriptor was closed between listing and reading: asked again
  }
}

function peer(program: string, end: RegExp | undefined, name: string): Watcher {
  return {
    name,
    start: async () => {
      const file = join(makeFolder(), 'output');
      const out = openSync(file, 'w');
      const started = new Started(program, [], { stdout: out });
      closeSync(out);
      await started.until(() => isAttached(started.pid), UP_MS);
      await delay(SETTLE_MS);
      if (!started.running || !isAttached(started.pid)) {
        await started.stop('SIGINT');
        throw new Error(words(readFileSync(file, 'utf8') + started.complaints));
      }
      const stop = async (port: number) => {
        await delay(SETTLE_MS);
        await started.stop('SIGINT');
        const told = end === undefined ? Number.NaN : countEnds(file, port, end);
        rmSync(file);
        return told;
      };
      return { pids: [started.pid], stop };
    },
  };
}

function countEnds(file: string, port: number, end: RegExp): number {
  const at_port = new RegExp(`\\b${port}\\b`);
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => at_port.test(line) && end.test(line)).length;
}

/** The line of a tool's complaints that says most: the last one with an error in it. */
function words(complaints: string): string {
  const lines = complaints.split('\n').filter((line) => /fail|error|unable|cannot/i.test(line));
  return lines[0]?.trim() ?? (complaints.trim().split('\n').at(-1) || 'it ended without a word');
}

interface Turn {
  readonly keepalive_per_s: number;
  readonly churn_per_s: number;
  readonly told: number;
  readonly cpu_percent: number;
  readonly rss: number;
}

async function turn(watcher: Watcher, nginx: Nginx, options: RunOptions): Promise<Turn> {
  const [seconds, count] = options.quick ? [1, 5000] : [2, 20_000];
  const watching = await watcher.start();
  const cpu = () => watching.pids.reduce((sum, pid) => sum + cpuTimeUs(pid), 0);
  const before = cpu();
  const start = performance.now();
  const { port } = nginx;
  const keepalive = await wrk({ port, seconds, connections: 16, close: false });
  // wrk ends in the midst of its requests: its connections are not counted, the next load's are
  const churn = await counted({ port, count, threads: 16, seconds: 30 });
  const cpu_percent = (cpu() - before) / (performance.now() - start) / 10;
  const rss = watching.pids.reduce((sum, pid) => sum + memory(pid).rss, 0);
  const told = (await watching.stop(port)) - 2 * 16;
  return {
    keepalive_per_s: keepalive.requests / keepalive.seconds,
    churn_per_s: churn.requests / churn.seconds,
    told: told / (2 * (churn.requests + churn.errors)),
    cpu_percent,
    rss: rss / 2 ** 20,
  };
}

async function findPeers(options: RunOptions): Promise<[Watcher[], Figure[]]> {
  await needProgram('tcplife', 'libbpf-tools').catch(() => undefined); // its absence is told below
  const peers: Watcher[] = [];
  const silent: Figure[] = [];
  for (const { name, end } of TOOLS) {
    if (options.quick && name.endsWith('-bpfcc')) continue;
    const program = findProgram(name);
    const no = (note: string) => silent.push({ name: `${name}: off`, value: 0, unit: '1', note });
    if (program === undefined) {
      no('not installed');
      continue;
    }
    const watcher = peer(program, end, name);
    try {
      await (await watcher.start()).stop(0);
      peers.push(watcher);
    } catch (error) {
      no(error instanceof Error ? error.message : String(error));
    }
  }
  return [peers, silent];
}

function watcherFigures(name: string, turns: readonly Turn[], base: readonly Turn[]): Figure[] {
  const of = (all: readonly Turn[], what: keyof Turn) => all.map((one) => one[what]);
  const rates = (what: 'keepalive_per_s' | 'churn_per_s', label: string) => [
    figure(`${name}: ${label}`, '1/s', of(turns, what)),
    ...(turns === base
      ? []
      : [
          figure(
            `${name}: ${label}, RATIO to nothing`,
            '1',
            ratios(of(base, what), of(turns, what)),
          ),
        ]),
  ];
  const told = of(turns, 'told').filter(Number.isFinite);
  return [
    ...rates('keepalive_per_s', 'keep-alive requests'),
    ...rates('churn_per_s', 'connections'),
    ...(told.length > 0 ? [figure(`${name}: ends told of ends made`, '1', told)] : []),
    ...(turns === base
      ? []
      : [
          figure(`${name}: CPU of its processes`, '% of a core', of(turns, 'cpu_percent')),
          figure(`${name}: memory of its processes`, 'MiB', of(turns, 'rss')),
        ]),
  ];
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const [peers, silent] = await findPeers(options);
  const nginx = await startNginx();
  const reducer = await Reducer.start();
  reducer.pause();
  const watchers = [nothing, sonde(reducer), ...peers];
  const turns = watchers.map(() => [] as Turn[]);
  const rounds = options.quick ? 2 : 7;
  for (let round = 0; round < rounds; round += 1) {
    // there and back: none has always the same neighbour
    const order = watchers.map((_, i) => (round % 2 === 0 ? i : watchers.length - 1 - i));
    for (const i of order) turns[i]!.push(await turn(watchers[i]!, nginx, options));
  }
  return [
    ...watchers.flatMap(({ name }, i) => watcherFigures(name, turns[i]!, turns[0]!)),
    ...silent,
  ];
}

export async function run(options: RunOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [{ name: 'peers', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
