// What /proc and the cgroup file system tell of a process, for processes that are older than sonde and for paths that do
// not fit a kernel record. A process may vanish between any two reads: then nothing is known of it, which is no error.

import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { containerId } from '../../probes/cgroup/path.ts';
import type { CgroupPlace } from '../table/probe.ts';

export type { CgroupPlace } from '../table/probe.ts';
export { containerId };

/** Kernel clock ticks of /proc/PID/stat; USER_HZ is 100 on every platform that sonde runs on. */
const TICK_NS = 10_000_000;
const CGROUPS_MAX = 65_536;

export interface ProcProcess {
  readonly name: string;
  readonly executable_path: string;
}

/** Undefined: gone, or the pid belongs to another process by now. */
export function readProcess(
  pid: number,
  start_ns: number,
  proc = '/proc',
): ProcProcess | undefined {
  try {
    const stat = readFileSync(join(proc, String(pid), 'stat'), 'latin1');
    const after = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(after[19]); // field 22, starttime
    if (Math.abs(ticks * TICK_NS - start_ns) > 2 * TICK_NS) return undefined;
    const comm = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const path = executable(pid, proc);
    return { name: path === '' ? comm : basename(path), executable_path: path };
  } catch {
    return undefined; // gone
  }
}

function executable(pid: number, proc: string): string {
  try {
    return readlinkSync(join(proc, String(pid), 'exe')).replace(/ \(deleted\)$/, '');
  } catch {
    return ''; // a kernel thread has none
  }
}

export const NO_CGROUP: CgroupPlace = { path: '', container_id: '' };

/** The cgroup of a process: its v2 path, and the container that any of its hierarchies names. */
export function readCgroup(pid: number, proc = '/proc'): CgroupPlace | undefined {
  try {
    return parseCgroup(readFileSync(join(proc, String(pid), 'cgroup'), 'utf8'));
  } catch {
    return undefined; // gone
  }
}

/** Text of /proc/PID/cgroup: `0::/path` is v2; on hybrid hosts the container stands only in the v1 lines. */
export function parseCgroup(text: string): CgroupPlace {
  const paths = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => ({
      unified: line.startsWith('0::'),
      path: line.split(':').slice(2).join(':'),
    }));
  const unified = paths.find((one) => one.unified)?.path ?? '';
  const named = paths.map(({ path }) => containerId(path)).find((id) => id !== '');
  const longest = paths.reduce((best, { path }) => (path.length > best.length ? path : best), '');
  const path = unified === '' || unified === '/' ? longest : unified;
  return { path, container_id: named ?? '' };
}

/** A look through the tree may take this share of the time. */
const SCAN_SHARE = 1 / 20;
const SCAN_WAIT_MIN_MS = 20;
const SCAN_WAIT_MAX_MS = 1000;
/** An id that so many looks did not find is not looked for again: its cgroup is gone, or outside of what we see. */
const LOOKS_MAX = 3;

/** Paths of cgroup v2 by id (the inode number), for processes that are gone by the time they are looked up. */
export class CgroupIndex {
  readonly #root: string;
  readonly #paths = new Map<number, CgroupPlace>();
  readonly #missing = new Map<number, number>();
  #next_scan_ms = 0;

  constructor(root: string) {
    this.#root = root;
  }

  /** Looks through the tree for an unknown id, as often as its size allows; undefined: not found, or not now. */
  find(id: number, now_ms: number): CgroupPlace | undefined {
    const known = this.#paths.get(id);
    if (known !== undefined || now_ms < this.#next_scan_ms) return known;
    const looks = this.#missing.get(id) ?? 0;
    if (looks >= LOOKS_MAX) return undefined;
    const began = performance.now();
    this.#paths.clear();
    this.#scan('');
    const wait_ms = (performance.now() - began) / SCAN_SHARE;
    this.#next_scan_ms = now_ms + Math.min(Math.max(wait_ms, SCAN_WAIT_MIN_MS), SCAN_WAIT_MAX_MS);
    const found = this.#paths.get(id);
    if (found === undefined) this.#miss(id, looks + 1);
    return found;
  }

  #miss(id: number, looks: number): void {
    if (this.#missing.size >= CGROUPS_MAX) this.#missing.clear();
    this.#missing.set(id, looks);
  }

  #scan(path: string): void {
    if (this.#paths.size >= CGROUPS_MAX) return;
    const folder = join(this.#root, path);
    try {
      const place = path === '' ? '/' : path;
      this.#paths.set(statSync(folder).ino, { path: place, container_id: containerId(place) });
      for (const entry of readdirSync(folder, { withFileTypes: true })) {
        if (entry.isDirectory()) this.#scan(`${path}/${entry.name}`);
      }
    } catch {
      // removed while we looked
    }
  }
}
