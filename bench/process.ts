// Every process and folder that a benchmark makes is noted here, so that all is undone at its end, on failure and on
// Ctrl-C alike.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const STOP_MS = 20_000;
const OUTPUT_BYTES_MAX = 64 << 20;

const run = promisify(execFile);
const undos: (() => unknown)[] = [];
let undoing: Promise<void> | undefined;
/** By a signal: nothing new is started. */
let ending = false;

/** Undone in the reverse order, each even if another fails. */
export function later(undo: () => unknown): void {
  undos.push(undo);
}

/** Undoes all that was noted; a second call waits for the first, so that the order holds. */
export function undoAll(): Promise<void> {
  undoing ??= undoEach().finally(() => {
    undoing = undefined;
  });
  return undoing;
}

async function undoEach(): Promise<void> {
  for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
    try {
      await undo();
    } catch (error) {
      process.stderr.write(`cleaning up: ${error instanceof Error ? error.message : error}\n`);
    }
  }
}

/** Runs `work`, then undoes what it noted, whatever became of it. */
export async function withCleanup<Value>(work: () => Promise<Value>): Promise<Value> {
  try {
    return await work();
  } finally {
    await undoAll();
  }
}

/** Ctrl-C and TERM undo everything before they end this process; a second one ends it at once. */
export function undoOnSignals(): void {
  const end = (status: number) => {
    if (ending) process.exit(status);
    ending = true;
    process.stderr.write('stopping what was started …\n');
    void undoAll().then(() => process.exit(status));
  };
  process.on('SIGINT', () => end(130));
  process.on('SIGTERM', () => end(143));
}

/** A folder that goes with the benchmark. */
export function makeFolder(): string {
  if (ending) throw new Error('no folder is made any more');
  const path = mkdtempSync(join(tmpdir(), 'sonde-bench-'));
  later(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A TCP port of loopback that was free just now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('loopback has no ports');
  return address.port;
}

/** A process of its own group, so that Ctrl-C at the terminal leaves its end to us, in order. */
export class Started {
  readonly child: ChildProcess;
  readonly #gone: Promise<void>;
  #output = '';
  #complaints = '';
  #wake: () => void = () => undefined;

  /** `stdout`: a descriptor that its output goes to instead. */
  constructor(
    file: string,
    words: readonly string[],
    { ipc = false, stdout = 'pipe' }: { ipc?: boolean; stdout?: number | 'pipe' } = {},
  ) {
    if (ending) throw new Error(`${file} is not started any more`);
    this.child = spawn(file, words, {
      stdio: ['pipe', stdout, 'pipe', ...(ipc ? (['ipc'] as const) : [])],
      detached: true,
    });
    this.#gone = new Promise((resolve) => {
      this.child.once('close', () => resolve());
      this.child.once('error', (error) => {
        this.#complaints += error.message;
        resolve();
      });
    });
    void this.#gone.then(() => this.#wake());
    this.child.stdin?.on('error', () => undefined); // it ended before we spoke; its output says how
    this.child.stdout?.on('data', (text) => {
      this.#output = (this.#output + text).slice(-OUTPUT_BYTES_MAX);
      this.#wake();
    });
    this.child.stderr?.on('data', (text) => {
      this.#complaints = (this.#complaints + text).slice(-OUTPUT_BYTES_MAX);
      this.#wake();
    });
    later(() => this.stop());
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get output(): string {
    return this.#output;
  }

  get complaints(): string {
    return this.#complaints;
  }

  get running(): boolean {
    const { exitCode, signalCode, pid } = this.child;
    return pid !== undefined && exitCode === null && signalCode === null;
  }

  /** Waits until `holds`, the process has ended, or `limit_ms` are over; whether it holds. */
  async until(holds: () => boolean, limit_ms: number): Promise<boolean> {
    const end = Date.now() + limit_ms;
    while (!holds() && this.running && Date.now() < end) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, Math.max(1, Math.min(100, end - Date.now())));
      });
    }
    return holds();
  }

  /** By `signal`, and by KILL where that has no effect. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.running) {
      this.child.kill('SIGCONT');
      this.child.kill(signal);
      const timer = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS);
      await this.#gone;
      clearTimeout(timer);
    }
    await this.#gone;
  }
}

/** Runs a program to its end. @throws Error with its words. */
export async function output(file: string, words: readonly string[]): Promise<string> {
  const { stdout } = await run(file, words, { maxBuffer: OUTPUT_BYTES_MAX });
  return stdout;
}

/** Runs a program in a process group of its own; its output when it ends well. @throws Error with its words. */
export async function finished(file: string, words: readonly string[]): Promise<string> {
  const started = new Started(file, words);
  await started.until(() => !started.running, 300_000);
  await started.stop();
  if (started.child.exitCode === 0) return started.output;
  throw new Error(`${file} ${words.join(' ')}: ${started.complaints.trim() || 'it failed'}`);
}
