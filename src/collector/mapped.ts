// Which files of code a process runs: its executable and what it has mapped to execute, each by a path that leads to that very
// file, also when it is in another mount namespace, was replaced, or is deleted.

import {
  readdirSync,
  readFileSync,
  readlinkSync,
  type StatsFs,
  statfsSync,
  statSync,
} from 'node:fs';
import { basename, join } from 'node:path';

const OVERLAYFS_MAGIC = 0x794c7630;
const DELETED = / \(deleted\)$/;
/** `start-end perms offset device inode path`, of what is mapped to be executed and has a path. */
const MAPPED = /^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ \S+ \d+ +(\/.*)$/gm;

export interface MappedFile {
  /** As the process names it. */
  readonly path: string;
  readonly name: string;
  /** Ways to open it from here, the surest first. */
  readonly open_paths: readonly string[];
}

/** Undefined: a kernel thread, or gone. */
export function executableOf(pid: number, proc: string): MappedFile | undefined {
  const link = join(proc, String(pid), 'exe');
  try {
    const path = readlinkSync(link).replace(DELETED, '');
    return { path, name: basename(path), open_paths: [link] };
  } catch {
    return undefined;
  }
}

/** Those whose base name matches; empty for a process that is gone. */
export function librariesOf(pid: number, proc: string, wanted: RegExp): readonly MappedFile[] {
  const folder = join(proc, String(pid));
  const files = new Map<string, MappedFile>();
  for (const [, start, end, text] of readMaps(folder).matchAll(MAPPED)) {
    const path = text!.replace(DELETED, '');
    const name = basename(path);
    if (files.has(path) || !wanted.test(name)) continue;
    const range = `${trimZeros(start!)}-${trimZeros(end!)}`;
    const open_paths = [join(folder, 'map_files', range), join(folder, 'root', path)];
    files.set(path, { path, name, open_paths });
  }
  return [...files.values()];
}

function readMaps(folder: string): string {
  try {
    return readFileSync(join(folder, 'maps'), 'latin1');
  } catch {
    return ''; // gone
  }
}

function trimZeros(hex: string): string {
  return hex.replace(/^0+(?=.)/, '');
}

/** The pids of all processes. */
export function pidsOf(proc: string): readonly number[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/**
 * What is one file to the kernel's uprobes. Layers of overlay file systems show one file to each container as another device
 * with the same inode number, and programs placed on both would run twice for each call.
 */
export function fileIdentity(path: string): string {
  const { dev, ino, size, mtimeNs } = statSync(path, { bigint: true });
  const overlaid = isOverlay(statfsSync(path));
  return overlaid ? `overlay:${ino}:${size}:${mtimeNs}` : `${dev}:${ino}:${size}:${mtimeNs}`;
}

function isOverlay({ type }: StatsFs): boolean {
  return type === OVERLAYFS_MAGIC;
}
