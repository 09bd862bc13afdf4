// The loads: wrk and the tool in load/, each over loopback and bounded in time, with what they took and what they did.

import { execFile } from 'node:child_process';
import { existsSync, globSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { needProgram } from './packages.ts';
import { finished, Started } from './process.ts';

const ROOT = join(import.meta.dirname, '..');
const TOOL = join(ROOT, 'build/bench-load');
const FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-pthread'];

/** The core that clients run on; servers take the first. */
const CLIENT_CORE = '1';

const HOLD_MS = 120_000;

export interface Load {
  readonly requests: number;
  readonly errors: number;
  readonly seconds: number;
  /** Processor time of the client, in microseconds. */
  readonly cpu_us: number;
}

export interface PacedLoad extends Load {
  readonly p50_us: number;
  readonly p90_us: number;
  readonly p99_us: number;
}

export type Words = Readonly<Record<string, string | number>>;

/** Compiles the tool where it is older than its sources; the path of the program. */
export async function buildTool(): Promise<string> {
  const folder = join(import.meta.dirname, 'load');
  const sources = globSync('*.[ch]', { cwd: folder }).map((name) => join(folder, name));
  const newest = Math.max(...sources.map((path) => statSync(path).mtimeMs));
  if (existsSync(TOOL) && statSync(TOOL).mtimeMs > newest) return TOOL;
  mkdirSync(join(ROOT, 'build'), { recursive: true });
  const partial = `${TOOL}.${process.pid}`;
  const units = sources.filter((path) => path.endsWith('.c'));
  await promisify(execFile)('cc', [...FLAGS, ...units, '-o', partial]);
  renameSync(partial, TOOL);
  return TOOL;
}

/** One mode of the tool, to its end; its line of figures. */
export async function tool<Result>(
  mode: 'http' | 'udp' | 'exchange',
  words: Words,
): Promise<Result> {
  const pairs = Object.entries(words).map(([name, value]) => `${name}=${value}`);
  return lastLine(await finished(await buildTool(), [mode, ...pairs]));
}

function lastLine<Result>(text: string): Result {
  // The tool's own figures, whose shape the C side fixes.
  return JSON.parse(text.trim().split('\n').at(-1)!) as Result;
}

export interface WrkOptions {
  readonly port: number;
  readonly connections: number;
  readonly seconds: number;
  /** A connection for each request. */
  readonly close: boolean;
}

/** The command line of wrk with one thread, on a core of its own. */
async function wrkWords({ port, connections, seconds, close }: WrkOptions): Promise<string[]> {
  const program = await needProgram('wrk', 'wrk');
  const words = ['-t1', `-c${connections}`, `-d${seconds}s`, `http://127.0.0.1:${port}/`];
  if (close) words.unshift('-H', 'Connection: close');
  return ['taskset', '-c', CLIENT_CORE, program, ...words];
}

/** wrk in the background, for as long as it is asked to run. */
export async function startWrk(options: WrkOptions): Promise<Started> {
  const [program, ...words] = await wrkWords(options);
  return new Started(program!, words); // taskset becomes wrk: the process is wrk's own
}

/** As many requests as the server answers. */
export async function wrk(options: WrkOptions): Promise<Load> {
  const words = ['exec', ...(await wrkWords(options))];
  const text = await finished(await buildTool(), words);
  const done = /(\d+) requests in ([\d.]+)(m?s)/.exec(text);
  if (done === null) throw new Error(`wrk said: ${text}`);
  const sockets = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  const { cpu_us } = lastLine<{ cpu_us: number }>(text);
  return {
    requests: Number(done[1]),
    seconds: Number(done[2]) / (done[3] === 'ms' ? 1000 : 1),
    errors: (sockets?.slice(1) ?? []).reduce((sum, count) => sum + Number(count), 0),
    cpu_us,
  };
}

/** A fixed rate, open loop: latency counts from when a request was due. */
export function paced(words: {
  readonly port: number;
  readonly rate: number;
  readonly threads: number;
  readonly seconds: number;
  readonly close: 0 | 1;
}): Promise<PacedLoad> {
  return tool<PacedLoad>('http', words);
}

/** Connections held open by the tool, both ends in one process. */
export class Held {
  readonly connections: number;
  /** Why there are not as many as were asked for; empty: there are. */
  readonly why: string;
  readonly #process: Started;

  static async open(count: number): Promise<Held> {
    const started = new Started(await buildTool(), ['hold', `count=${count}`]);
    if (!(await started.until(() => started.output.includes('\n'), HOLD_MS))) {
      throw new Error(`no connections: ${started.complaints}`);
    }
    return new Held(started, lastLine(started.output));
  }

  private constructor(started: Started, opened: { connections: number; why: string }) {
    this.#process = started;
    this.connections = opened.connections;
    this.why = opened.why;
  }

  /** One byte over each of them. */
  async exchange(): Promise<void> {
    const lines = () => this.#process.output.split('\n').length;
    const before = lines();
    this.#process.child.stdin?.write('\n');
    if (!(await this.#process.until(() => lines() > before, HOLD_MS))) {
      throw new Error(`no exchange: ${this.#process.complaints}`);
    }
  }

  async close(): Promise<void> {
    this.#process.child.stdin?.end();
    await this.#process.until(() => !this.#process.running, HOLD_MS);
    await this.#process.stop();
  }
}

/** So many requests, each on a connection of its own: the truth that tools' counts are held against. */
export function counted(words: {
  readonly port: number;
  readonly count: number;
  readonly threads: number;
  readonly seconds: number;
}): Promise<PacedLoad> {
  return tool<PacedLoad>('http', { ...words, close: 1 });
}
