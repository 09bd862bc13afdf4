// What the `http` source costs a server that is asked as fast as it can: nginx and wrk over loopback, so that both ends of
// each request are seen. Its programs are attached and detached turn about. `node bench/http.ts` prints it.

import { BpfObject } from '../src/bpf/object.ts';
import type { BpfProgram } from '../src/bpf/program.ts';
import { enableStats } from '../src/bpf/stats.ts';
import { type Figure, figure, printFigures, type RunOptions, ratios } from './figure.ts';
import { attach, OBJECT } from './floor.ts';
import { wrk } from './loads.ts';
import { type Nginx, startNginx } from './nginx.ts';
import { later, undoOnSignals, withCleanup } from './process.ts';
import { cannotRun } from './sonde.ts';

const PROGRAMS = ['skb_in', 'skb_out', 'tcp_state', 'tcp_destroy'] as const;
/** Nobody reads it meanwhile, and it must not be full before the end. */
const RING_BYTES = 256 << 20;
const CONNECTIONS = 16;

interface Turn {
  readonly per_second: number;
  readonly cpu_us: number;
}

function load(): readonly BpfProgram[] {
  const object = BpfObject.open(OBJECT, { name: 'bench' });
  later(() => object.close());
  const programs = PROGRAMS.map((name) => object.program(name));
  for (const program of object.programs.values()) program.autoload = programs.includes(program);
  object.rodata({ http_enabled: true, tcp_enabled: false });
  object.map('sonde_ring').maxEntries = RING_BYTES;
  object.load();
  return programs;
}

async function turn(nginx: Nginx, close: boolean, seconds: number): Promise<Turn> {
  const before = nginx.cpuUs();
  const load = await wrk({ port: nginx.port, connections: CONNECTIONS, seconds, close });
  const cpu_us = (nginx.cpuUs() - before + load.cpu_us) / load.requests;
  return { per_second: load.requests / load.seconds, cpu_us };
}

/** A run of each program, and what all of them take of a request. */
async function runs(
  programs: readonly BpfProgram[],
  nginx: Nginx,
  close: boolean,
): Promise<Figure[]> {
  const stats = enableStats();
  const before = programs.map((program) => program.stats());
  const { requests } = await wrk({ port: nginx.port, connections: CONNECTIONS, seconds: 1, close });
  stats.close();
  const load = close ? 'a connection each' : 'keep-alive';
  let all = 0;
  const figures = programs.map((program, i): Figure => {
    const after = program.stats();
    const count = after.run_count - before[i]!.run_count;
    const ns = after.run_time_ns - before[i]!.run_time_ns;
    all += ns;
    return {
      name: `${load}: ${program.name}`,
      value: count > 0 ? ns / count : 0,
      unit: 'ns/run',
      note: `${(count / requests).toFixed(2)} runs a request; some 40 ns of it are the counting`,
    };
  });
  const note = 'both ends, with the counting';
  return [
    ...figures,
    { name: `${load}: all programs`, value: all / requests, unit: 'ns/request', note },
  ];
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const rounds = options.quick ? 2 : 8;
  const programs = load();
  const nginx = await startNginx();
  const figures: Figure[] = [];
  for (const close of [false, true]) {
    const without: Turn[] = [];
    const with_: Turn[] = [];
    await turn(nginx, close, 1);
    for (let i = 0; i < rounds; i += 1) {
      for (const on of i % 2 === 0 ? [false, true] : [true, false]) {
        const links = on ? programs.map(attach) : [];
        (on ? with_ : without).push(await turn(nginx, close, 1));
        for (const link of links) link.close();
      }
    }
    const name = close ? 'a connection each' : 'keep-alive';
    const rates = [without, with_].map((turns) => turns.map(({ per_second }) => per_second));
    const cpus = [without, with_].map((turns) => turns.map(({ cpu_us }) => cpu_us));
    figures.push(
      figure(`${name}: without`, 'requests/s', rates[0]!),
      figure(`${name}: with http`, 'requests/s', rates[1]!),
      figure(`${name}: RATIO`, '1', ratios(rates[0]!, rates[1]!)),
      figure(`${name}: CPU without`, 'us/request', cpus[0]!),
      figure(`${name}: CPU with http`, 'us/request', cpus[1]!),
    );
    const links = programs.map(attach);
    figures.push(...(await runs(programs, nginx, close)));
    for (const link of links) link.close();
  }
  return figures;
}

export async function run(options: RunOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [{ name: 'http', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
