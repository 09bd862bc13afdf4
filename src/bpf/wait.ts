// Waiting for kernel programs that run at this moment.
import { native } from './native.ts';

/** Far more than a program may take: where the kernel offers no barrier. */
const PATIENCE_MS = 100;

/**
 * Returns when every program that ran at the call has ended; those that begin meanwhile see all writes to maps that came
 * before the call. Takes an RCU grace period: 5 to 40 ms, during which this thread sleeps.
 */
export function waitForPrograms(): void {
  if (native().programsWait()) return;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PATIENCE_MS);
}
