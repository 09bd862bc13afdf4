// One process at a time in a folder. The lock file names its owner by pid and start time, so that a lock left behind
// by kill -9 is recognised even when the pid was given to another process since.
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OperatorError } from './error.ts';

interface Owner {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of /proc/PID/stat. */
  readonly start: string;
  readonly boot: string;
}

/** The running kernel's boot; empty where it cannot be read. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    // Without /proc every boot looks the same; the pid check below still holds.
    return '';
  }
}

function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command name may hold spaces and brackets: fields count from the last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie waits for its parent and holds nothing any more.
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    // No such process.
    return undefined;
  }
}

function readOwner(path: string): { text: string; alive: Owner | undefined } | undefined {
  try {
    const text = readFileSync(path, 'utf8');
    const [pid, start, boot] = text.trim().split(' ');
    const same = boot === bootId() && startOf(Number(pid)) === start;
    return { text, alive: same ? { pid: Number(pid), start, boot } : undefined };
  } catch {
    // No lock file.
    return undefined;
  }
}

/** Creates `path` with `text` in one step, or tells that it exists. */
function claim(path: string, own: string, text: string): boolean {
  writeFileSync(own, text);
  try {
    linkSync(own, path);
    return true;
  } catch {
    // Someone else's link was first; the caller looks at it.
    return false;
  } finally {
    rmSync(own, { force: true });
  }
}

/** Takes the folder's lock. Throws OperatorError `spool_in_use` when a live process has it. */
export function lockFolder(dir: string): { release(): void } {
  const path = join(dir, 'lock');
  const text = `${process.pid} ${startOf(process.pid) ?? ''} ${bootId()}\n`;
  for (let attempt = 0; attempt < 8; attempt++) {
    if (claim(path, `${path}.${process.pid}`, text)) {
      return { release: () => rmSync(path, { force: true }) };
    }
    const found = readOwner(path);
    if (!found) continue;
    if (found.alive) {
      const message = `Cannot open ${dir}: process ${found.alive.pid} is using it`;
      throw new OperatorError('spool_in_use', message, 'stop that process or name another folder');
    }
    removeStale(path, found.text);
  }
  const message = `Cannot open ${dir}: its lock changes hands too fast`;
  throw new OperatorError('spool_in_use', message, 'start one collector only');
}

/** Moves the stale lock away first and looks at what was moved: it may be a rival's fresh one. */
function removeStale(path: string, stale_text: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
    if (readFileSync(aside, 'utf8') !== stale_text) linkSync(aside, path);
  } catch {
    // A rival was faster at any of these; the next attempt sees its lock.
  } finally {
    rmSync(aside, { force: true });
  }
}
