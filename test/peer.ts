// Programs that tests start as the other end, and what to say where one is not here.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Cleanup } from './traffic/traffic.ts';

/** Why a test cannot run: a program that is not here. */
export function lacksProgram(...programs: readonly string[]): string | false {
  const missing = programs.find(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
  );
  return missing === undefined ? false : `needs ${missing}`;
}

/** A program that talks by lines. */
export class Peer {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(t: Cleanup, command: string, words: readonly string[], root?: string) {
    const [name, all] =
      root === undefined ? [command, words] : ['chroot', [root, command, ...words]];
    this.child = spawn(name, all, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
    t.after(() => this.child.kill('SIGKILL'));
  }

  get pid(): number {
    return this.child.pid!;
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    assert.ok(done !== true, 'a peer has ended');
    return value;
  }

  go(): void {
    this.child.stdin!.write('\n');
  }

  /** Ends its input; what it says last. */
  async finish(): Promise<string> {
    this.child.stdin!.end();
    return this.line();
  }

  async ended(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null)
      await once(this.child, 'exit');
  }
}
