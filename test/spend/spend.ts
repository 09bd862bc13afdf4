// Runs the spending tool (spend.c): a process that does a known amount of what the kernel-side probes count.

import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Cleanup } from '../traffic/traffic.ts';

const ROOT = join(import.meta.dirname, '../..');
const SOURCE = join(import.meta.dirname, 'spend.c');
const TOOL = join(ROOT, 'build/spend');

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
  /** What it counted, when it has done its work. Rejects where it ended before. */
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
    this.spent = new Promise((done, failed) => {
      createInterface({ input: child.stdout }).once('line', (line) => done(JSON.parse(line)));
      child.once('exit', (code, signal) => failed(new Error(`spend ended: ${code ?? signal}`)));
    });
    this.spent.catch(() => undefined); // whoever wants to know asks for it
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Lets it end, and waits for that. */
  async end(): Promise<void> {
    const gone = this.gone();
    this.#child.stdin.end();
    await gone;
  }

  /** Resolves when it has ended, however that is. */
  async gone(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      await once(this.#child, 'exit');
    }
  }
}
