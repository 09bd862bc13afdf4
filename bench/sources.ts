// What the sources of what processes spend cost: nanoseconds of their kernel programs for each event, net of what measuring
// costs (programs that do nothing on the same hook, in the same run), beside the budget of the agents' documents and the same
// tool of bcc and bpftrace. `node bench/sources.ts` prints it.

import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { probes } from '../probes/index.ts';
import { findMount } from '../src/bpf/features.ts';
import { enableStats } from '../src/bpf/stats.ts';
import { type Kernel, openKernel } from '../src/collector/kernel.ts';
import { kernelOptions } from '../src/collector/kernel_options.ts';
import { loadConfig } from '../src/config/load.ts';
import type { Config } from '../src/config/schema.ts';
import { buildSpend } from '../test/spend/spend.ts';
import { Traffic, talk } from '../test/traffic/traffic.ts';
import { type Figure, figure, printFigures, type RunOptions } from './figure.ts';
import { attach, loadFloor } from './floor.ts';
import { findProgram } from './packages.ts';
import { later, makeFolder, output, Started, undoOnSignals, withCleanup } from './process.ts';
import { cannotRun, type RunningProgram } from './sonde.ts';

const UP_MS = 2000;
const DISK_READS = 2000;

type Collector = Config['collector'];

interface SourceCase {
  readonly name: string;
  /** Of the documents' table, nanoseconds an event. */
  readonly budget?: number;
  readonly event: string;
  readonly probes: readonly string[];
  readonly options: Partial<Collector>;
  /** Programs that an event runs. */
  readonly programs: readonly string[];
  /** Does the work; how many events it made, where the runs of the programs are not the events. */
  readonly work: (scale: number) => Promise<number | undefined>;
  /** The same tool of others. */
  readonly peers: readonly (readonly string[])[];
}

async function spend(mode: string, ...words: readonly number[]): Promise<void> {
  const running = promisify(execFile)(buildSpend(), [mode, ...words.map(String)]);
  running.child.stdin?.end(); // it holds on until then
  await running;
}

const CALLS = async (scale: number): Promise<undefined> => spend2('calls', 1_000_000 * scale);
const COPIES = async (scale: number): Promise<number> => {
  const words = ['if=/dev/zero', 'of=/dev/null', 'bs=1', `count=${400_000 * scale}`, 'status=none'];
  await output('dd', words);
  return 800_000 * scale;
};
const SWITCHES = async (scale: number): Promise<undefined> => spend2('switches', 100_000 * scale);
const FAULTS = async (scale: number): Promise<undefined> => spend2('faults', 100_000 * scale);
const DISK = async (scale: number): Promise<undefined> => {
  const disk = await loopDevice();
  const words = [`if=${disk}`, 'of=/dev/null', 'bs=4k', 'iflag=direct', 'status=none'];
  await output('dd', [...words, `count=${DISK_READS * scale}`]);
  return undefined;
};

let device: string | undefined;

/** A disk over a file. */
async function loopDevice(): Promise<string> {
  if (device !== undefined) return device;
  const file = join(makeFolder(), 'disk');
  writeFileSync(file, '');
  truncateSync(file, DISK_READS * 4096);
  const path = (await output('losetup', ['-f', '--show', file])).trim();
  later(() => output('losetup', ['-d', path]));
  device = path;
  return path;
}

/** Where the programs' own runs are the events. */
async function spend2(mode: string, count: number): Promise<undefined> {
  await spend(mode, count, 0);
}

const COUNT_BY_STATE =
  'tracepoint:sock:inet_sock_set_state { @[args->oldstate, args->newstate] = count(); }';
const COUNT_BY_COMM = 'tracepoint:raw_syscalls:sys_exit { @[comm, args->id] = count(); }';

const DATAGRAMS = async (scale: number): Promise<undefined> => {
  const words = { datagrams: 50_000 * scale, reply: 1, batch: 1 };
  await talk({ after: later }, 'udp', words, words);
};
const CONNECTIONS = async (scale: number): Promise<undefined> => {
  const words = { connections: 5000 * scale };
  await talk({ after: later }, 'tcp', words, words);
};
/** To a port where nobody listens. */
const REFUSED = async (scale: number): Promise<undefined> => {
  const words = { port: 9, datagrams: 50_000 * scale };
  await (await Traffic.start({ after: later }, 'udp-client', words)).counts();
};

const CASES: readonly SourceCase[] = [
  {
    name: 'packets by cgroup',
    budget: 100,
    event: 'packet',
    probes: ['cgroup'],
    options: {},
    programs: ['skb_in', 'skb_out'],
    work: DATAGRAMS,
    peers: [],
  },
  {
    name: 'packets dropped',
    budget: 100,
    event: 'drop',
    probes: ['network'],
    options: {},
    programs: ['net_drop'],
    work: REFUSED,
    peers: [['bpftrace', '-e', 'tracepoint:skb:kfree_skb { @[args->reason] = count(); }']],
  },
  {
    name: 'TCP states alone',
    budget: 40,
    event: 'change',
    probes: ['tcpstate'],
    options: {},
    programs: ['tcp_state'],
    work: CONNECTIONS,
    peers: [['bpftrace', '-e', COUNT_BY_STATE]],
  },
  {
    name: 'syscalls',
    budget: 50,
    event: 'call',
    probes: ['syscalls'],
    options: {},
    programs: ['sys_exit'],
    work: CALLS,
    peers: [['syscount'], ['bpftrace', '-e', COUNT_BY_COMM]],
  },
  {
    name: 'syscalls with latency',
    event: 'call',
    probes: ['syscalls'],
    options: { syscalls: { latency: true } },
    programs: ['sys_exit', 'sys_enter'],
    work: CALLS,
    peers: [['syscount', '-L']],
  },
  {
    name: 'file I/O',
    budget: 80,
    event: 'read or write',
    probes: ['fileio'],
    options: {},
    programs: ['sys_exit'],
    work: COPIES,
    peers: [['filetop', '100']],
  },
  {
    name: 'file I/O with latency',
    event: 'read or write',
    probes: ['fileio'],
    options: { fileio: { latency: true } },
    programs: ['sys_exit', 'sys_enter'],
    work: COPIES,
    peers: [],
  },
  {
    name: 'file I/O, other calls',
    event: 'call',
    probes: ['fileio'],
    options: {},
    programs: ['sys_exit'],
    work: CALLS,
    peers: [],
  },
  {
    name: 'scheduler with latency',
    budget: 60,
    event: 'switch',
    probes: ['scheduler'],
    options: { scheduler: { latency: true } },
    programs: ['sched_switched'],
    work: SWITCHES,
    peers: [['runqlat', '-P'], ['runqlat.bt']],
  },
  {
    name: 'memory with allocations',
    budget: 30,
    event: 'allocation',
    probes: ['memory'],
    options: { memory: { allocations: true } },
    programs: ['page_alloc'],
    work: FAULTS,
    peers: [['bpftrace', '-e', 'tracepoint:kmem:mm_page_alloc { @[pid] = count(); }']],
  },
  {
    name: 'block I/O',
    event: 'request',
    probes: ['block_io'],
    options: {},
    programs: ['block_complete'],
    work: DISK,
    peers: [['biolatency', '-Q'], ['biolatency.bt']],
  },
];

/** A packet runs one of the two programs; any other event all of them. */
function eventsOf({ programs, event }: SourceCase, runs: number): number {
  return event === 'packet' ? runs : runs / programs.length;
}

let opened = 0;

async function open(one: SourceCase): Promise<Kernel> {
  const sources = probes.map(({ name }) => name);
  const flags = { '--data-dir': makeFolder() };
  const { config } = loadConfig({ role: 'run', flags, sources });
  opened += 1;
  const pin_path = join(findMount('bpf')!, `sonde-bench-${process.pid}-s${opened}`);
  const enabled = Object.fromEntries(
    sources.map((name) => [name, { enabled: one.probes.includes(name) }]),
  );
  const collector = { ...config.collector, ...one.options, pin_path, probes: enabled };
  const kernel = await openKernel(kernelOptions({ ...config, collector }, probes));
  const stop = (): void => {
    kernel.detach();
    kernel.release();
  };
  later(stop);
  return kernel;
}

interface Runs {
  readonly runs: number;
  readonly ns: number;
}

function runsOf(programs: readonly RunningProgram[]): Runs {
  const all = programs.map(({ program }) => program.stats());
  return {
    runs: all.reduce((sum, one) => sum + one.run_count, 0),
    ns: all.reduce((sum, one) => sum + one.run_time_ns, 0),
  };
}

async function sondeFigures(one: SourceCase, rounds: number, scale: number): Promise<Figure[]> {
  const kernel = await open(one);
  kernel.sweep('start');
  kernel.markSwept();
  const own = kernel.programs.filter(({ name }) => one.programs.includes(name));
  const floor = await loadFloor(new Set(own.map(({ program }) => program.section)));
  const links = floor.map((program) => attach(program));
  const idle = floor.map((program) => ({ name: program.name, program }));
  const net: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const [before, floor_before] = [runsOf(own), runsOf(idle)];
    const events = await one.work(scale);
    const [after, floor_after] = [runsOf(own), runsOf(idle)];
    const runs = after.runs - before.runs;
    const floor_runs = floor_after.runs - floor_before.runs;
    const floor_ns = floor_runs === 0 ? 35 : (floor_after.ns - floor_before.ns) / floor_runs;
    net.push((after.ns - before.ns - runs * floor_ns) / (events ?? eventsOf(one, runs)));
  }
  for (const link of links) link.close();
  const note = one.budget === undefined ? '' : `the documents' table: ${one.budget}`;
  kernel.detach();
  return [figure(`${one.name}: sonde`, `ns/${one.event}`, net, note)];
}

/** What the programs of a process ran, as the kernel tells of its descriptors. */
function runsOfProcess(pid: number): Runs {
  const seen = new Map<string, Runs>();
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    const of = (name: string): string =>
      new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? '';
    const runs = of('run_cnt');
    if (runs !== '') seen.set(of('prog_id'), { runs: Number(runs), ns: Number(of('run_time_ns')) });
  }
  const all = [...seen.values()];
  return {
    runs: all.reduce((sum, one) => sum + one.runs, 0),
    ns: all.reduce((sum, one) => sum + one.ns, 0),
  };
}

async function peerFigure(
  one: SourceCase,
  words: readonly string[],
  rounds: number,
  scale: number,
): Promise<Figure> {
  const name = `${one.name}: ${words.slice(0, 2).join(' ')}`;
  const unit = `ns/${one.event}`;
  const path = findProgram(words[0]!);
  if (path === undefined) return { name, value: Number.NaN, unit, note: 'not installed' };
  const started = new Started(path, words.slice(1), {});
  later(() => started.stop('SIGINT'));
  await delay(UP_MS);
  const net: number[] = [];
  if (!started.running) {
    return { name, value: Number.NaN, unit, note: started.complaints.trim().slice(0, 60) };
  }
  for (let round = 0; round < rounds; round += 1) {
    const before = runsOfProcess(started.pid);
    const events = await one.work(scale);
    const after = runsOfProcess(started.pid);
    const runs = after.runs - before.runs;
    if (runs > 0) net.push((after.ns - before.ns - runs * 35) / (events ?? eventsOf(one, runs)));
  }
  await started.stop('SIGINT');
  const note = net.length === 0 ? 'did not start here' : 'net of 35 ns a run';
  return figure(name, unit, net, note);
}

async function measure({ quick, names }: SourceOptions): Promise<readonly Figure[]> {
  const [rounds, scale] = quick ? [1, 0.2] : [3, 1];
  const switched = enableStats();
  later(() => switched.close());
  const figures: Figure[] = [];
  const wanted = CASES.filter(
    ({ name }) => !names?.length || names.some((one) => name.startsWith(one)),
  );
  for (const one of wanted) {
    figures.push(...(await sondeFigures(one, rounds, scale)));
    for (const words of one.peers) figures.push(await peerFigure(one, words, rounds, scale));
  }
  return figures;
}

interface SourceOptions extends RunOptions {
  /** How the names of the wanted cases begin; absent: all. */
  readonly names?: readonly string[];
}

export async function run(options: SourceOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [{ name: 'sources', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  const names = process.argv.slice(2).filter((word) => !word.startsWith('--'));
  printFigures(await run({ quick: process.argv.includes('--quick'), names }));
}
