// A collector in a process of its own (collector-child.ts), as a test that kills it sees it.

import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Cleanup } from './traffic/traffic.ts';

const CHILD = join(import.meta.dirname, 'collector-child.ts');

/** `words`: data folder, pin path, port, bytes of the ring, and perhaps more configuration as JSON. */
export function startChild(t: Cleanup, words: readonly string[]): ChildProcess {
  const child = fork(CHILD, [...words]);
  t.after(() => kill(child));
  return child;
}

export interface Said {
  readonly said: 'ready' | 'flush' | 'settle' | 'stop';
  readonly taken_over: boolean;
  /** False: the kernel has no compare-and-exchange, and two reports of a connection within some ns may count twice. */
  readonly claims: boolean;
}

/** What it says next; a child that ends before is an error. */
export async function hear(child: ChildProcess): Promise<Said> {
  const over = new AbortController();
  const { signal } = over;
  const ended = once(child, 'exit', { signal }).then(([code, by]) => {
    throw new Error(`the collector ended: ${code ?? by}`);
  });
  try {
    return await Promise.race([said(child, signal), ended]);
  } finally {
    ended.catch(() => undefined);
    over.abort();
  }
}

async function said(child: ChildProcess, signal: AbortSignal): Promise<Said> {
  const [message] = await once(child, 'message', { signal });
  return message as Said;
}

/** Has it do so; resolves when it has said that it did. */
export async function ask(
  child: ChildProcess,
  what: Exclude<Said['said'], 'ready'>,
): Promise<void> {
  child.send(what);
  assert.equal((await hear(child)).said, what);
}

/** It has ended when this has. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
