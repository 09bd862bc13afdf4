// HUP: a role goes on in a new log file, reads its configuration again and takes over what is live.

import { diffConfig, readsKey } from '../config/describe.ts';
import { ConfigError } from '../config/error.ts';
import type { Log } from '../config/log.ts';
import type { Role } from '../config/role.ts';
import type { Config } from '../config/schema.ts';
import type { Call } from './call.ts';
import { configOf } from './options.ts';

/** `apply` takes over what is live beside the log's level. Returns what undoes it. */
export function reloadOnHup(
  role: Role,
  call: Call,
  first: Config,
  log: Log,
  apply: (next: Config) => void = () => undefined,
): () => void {
  let now = first;
  const reload = () => {
    log.reopen();
    try {
      const next = configOf(role, call).config;
      // What waits for a start is told against what runs, not against a file that was taken back since.
      const diff = { live: diffConfig(now, next).live, restart: diffConfig(first, next).restart };
      apply(next);
      now = next;
      takeLevel(log, next, () => say(role, diff, log));
    } catch (error) {
      const is_told = error instanceof Error && ('cure' in error || error instanceof ConfigError);
      const why = is_told ? { reason: error.message.trimEnd() } : { err: error };
      log.logger.error(why, 'the configuration in force stays: the new one is faulty');
    }
  };
  process.on('SIGHUP', reload);
  return () => process.off('SIGHUP', reload);
}

/** What is said of it is said at the more talkative of the two levels. */
function takeLevel({ logger, setLevel }: Log, next: Config, told: () => void): void {
  const { level } = next.log;
  const quieter = (logger.levels.values[level] ?? 0) > logger.levelVal;
  if (quieter) told();
  setLevel(level);
  if (!quieter) told();
}

function say(role: Role, { live, restart }: ReturnType<typeof diffConfig>, { logger }: Log): void {
  const keysOf = (changes: typeof live) =>
    changes.map(({ key }) => key).filter((key) => readsKey(role, key));
  logger.info({ changed: keysOf(live) }, 'configuration read again');
  for (const key of keysOf(restart)) logger.warn({ key }, `${key} changes at the next start`);
}
