// Names of users as their processes would print them: from the passwd file below the process's own root, with the numbers of its
// user namespace. A container writes these files: nothing in them is believed but text of a sane length.

import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import type { UserPlace } from '../table/probe.ts';

const ROOTS_MAX = 512;
const FILE_BYTES_MAX = 1 << 20;
const NAME_LENGTH_MAX = 64;
/** A name that was not there is looked for again after this long: useradd may have run. */
const AGAIN_MS = 10_000;

interface Names {
  readonly names: ReadonlyMap<number, string>;
  readonly read_ms: number;
}

export class Users {
  readonly #proc: string;
  /** By root directory: `device:inode`. */
  readonly #roots = new Map<string, Names>();

  constructor(proc: string) {
    this.#proc = proc;
    // the host's own, for its processes that are gone by the time they are asked for
    this.learn(1);
    this.learn(process.pid);
  }

  /** Reads the names of this process's root, so that they are known when it is gone. */
  learn(pid: number): void {
    try {
      const { dev, ino } = statSync(join(this.#proc, String(pid), 'root'));
      const key = `${dev}:${ino}`;
      if (!this.#roots.has(key)) this.#read(key, pid, performance.now());
    } catch {
      // gone
    }
  }

  readonly name = (uid: number, place: UserPlace): string => {
    const key = `${userDevice(place.root_dev)}:${place.root_ino}`;
    const now_ms = performance.now();
    let known = this.#roots.get(key);
    const found = known?.names.get(uid);
    if (found !== undefined) return found;
    if (known === undefined || now_ms - known.read_ms > AGAIN_MS) {
      known = this.#read(key, place.pid, now_ms) ?? known;
    }
    return known?.names.get(uid) ?? String(uid);
  };

  /** Undefined: the process is gone, or has no such file. */
  #read(key: string, pid: number, now_ms: number): Names | undefined {
    const folder = join(this.#proc, String(pid));
    const text = readRegular(join(folder, 'root/etc/passwd'));
    if (text === undefined) return undefined;
    const names = parsePasswd(text, uidMap(folder));
    if (this.#roots.size >= ROOTS_MAX) this.#roots.clear();
    const read = { names, read_ms: now_ms };
    this.#roots.set(key, read);
    return read;
  }
}

/** A device number as stat tells it, from the kernel's own way of writing it. */
export function userDevice(dev: number): number {
  const [major, minor] = [dev >>> 20, dev & 0xfffff];
  return (minor & 0xff) + major * 256 + (minor >>> 8) * 2 ** 20;
}

/** Of a regular file, and no link that leads out of the root; undefined: there is none. */
function readRegular(path: string): string | undefined {
  try {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
    const fd = openSync(path, flags);
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) return undefined;
      const bytes = Buffer.alloc(Math.min(stat.size, FILE_BYTES_MAX));
      return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0));
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

/** From the user numbers inside of a process's user namespace to ours. */
type UidMap = (inside: number) => number | undefined;

function uidMap(folder: string): UidMap {
  try {
    return parseUidMap(readFileSync(join(folder, 'uid_map'), 'latin1'));
  } catch {
    return (inside) => inside;
  }
}

/** Text of /proc/PID/uid_map: lines of first number inside, first number outside, count. */
export function parseUidMap(text: string): UidMap {
  const ranges = text
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter((fields) => fields.length === 3);
  return (inside) => {
    const range = ranges.find(([from, , count]) => inside >= from! && inside < from! + count!);
    return range === undefined ? undefined : inside - range[0]! + range[1]!;
  };
}

/** Names by our user numbers; the first entry of a number counts, as with getpwuid. */
export function parsePasswd(text: string, outside: UidMap): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const line of text.split('\n')) {
    const [name, , number] = line.split(':');
    if (name === undefined || name === '' || name.length > NAME_LENGTH_MAX) continue;
    const uid = /^\d+$/.test(number ?? '') ? outside(Number(number)) : undefined;
    if (uid !== undefined && !names.has(uid)) names.set(uid, name);
  }
  return names;
}
