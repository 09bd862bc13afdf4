// A collector in a process of its own (collector-child.ts), as a test that kills it sees it.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Cleanup } from './traffic/traffic.ts';

const CHILD = join(import.meta.dirname, 'collector-child.ts');

/** `words`: data folder, pin path, port, bytes of the ring, and perhaps more configuration as JSON. */
export function startChild(t: Cleanup, words: readonly string[]): ChildProcess {
  const child = fork(CHILD, [...words]);
  t.after(() => child.kill('SIGKILL'));
  return child;
}

/** What it says next. */
export async function hear(
  child: ChildProcess,
): Promise<{ readonly said: string; readonly taken_over: boolean }> {
  const [message] = await once(child, 'message');
  return message;
}
