// The build: the addon, the kernel object, and the layouts that TypeScript reads its records by. Each step runs only
// when a source is newer than what it makes.

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildNative } from '../src/bpf/build-native.ts';
import { compileBpf } from '../src/bpf/compile.ts';
import { BpfError } from '../src/bpf/error.ts';
import { generateLayout } from '../src/bpf/layout.ts';

const ROOT = join(import.meta.dirname, '..');
const SOURCE = join(ROOT, 'bpf/sonde.bpf.c');
const OBJECT = join(ROOT, 'build/sonde.bpf.o');
const LAYOUT = join(ROOT, 'probes/layout.gen.ts');

/** Types of the kernel object that TypeScript reads; each stands in `layouts` of sonde.bpf.c. */
const LAYOUTS = [
  'record_kind',
  'kernel_count',
  'flow_flag',
  'flow_role',
  'record_head',
  'flow_record',
  'process_record',
  'path_part',
  'process',
];

await main();

async function main(): Promise<void> {
  try {
    await buildNative();
    await buildObject();
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    process.stderr.write(`sonde: ${error.message}\n${error.log}\n`);
    process.exitCode = 1;
  }
}

async function buildObject(): Promise<void> {
  const sources = [...kernelSources('bpf'), ...kernelSources('probes'), import.meta.filename];
  if (isFresh(OBJECT, sources) && isFresh(LAYOUT, [OBJECT])) return;
  process.stdout.write('sonde: building the kernel programs\n');
  mkdirSync(join(ROOT, 'build'), { recursive: true });
  await compileBpf(SOURCE, OBJECT, { includes: [join(ROOT, 'bpf')] });
  writeFileSync(LAYOUT, generateLayout(readFileSync(OBJECT), LAYOUTS));
}

function kernelSources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.bpf\.[ch]$/.test(name))
    .map((name) => join(ROOT, folder, name));
}

function isFresh(made: string, sources: readonly string[]): boolean {
  if (!existsSync(made)) return false;
  const { mtimeMs } = statSync(made);
  return sources.every((source) => statSync(source).mtimeMs <= mtimeMs);
}
