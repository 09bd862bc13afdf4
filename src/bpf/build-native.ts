// Builds the addon from native/*.c with the system's C compiler and libbpf, when a source is newer.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { BpfError } from './error.ts';
import { ADDON_URL } from './native.ts';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SOURCES = join(ROOT, 'native');

const FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC'];
const HARDENING = ['-fvisibility=hidden', '-fstack-protector-strong', '-Wl,-z,relro,-z,now'];

/**
 * Builds `build/sonde_bpf.node` unless it is newer than every source.
 *
 * @throws {BpfError} `EBUILD`, with the compiler's words in `log`.
 */
export async function buildNative(): Promise<void> {
  const output = fileURLToPath(ADDON_URL);
  const names = (await readdir(SOURCES)).filter((name) => /\.[ch]$/.test(name)).sort();
  const sources = names.map((name) => join(SOURCES, name));
  if (!(await isStale(output, sources))) return;
  await mkdir(dirname(output), { recursive: true });
  // Under a name of its own until it is whole: two builds at once must not mix.
  const partial = `${output}.${process.pid}`;
  const units = sources.filter((path) => path.endsWith('.c'));
  const flags = [...FLAGS, ...HARDENING, `-I${await nodeHeaders()}`];
  const cflags = await pkgConfig('--cflags');
  const libs = await pkgConfig('--libs');
  const compiler = process.env.CC || 'cc';
  try {
    await run(compiler, [...flags, ...cflags, ...units, '-o', partial, ...libs]);
  } catch (error) {
    throw new BpfError('Cannot compile the native addon', { code: 'EBUILD', log: words(error) });
  }
  await rename(partial, output);
}

async function isStale(output: string, sources: readonly string[]): Promise<boolean> {
  if (!existsSync(output)) return true;
  const built = (await stat(output)).mtimeMs;
  const times = await Promise.all(sources.map(async (path) => (await stat(path)).mtimeMs));
  return times.some((time) => time > built);
}

/** The headers that belong to the running Node: beside the program, in the npm package or an install. */
async function nodeHeaders(): Promise<string> {
  const candidates = [
    join(ROOT, 'node_modules', `node-linux-${process.arch}`, 'include', 'node'),
    join(dirname(process.execPath), '..', 'include', 'node'),
  ];
  const found = candidates.find((path) => existsSync(join(path, 'node_api.h')));
  if (found) return found;
  throw new BpfError(`Cannot find node_api.h in ${candidates.join(' or ')}`, { code: 'EBUILD' });
}

async function pkgConfig(what: '--cflags' | '--libs'): Promise<string[]> {
  try {
    const { stdout } = await run('pkg-config', [what, 'libbpf >= 1.1']);
    return stdout.split(/\s+/).filter((word) => word !== '');
  } catch (error) {
    throw new BpfError('Cannot find libbpf 1.1 or later, install libbpf-dev and pkg-config', {
      code: 'EBUILD',
      log: words(error),
    });
  }
}

function words(error: unknown): string {
  if (error instanceof Error && 'stderr' in error && error.stderr) return String(error.stderr);
  return error instanceof Error ? error.message : String(error);
}
