// How a role ends: INT and TERM stop it in order, a second one at once; a parent that is gone stops it too; a crash
// detaches first.

import type { Logger } from 'pino';

export interface Lifetime {
  /** Resolves with why the process should stop. */
  readonly ended: Promise<string>;
}

export function lifetime(log: Logger, abandon: () => void): Lifetime {
  const ended = new Promise<string>((resolve) => {
    let asked = false;
    const ask = (why: string) => {
      if (asked) process.exit(1); // the second time: at once
      asked = true;
      resolve(why);
    };
    process.on('SIGINT', () => ask('SIGINT'));
    process.on('SIGTERM', () => ask('SIGTERM'));
    const orphan = () => resolve('the supervisor is gone');
    if (process.connected) process.on('disconnect', orphan);
    else if (process.send !== undefined) orphan(); // it had one, which did not live to see us start
    process.channel?.unref(); // a listener holds it open, and with it the process that has stopped
  });
  const crash = (error: unknown) => {
    log.fatal({ err: error }, 'a fault in sonde itself');
    try {
      abandon();
    } finally {
      process.exit(1);
    }
  };
  process.on('uncaughtException', crash);
  process.on('unhandledRejection', crash);
  return { ended };
}

/** Tells the supervisor, where there is one, that the role is up. */
export function tellParent(message: Readonly<Record<string, unknown>>): void {
  if (process.connected) process.send?.(message, () => undefined); // it may end meanwhile
}
