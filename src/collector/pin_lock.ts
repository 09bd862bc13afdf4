// One collector for a folder of pins. The lock is an abstract Unix socket: it goes with its process, whatever way that
// ends, and leaves no file.

import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import { resolve as absolute, basename, dirname, join } from 'node:path';
import { OperatorError } from '../wire/error.ts';

export interface PinLock {
  release(): void;
}

/** @throws {OperatorError} `pins_in_use` while another collector holds the same folder. */
export function lockPins(pin_path: string): Promise<PinLock> {
  const name = createHash('sha256')
    .update(placeOf(absolute(pin_path)))
    .digest('hex')
    .slice(0, 16);
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', () => {
      const message = `Cannot use ${pin_path} for pins: another collector of this machine has it`;
      reject(
        new OperatorError('pins_in_use', message, 'stop it, or name another collector.pin_path'),
      );
    });
    server.listen(`\0sonde-${name}`, () => {
      server.unref();
      resolve({ release: () => server.close() });
    });
  });
}

/** One name for a folder, however it is spelled; what does not exist yet, or may not be looked at, is named by its parent. */
function placeOf(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    const parent = dirname(path);
    if (parent === path) throw error;
    return join(placeOf(parent), basename(path));
  }
}
