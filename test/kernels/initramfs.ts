// The first file system of a guest: busybox, the few modules that reach the real root, and the job to be done there.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Kernel } from './catalogue.ts';

/** A file, a folder (no `data`) or a device. */
export interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly data?: Buffer;
  readonly device?: readonly [major: number, minor: number];
}

const folder = 0o040755;
const program = 0o100755;
const plain = 0o100644;
const characterDevice = 0o020600;

/** Without these there is no root. Built into some kernels, so that their absence is no fault. */
const rootModules = ['virtio_pci', 'virtio_console', 'virtiofs', 'overlay'];

/** A cpio archive in the kernel's `newc` format (Documentation/driver-api/early-userspace/buffer-format.rst). */
export function cpio(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  const add = (entry: Entry, inode: number) => {
    const name = Buffer.from(`${entry.path}\0`);
    const data = entry.data ?? Buffer.alloc(0);
    const [major, minor] = entry.device ?? [0, 0];
    const fields = [inode, entry.mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
    const head = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`;
    parts.push(padded(Buffer.concat([Buffer.from(head), name])), padded(data));
  };
  entries.forEach((entry, at) => {
    add(entry, at + 1);
  });
  add({ path: 'TRAILER!!!', mode: 0 }, 0);
  return Buffer.concat(parts);
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)]);
}

/** The modules that `names` need, each after those that it depends on. */
export function loadOrder(modulesDep: string, names: readonly string[]): string[] {
  const needs = new Map<string, readonly string[]>();
  const paths = new Map<string, string>();
  for (const line of modulesDep.split('\n').filter((text) => text.includes(':'))) {
    const [path, rest] = line.split(':');
    needs.set(path, rest.trim().split(/\s+/).filter(Boolean));
    paths.set(moduleName(path), path);
  }
  const order: string[] = [];
  const visit = (path: string) => {
    if (order.includes(path)) return;
    for (const need of needs.get(path) ?? []) visit(need);
    order.push(path);
  };
  for (const name of names) {
    const path = paths.get(name);
    if (path) visit(path);
  }
  return order;
}

function moduleName(path: string): string {
  return basename(path).split('.')[0].replaceAll('-', '_');
}

/** The archive that boots `kernel` and then runs `job`, a shell script, in the guest's root. */
export async function buildInitramfs(
  kernel: Kernel,
  busybox: string,
  settings: string,
  job: string,
): Promise<Buffer> {
  const base = join(kernel.folder, 'lib/modules', kernel.release);
  const modules = loadOrder(await readFile(join(base, 'modules.dep'), 'utf8'), rootModules);
  const files: Entry[] = [];
  for (const path of modules) {
    const data = await readFile(existsSync(path) ? path : join(base, path));
    files.push({ path: `modules/${basename(path)}`, mode: plain, data });
  }
  const list = modules.map((path) => `${basename(path)}\n`).join('');
  const text = (path: string, content: string, mode = plain) => {
    files.push({ path, mode, data: Buffer.from(content) });
  };
  text('modules/order', list);
  text('job/settings', settings);
  text('job/command', job);
  files.push({ path: 'bin/busybox', mode: program, data: await readFile(busybox) });
  const guest = join(import.meta.dirname, 'guest.sh');
  files.push({ path: 'init', mode: program, data: await readFile(guest) });
  const folders = new Set(['dev', 'proc', 'sys', 'lower', 'upper', 'root']);
  for (const file of files) {
    const parent = dirname(file.path);
    if (parent !== '.') folders.add(parent);
  }
  return cpio([
    ...[...folders].map((path) => ({ path, mode: folder })),
    { path: 'dev/console', mode: characterDevice, device: [5, 1] },
    ...files,
  ]);
}
