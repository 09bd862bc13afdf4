// Starts the server and the client of peer.ts, and reads what they counted.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const PEER = join(import.meta.dirname, 'peer.ts');

/** A test's context. */
interface Cleanup {
  after(undo: () => unknown): void;
}

export type Counts = Readonly<Record<string, number>>;
export interface Line {
  readonly port?: number;
  readonly pid: number;
  readonly counts?: Counts;
}

/** A run of peer.ts, in a network namespace if told; killed at the latest at the test's end. */
export class Peer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(t: Cleanup, words: readonly string[], netns?: string) {
    const inside = netns === undefined ? [] : ['ip', 'netns', 'exec', netns];
    const [file, ...args] = [...inside, process.execPath, PEER, ...words];
    this.#child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    t.after(() => this.#child.kill('SIGKILL'));
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  async line(): Promise<Line> {
    const { value, done } = await this.#lines.next();
    assert.ok(done !== true, 'the peer ended without a word');
    return JSON.parse(value);
  }

  /** A line on its standard input. */
  say(): void {
    this.#child.stdin!.write('\n');
  }

  end(): Promise<Line> {
    this.#child.stdin!.end();
    return this.line();
  }
}
