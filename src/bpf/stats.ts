// The kernel's run counters of all programs. They cost some 40 ns a run while they are on.
import { type FdHandle, native } from './native.ts';

export class StatsSwitch {
  readonly #handle: FdHandle;

  constructor(handle: FdHandle) {
    this.#handle = handle;
  }

  /** Ends the counting, unless another process asks for it too. */
  close(): void {
    native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Makes the kernel count runs and run time of programs, until `close` or the end of this process. */
export function enableStats(): StatsSwitch {
  return new StatsSwitch(native().statsEnable());
}
