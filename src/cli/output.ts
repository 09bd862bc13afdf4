// The one way in which commands write what they were asked for to standard output.

import { writeSync } from 'node:fs';
import { CliError } from './failure.ts';

const STDOUT = 1;
/** A reader that is slow is asked again after so long. */
const RETRY_MS = 5;

/**
 * Synchronous, so that a pipe gets all of it before the process ends. A reader that has seen enough (`| head`) is no fault.
 * @throws {CliError} where it cannot be written: a full disk.
 */
export function print(output: string | Buffer): void {
  const bytes = Buffer.from(output);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(STDOUT, bytes, at);
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : '';
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN') throw unwritable(error);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}

/** A full disk, in the words that every command has for it. */
export function unwritable(error: unknown): CliError {
  return new CliError(`standard output: ${wordsOf(error)}`);
}

/** `ENOSPC: no space left on device, write` without the code and the call. */
function wordsOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return /^[A-Z0-9]+: (.*), \w+$/.exec(message)?.[1] ?? message;
}
