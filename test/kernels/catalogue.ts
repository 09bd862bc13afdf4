// The kernels of the matrix: where Debian keeps them, how the newest of a series is found, and what is kept of it.

import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './command.ts';
import { type Apt, findPackage, type Package, unpackAlone } from './debian.ts';
import type { Tools } from './tools.ts';
import { extractVmlinux } from './vmlinux.ts';

/** The kernels of a plain run. */
export const usualSeries = ['5.10', '6.1', '6.12'] as const;

export interface Kernel {
  /** As asked for on the command line: `6.1`. */
  readonly series: string;
  /** As `uname -r` says it: `6.1.0-56-cloud-amd64`. */
  readonly release: string;
  /** Debian's version of the package: `6.1.192-1`. */
  readonly version: string;
  readonly folder: string;
}

/** Suites that hold a series. Versions are never pinned: superseded ones leave the mirror piece by piece. */
export function suitesOf(series: string): readonly string[] {
  const known: Record<string, readonly string[]> = {
    '5.10': ['bullseye', 'bullseye-security'],
    '6.1': ['bookworm', 'bookworm-security'],
    '6.12': ['trixie', 'trixie-security'],
  };
  return known[series] ?? ['trixie-backports', 'sid', 'experimental'];
}

export function readKernel(cache: string, series: string): Promise<Kernel | undefined> {
  const folder = join(cache, series);
  if (!existsSync(join(folder, 'kernel.json'))) return Promise.resolve(undefined);
  return readFile(join(folder, 'kernel.json'), 'utf8').then((text) => ({
    // written by installKernel below
    ...(JSON.parse(text) as { series: string; release: string; version: string }),
    folder,
  }));
}

/** Downloads the newest kernel of `series` (20 to 50 MB), and keeps its plain image and its unpacked modules. */
export async function installKernel(
  apt: Apt,
  tools: Tools,
  cache: string,
  series: string,
): Promise<Kernel> {
  const parts = await newestOf(apt, series);
  const folder = join(cache, series);
  const unpacked = join(cache, `${series}.unpacked`);
  await rm(folder, { recursive: true, force: true });
  await rm(unpacked, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const names = parts.map((part) => `${part.name}=${part.version}`);
  await unpackAlone(apt, names, unpacked);
  const [modules] = await findAll(unpacked, (path) => path.endsWith('/lib/modules'));
  const [image] = await findAll(unpacked, (path) => /\/vmlinuz[^/]*$/.test(path));
  if (!modules || !image) throw new Error(`Package of kernel ${series} has no image or no modules`);
  const [release] = await readdir(modules);
  // before the modules move: newer kernels keep the image among them
  await writeFile(join(folder, 'vmlinux'), await extractVmlinux(await readFile(image), tools));
  await mkdir(join(folder, 'lib'));
  await rename(modules, join(folder, 'lib/modules'));
  await unpackModules(tools, join(folder, 'lib/modules', release));
  await run([tools.busybox, 'depmod', '-b', folder, release]);
  const about = { series, release, version: parts[0].version };
  await writeFile(join(folder, 'kernel.json'), `${JSON.stringify(about)}\n`);
  await rm(unpacked, { recursive: true });
  return { ...about, folder };
}

/** The image package of the newest complete kernel of a series, and what belongs to it. */
async function newestOf(apt: Apt, series: string): Promise<readonly Package[]> {
  const names = (await apt.cache(['pkgnames', `linux-image-${series}`]))
    .split('\n')
    .filter((name) => /^linux-image-[\d.]+[^ ]*-cloud-amd64$/.test(name))
    .filter((name) => name.startsWith(`linux-image-${series}.`))
    .sort(new Intl.Collator('en', { numeric: true }).compare)
    .reverse();
  for (const name of names) {
    const parts = await partsOf(apt, name);
    if (parts) return parts;
  }
  throw new Error(`No complete cloud kernel of series ${series} in ${suitesOf(series).join(', ')}`);
}

/** From 6.19 on the image is an empty package that depends on a binary and modules (and a base, of no use here). */
async function partsOf(apt: Apt, name: string): Promise<readonly Package[] | undefined> {
  const parts: Package[] = [];
  const wanted = [name];
  for (let next = wanted.shift(); next; next = wanted.shift()) {
    if (parts.some((part) => part.name === next)) continue;
    const found = await findPackage(apt, next);
    if (!found?.offered) return undefined;
    parts.push(found);
    wanted.push(...found.depends.filter((d) => /^linux-(binary|modules)-\d/.test(d)));
  }
  return parts;
}

/** Debian packs modules from 6.12 on; the guest's busybox reads them plain. */
async function unpackModules(tools: Tools, folder: string): Promise<void> {
  const packed = await findAll(folder, (path) => path.endsWith('.ko.xz'));
  for (let at = 0; at < packed.length; at += 200) {
    await run([...tools.xz, '-d', ...packed.slice(at, at + 200)]);
  }
}

async function findAll(folder: string, wanted: (path: string) => boolean): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isSymbolicLink())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(wanted);
}
