// Runs the spending tool (spend.c): a process that does a known amount of what the kernel-side probes count.

import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cleanup } from '../traffic/traffic.ts';

const ROOT = join(import.meta.dirname, '../..');
const SOURCE = join(import.meta.dirname, 'spend.c');
const TOOL = join(ROOT, 'build/spend');
const REST_MS = 20;

export type Spent = Readonly<Record<string, number>> & { readonly pid: number };
export type SpendMode = 'calls' | 'sleeps' | 'files' | 'faults' | 'switches' | 'children' | 'eat';

/** Compiles the tool where it is older than its source; the path of the program. */
export function buildSpend(): string {
  if (existsSync(TOOL) && statSync(TOOL).mtimeMs > statSync(SOURCE).mtimeMs) return TOOL;
  mkdirSync(join(ROOT, 'build'), { recursive: true });
  const partial = `${TOOL}.${process.pid}`;
  execFileSync('cc', ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', SOURCE, '-o', partial]);
  renameSync(partial, TOOL);
  return TOOL;
}

/** One run of the tool. */
export class Spend {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  /** What it counted, when it has done its work and sleeps. Rejects where it ended before. */
  readonly spent: Promise<Spent>;

  static start(t: Cleanup, mode: SpendMode, ...words: readonly number[]): Spend {
    const spend = new Spend([mode, ...words.map(String)]);
    t.after(() => spend.#child.kill('SIGKILL'));
    return spend;
  }

  private constructor(words: readonly string[]) {
    const child = spawn(buildSpend(), words, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    child.stdin.on('error', () => undefined); // it ended before we did
    const line = new Promise<Spent>((done, failed) => {
      createInterface({ input: child.stdout }).once('line', (text) => done(JSON.parse(text)));
      child.once('exit', (code, signal) => failed(new Error(`spend ended: ${code ?? signal}`)));
    });
    this.spent = line.then(async (spent) => {
      await asleep(spent.pid);
      return spent;
    });
    this.spent.catch(() => undefined); // whoever wants to know asks for it
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Lets `eat` and `files` begin. */
  begin(): void {
    this.#child.stdin.write('\n');
  }

  /** Lets it end, and waits for that. */
  async end(): Promise<void> {
    const gone = this.gone();
    this.#child.stdin.end();
    await gone;
  }

  /** Resolves when it has ended, with the signal that ended it. */
  async gone(): Promise<NodeJS.Signals | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      await once(this.#child, 'exit');
    }
    return this.#child.signalCode;
  }
}

/** Until it sleeps: its line was written before that, and its counters in /proc stand still only after. */
export async function asleep(pid: number): Promise<void> {
  let before = '';
  for (;;) {
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.charAt(0);
    const now = state + readFileSync(`/proc/${pid}/schedstat`, 'utf8');
    if (state === 'S' && now === before) return;
    before = now;
    await delay(REST_MS);
  }
}
