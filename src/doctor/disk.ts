// Checks of the places on disk: data folder, room for the spool, what waits in it, the log file.

import { dirname, join } from 'node:path';
import { bytes, type Check, fail, ok, skip, warn } from './check.ts';
import type { Machine } from './machine.ts';

/** Below this not even a few batches fit. */
const FREE_BYTES_MIN = 16 * 1024 * 1024;
/** Shares of spool_bytes_max. */
const BACKLOG_MUCH = 0.5;
const BACKLOG_FULL = 0.9;

/** The path itself, or the nearest folder above it that exists: the one it would be made in. */
function existing(machine: Machine, path: string): string {
  let at = path;
  while (!machine.has(at) && dirname(at) !== at) at = dirname(at);
  return at;
}

function spoolSize(machine: Machine, data_dir: string): number {
  const dir = join(data_dir, 'spool');
  return machine.list(dir).reduce((sum, name) => sum + machine.size(join(dir, name)), 0);
}

export const data_dir: Check = {
  id: 'data-dir',
  what: 'the data folder can be written',
  why: 'spool and embedded store live there; without it neither collector nor reducer starts',
  cure: `Name a folder that this user may write, or give it to this user:
  sonde … --data-dir DIR
  install -d -o USER -m 700 DIR`,
  look: ({ machine, config }) => {
    const at = existing(machine, config.data_dir);
    if (!machine.writable(at)) {
      return fail(`${at} cannot be written by ${machine.user}`);
    }
    return ok(at === config.data_dir ? at : `${config.data_dir}, to be made in ${at}`);
  },
};

export const disk_space: Check = {
  id: 'disk-space',
  what: 'there is room for the spool',
  why: 'while the reducer is away, rows wait on disk; on a full disk they wait in memory, then the oldest go, counted',
  cure: `Make room, name another data_dir, or lower collector.spool_bytes_max:
  df -h DIR`,
  look: ({ machine, config }) => {
    const at = existing(machine, config.data_dir);
    const free = machine.free(at);
    if (free === undefined) return skip(`the file system of ${at} does not tell`);
    const max = config.collector.spool_bytes_max;
    const wanted = Math.max(0, max - spoolSize(machine, config.data_dir));
    const found = `${bytes(free)} free, the spool may yet take ${bytes(wanted)}`;
    if (free < FREE_BYTES_MIN) return fail(found);
    return free < wanted ? warn(found) : ok(found);
  },
};

export const spool: Check = {
  id: 'spool',
  what: 'rows do not pile up in the spool',
  why: 'what waits there has not reached the reducer; when it is full, the oldest rows are dropped, and counted as spool_full',
  cure: `See the checks \`intake\` and \`reducer\`: it is away, or slower than what comes in. A larger spool bridges a longer absence:
collector.spool_bytes_max`,
  look: ({ machine, config }) => {
    const dir = join(config.data_dir, 'spool');
    if (!machine.has(dir)) return ok('none yet');
    const used = spoolSize(machine, config.data_dir);
    const max = config.collector.spool_bytes_max;
    const found = `${bytes(used)} of ${bytes(max)}`;
    if (used >= max * BACKLOG_FULL) return warn(`${found}: full, the oldest rows go`);
    return used >= max * BACKLOG_MUCH ? warn(found) : ok(found);
  },
};

export const log_file: Check = {
  id: 'log-file',
  what: 'the log file can be written',
  why: 'else the log goes to standard error, and is gone with the terminal',
  cure: `Name a file in a folder that this user may write, or log to standard error on purpose:
  sonde … --log-file-path FILE
  sonde … --log-console --no-log-file`,
  look: ({ machine, config: { log } }) => {
    if (!log.file) return skip('switched off: the log goes to standard error');
    const at = machine.has(log.file_path) ? log.file_path : dirname(log.file_path);
    if (!machine.has(at)) return warn(`${at} does not exist`);
    return machine.writable(at)
      ? ok(log.file_path)
      : warn(`${at} cannot be written by ${machine.user}`);
  },
};
