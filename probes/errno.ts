// Names of errors as programs know them: ENOENT for 2.

import { getSystemErrorMap } from 'node:util';

/** What a call returns inside the kernel when a signal cuts it short; the program sees EINTR, or that it goes on. */
const RESTARTS: ReadonlyMap<number, string> = new Map([
  [512, 'ERESTARTSYS'],
  [513, 'ERESTARTNOINTR'],
  [514, 'ERESTARTNOHAND'],
  [516, 'ERESTART_RESTARTBLOCK'],
]);

/** Empty for 0. */
export function errnoName(errno: number): string {
  if (errno === 0) return '';
  return getSystemErrorMap().get(-errno)?.[0] ?? RESTARTS.get(errno) ?? `errno ${errno}`;
}
