// A sonde of the test's own, seen from outside: its processes, its folder, its ports and pins, and what its commands say.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findMount } from '../../src/bpf/features.ts';

const ROOT = join(import.meta.dirname, '../..');
const LAUNCHER = join(ROOT, 'sonde');
/** Far more than anything here takes on a busy machine: reaching it is a failure, not slowness. */
export const PATIENCE_MS = 60_000;

/** What is to be undone at a test's end, last first. */
export interface Cleanup {
  after(undo: () => unknown): void;
}

/** What a sonde has for itself, so that it meets no other one of this machine. */
export interface Place {
  readonly dir: string;
  readonly port: number;
  readonly metrics_port: number;
  readonly pin_path: string;
  readonly log_path: string;
  /** All of the above as variables of the environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly undo: (undo: () => unknown) => void;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

let made = 0;

/** `env` adds to the variables; an empty one takes it away. */
export async function makePlace(t: Cleanup, env: Record<string, string> = {}): Promise<Place> {
  made += 1;
  const dir = mkdtempSync(join(tmpdir(), 'sonde-e2e-'));
  const [port, metrics_port] = await freePorts();
  const pin_path = join(findMount('bpf') ?? '/sys/fs/bpf', `sonde-e2e-${process.pid}-${made}`);
  const log_path = join(dir, 'log');
  const undos: (() => unknown)[] = [];
  t.after(async () => {
    for (const undo of undos.reverse()) await undo();
    rmSync(pin_path, { recursive: true, force: true });
    rmSync(dir, { recursive: true, force: true });
  });
  const own = {
    EBPF_NET_DATA_DIR: join(dir, 'data'),
    EBPF_NET_LOG_FILE_PATH: log_path,
    EBPF_NET_INTAKE_HOST: '127.0.0.1',
    EBPF_NET_INTAKE_PORT: String(port),
    SONDE_COLLECTOR_PIN_PATH: pin_path,
    SONDE_COLLECTOR_INTERVAL: '1s',
    SONDE_REDUCER_LISTEN: `127.0.0.1:${port}`,
    SONDE_REDUCER_METRICS: `127.0.0.1:${metrics_port}`,
  };
  const undo = (one: () => unknown) => void undos.push(one);
  const set = Object.entries({ ...own, ...env }).filter(([, value]) => value !== '');
  return { dir, port, metrics_port, pin_path, log_path, env: Object.fromEntries(set), undo };
}

async function freePorts(): Promise<readonly [number, number]> {
  const servers = [createServer(), createServer()];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  }
  const ports = servers.map((server) => {
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    return address.port;
  });
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  return [ports[0]!, ports[1]!];
}

/** The environment without what would configure a sonde of the one who runs the tests. */
function bareEnv(): Record<string, string | undefined> {
  const own = Object.entries(process.env).filter(([name]) => !/^(EBPF_NET|SONDE)_/.test(name));
  return Object.fromEntries(own);
}

/** A process of sonde that runs until it is told to end, or ends by itself. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  #stdout: Buffer[] = [];
  #stderr = '';

  /** `through`: a command that starts it, such as `setpriv …`. */
  constructor(place: Place, words: readonly string[], options: StartOptions = {}) {
    const [file, ...args] = [...(options.through ?? []), LAUNCHER, ...words];
    const env = { ...bareEnv(), ...place.env, ...options.env };
    const child = spawn(file!, args, { env, cwd: place.dir, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    child.stdout?.on('data', (bytes: Buffer) => this.#stdout.push(bytes));
    child.stderr?.on('data', (text) => {
      this.#stderr += String(text);
    });
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve({ code, signal, ...this.printed }));
    });
    place.undo(() => killTree(child));
  }

  get pid(): number {
    assert.ok(this.child.pid !== undefined, 'it did not start');
    return this.child.pid;
  }

  get printed(): { readonly stdout: Buffer; readonly stderr: string } {
    return { stdout: Buffer.concat(this.#stdout), stderr: this.#stderr };
  }

  /** Waits until standard error, or what `text` yields, matches so many times. */
  async says(pattern: RegExp, times = 1, text = () => this.#stderr): Promise<void> {
    const all = new RegExp(pattern, 'gm');
    const found = () => [...text().matchAll(all)].length >= times;
    await until(found, () => `${pattern} in ${text()} ${this.#stderr}`, this);
  }

  get over(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.child.kill(signal);
    return await this.ended;
  }
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly through?: readonly string[];
  /** More words for the role. */
  readonly words?: readonly string[];
}

/** Starts `sonde run` and waits until both roles are up. */
export async function startRun(
  place: Place,
  words: readonly string[] = [],
  options: StartOptions = {},
): Promise<Running> {
  const running = new Running(place, ['run', ...words], options);
  await running.says(/^sonde: collector: udp /);
  return running;
}

/** Starts the reducer alone and waits until it listens. */
export async function startReducer(place: Place, options: StartOptions = {}): Promise<Running> {
  const before = countLog(place, /"msg":"listening"/g);
  const running = new Running(place, ['reducer', ...(options.words ?? [])], options);
  await running.says(/"msg":"listening"/, before + 1, () => readLog(place));
  return running;
}

/** Starts the collector alone and waits until its programs run. */
export async function startCollector(place: Place, options: StartOptions = {}): Promise<Running> {
  const before = countLog(place, /"source":"udp"/g);
  const running = new Running(place, ['kernel-collector', ...(options.words ?? [])], options);
  await running.says(/"source":"udp"/, before + 1, () => readLog(place));
  return running;
}

export function readLog({ log_path }: Place): string {
  return existsSync(log_path) ? readFileSync(log_path, 'utf8') : '';
}

export function countLog(place: Place, pattern: RegExp): number {
  return [...readLog(place).matchAll(pattern)].length;
}

/** Runs a command to its end. */
export function command(
  place: Place,
  words: readonly string[],
  options: StartOptions = {},
): Promise<Ended> {
  return new Running(place, words, options).ended;
}

export type Row = Readonly<Record<string, string | number>>;

/** What the running reducer answers, after all that the kernel saw is stored. Throws with its words. */
export async function ask(place: Place, sql: string, more: readonly string[] = ['--fresh']) {
  const at = ['--reducer', `127.0.0.1:${place.port}`];
  const { code, stdout, stderr } = await command(place, [
    'query',
    sql,
    '--format',
    'json',
    ...at,
    ...more,
  ]);
  if (code !== 0) throw new Error(`sonde query ended with ${code}: ${stderr}`);
  return JSON.parse(stdout.toString('utf8')) as readonly Row[]; // the format is an array of objects
}

/** Waits for a condition; fails after far too long, or when the process that it is about has ended. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: () => string,
  process?: Running,
): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (process?.over && !(await holds())) assert.fail(`it ended before: ${what()}`);
    assert.ok(Date.now() < end, `still waiting for ${what()}`);
    await delay(50);
  }
}

export interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly words: readonly string[];
}

/** All processes of this machine whose command line can be read. */
export function processes(): readonly Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
        const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
        const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return state === 'Z' ? [] : [{ pid: Number(name), parent: Number(parent), words }];
      } catch {
        return []; // it ended while we looked
      }
    });
}

/** The process of a role below a supervisor. */
export function role(run: Running, name: 'kernel-collector' | 'reducer'): number {
  const found = processes().find(({ parent, words }) => parent === run.pid && words.includes(name));
  assert.ok(found !== undefined, `no ${name} runs below ${run.pid}`);
  return found.pid;
}

/** Processes that have the place's folder in their environment, whoever their parent is. */
export function leftBehind({ dir }: Place): readonly Process[] {
  return processes().filter(({ pid }) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(dir);
    } catch {
      return false; // it ended, or is not ours
    }
  });
}

function killTree(child: ChildProcess): void {
  const below = processes().filter(({ parent }) => parent === child.pid);
  for (const { pid } of below) killHard(pid);
  if (child.pid !== undefined && child.exitCode === null) killHard(child.pid);
}

export function killHard(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it ended before
  }
}

export interface Attached {
  /** Ids of maps that are pinned for this place. */
  readonly maps: readonly number[];
  /** Names of programs that use one of them. */
  readonly programs: readonly string[];
}

/** Undefined: bpftool is missing, only pins can be looked at. */
export async function attached(
  place: Place,
  maps?: readonly number[],
): Promise<Attached | undefined> {
  const ids = maps ?? (await pinnedMaps(place));
  const programs = await bpftool('prog');
  if (ids === undefined || programs === undefined) return undefined;
  const ours = programs.filter(({ map_ids }) => map_ids?.some((id) => ids.includes(id)));
  return { maps: ids, programs: ours.map(({ name }) => name ?? '').sort() };
}

async function pinnedMaps({ pin_path }: Place): Promise<readonly number[] | undefined> {
  if (!existsSync(pin_path)) return [];
  const ring = await bpftool('map', 'show', 'pinned', join(pin_path, 'sonde_ring'));
  return ring?.map(({ id }) => id);
}

interface BpftoolRow {
  readonly id: number;
  readonly name?: string;
  readonly map_ids?: readonly number[];
}

function bpftool(...words: string[]): Promise<readonly BpftoolRow[] | undefined> {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  return new Promise((resolve, reject) => {
    const env = { ...process.env, PATH: path };
    const options = { env, maxBuffer: 1 << 26 };
    execFile('bpftool', ['-j', ...words], options, (error, stdout) => {
      if (error === null) resolve([JSON.parse(stdout)].flat());
      else if (error.code === 'ENOENT') resolve(undefined);
      else reject(error);
    });
  });
}
