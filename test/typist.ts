// Types into interactive bashes behind pseudo terminals: test/typist.py, by messages.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { NO_LIVE } from './live.ts';
import type { Cleanup } from './traffic/traffic.ts';

export const BASH = '/bin/bash';
export const NO_PTY =
  spawnSync('python3', ['-c', 'import termios']).status !== 0 ? 'needs python3, to type' : NO_LIVE;

export interface Shell {
  readonly name: string;
  readonly pid: number;
  readonly tty: string;
}

export class Typist {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor(t: Cleanup) {
    const script = join(import.meta.dirname, 'typist.py');
    this.#child = spawn('python3', [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    t.after(() => this.#child.kill('SIGKILL'));
  }

  async open(name: string, options: { root?: string; uid?: number } = {}): Promise<Shell> {
    const argv = [BASH, '--norc', '--noprofile', '-i'];
    return (await this.#ask({ do: 'open', name, argv, ...options })) as Shell;
  }

  /** Types a line and waits for what it prints; `marker` must not stand in the line itself. */
  async type({ name }: Shell, text: string, marker = 'ready> '): Promise<void> {
    await this.#ask({ do: 'type', name, text: `${text}\n`, until: marker });
  }

  async exit({ name }: Shell): Promise<void> {
    await this.#ask({ do: 'type', name, text: 'exit\n', until: 'exit' });
    await this.#ask({ do: 'end', name });
  }

  async #ask(order: object): Promise<unknown> {
    this.#child.stdin!.write(`${JSON.stringify(order)}\n`);
    const { value, done } = await this.#answers.next();
    assert.ok(done !== true, 'the typist has ended');
    return JSON.parse(value);
  }
}
