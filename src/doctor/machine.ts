// The machine as the checks see it: files, folders and a few figures, never an exception. Tests make one from a table of
// texts (testing.ts), so that every state of every check can be had anywhere.

import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { release, userInfo } from 'node:os';

export interface Machine {
  /** `linux`, as Node writes it. */
  readonly platform: string;
  readonly arch: string;
  readonly release: string;
  /** The C library's version; undefined where it is not glibc. */
  readonly glibc: string | undefined;
  readonly user: string;
  readonly now_ms: number;
  /** The text of a file; undefined when it is not there or may not be read. */
  read(path: string): string | undefined;
  /** The first bytes of a file. */
  head(path: string, length: number): Uint8Array | undefined;
  has(path: string): boolean;
  /** Names in a folder; none when it is not there or may not be read. */
  list(path: string): readonly string[];
  /** Where a symbolic link points. */
  link(path: string): string | undefined;
  /** Whether this user may write to what is there. */
  writable(path: string): boolean;
  /** Whether this user may look for names in a folder. */
  enterable(path: string): boolean;
  /** Bytes that this user may still write to the file system. */
  free(path: string): number | undefined;
  size(path: string): number;
  inode(path: string): number | undefined;
}

export function thisMachine(): Machine {
  return {
    platform: process.platform,
    arch: process.arch,
    release: release(),
    glibc: glibcVersion(),
    user: userName(),
    now_ms: Date.now(),
    read: (path) => attempt(() => readFileSync(path, 'utf8')),
    head: (path, length) => attempt(() => headOf(path, length)),
    has: (path) => existsSync(path),
    list: (path) => attempt(() => readdirSync(path)) ?? [],
    link: (path) => attempt(() => readlinkSync(path)),
    writable: (path) => attempt(() => may(path, constants.W_OK)) ?? false,
    enterable: (path) => attempt(() => may(path, constants.X_OK)) ?? false,
    free: (path) => attempt(() => freeOf(path)),
    size: (path) => attempt(() => statSync(path).size) ?? 0,
    inode: (path) => attempt(() => statSync(path).ino),
  };
}

function attempt<Value>(act: () => Value): Value | undefined {
  try {
    return act();
  } catch {
    return undefined; // missing, or not for this user: a check says what it could not read
  }
}

function may(path: string, mode: number): boolean {
  accessSync(path, mode);
  return true;
}

function freeOf(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

function headOf(path: string, length: number): Uint8Array {
  const fd = openSync(path, 'r');
  try {
    const into = new Uint8Array(length);
    return into.subarray(0, readSync(fd, into, 0, length, 0));
  } finally {
    closeSync(fd);
  }
}

function userName(): string {
  return attempt(() => userInfo().username) ?? String(process.getuid?.() ?? 'unknown');
}

function glibcVersion(): string | undefined {
  Object.assign(process.report, { excludeNetwork: true }); // else it looks up names of peers
  const report: unknown = process.report.getReport();
  if (typeof report !== 'object' || report === null || !('header' in report)) return undefined;
  const { header } = report;
  if (typeof header !== 'object' || header === null) return undefined;
  const version = 'glibcVersionRuntime' in header ? header.glibcVersionRuntime : undefined;
  return typeof version === 'string' && version !== '' ? version : undefined;
}
