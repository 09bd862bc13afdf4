// Builds what is not TypeScript: the native addon, each `.bpf.c` to `build/<name>.bpf.o`, and beside each source the
// `layout.gen.ts` of the types that its `layouts` variable names. Only what is older than its sources is built.

import { globSync, statSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Btf } from '../src/bpf/btf.ts';
import { buildNative } from '../src/bpf/build-native.ts';
import { compileBpf } from '../src/bpf/compile.ts';
import { BpfError } from '../src/bpf/error.ts';
import { generateLayout } from '../src/bpf/layout.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** What every object depends on: all kernel C, since any of it may be included, and the compiler's own driver. */
const KERNEL_SOURCES = ['{bpf,probes}/**/*.bpf.{c,h}', 'src/bpf/{compile,layout,layout-text}.ts'];

interface Unit {
  readonly source: string;
  readonly object: string;
  readonly layout: string;
}

function say(text: string): void {
  process.stderr.write(`sonde set-up: ${text}\n`);
}

function files(pattern: readonly string[]): readonly string[] {
  return globSync([...pattern], { cwd: ROOT }).sort();
}

function units(): readonly Unit[] {
  return files(['{bpf,probes}/**/*.bpf.c']).map((source) => ({
    source,
    object: join('build', `${basename(source, '.c')}.o`),
    layout: join(dirname(source), 'layout.gen.ts'),
  }));
}

function changedAt(path: string): number {
  return statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs ?? Number.NEGATIVE_INFINITY;
}

/** The members of `layouts`: the compiler describes these types, and the TypeScript side reads them. */
function layoutNames(btf: Btf): readonly string[] {
  const variable = btf.types.find((type) => type.kind === 'variable' && type.name === 'layouts');
  if (variable?.kind !== 'variable') return [];
  const struct = btf.resolve(variable.type);
  if (struct.kind !== 'struct') return [];
  return struct.members.map((member) => btf.resolve(member.type).name);
}

async function buildUnit(unit: Unit): Promise<void> {
  say(`build: ${unit.object}`);
  const object = join(ROOT, `${unit.object}.new`);
  await compileBpf(join(ROOT, unit.source), object, { includes: [join(ROOT, 'bpf')] });
  const bytes = await readFile(object);
  const names = layoutNames(Btf.ofObject(bytes));
  if (names.length > 0) {
    const layout = join(ROOT, `${unit.layout}.new`);
    await writeFile(layout, generateLayout(bytes, names));
    await rename(layout, join(ROOT, unit.layout));
  }
  // Last, since its time says that the whole unit is built.
  await rename(object, join(ROOT, unit.object));
}

async function build(): Promise<void> {
  if (changedAt('build/sonde_bpf.node') < Math.max(...files(['native/*']).map(changedAt))) {
    say('build: build/sonde_bpf.node');
  }
  await buildNative();
  const newest = Math.max(...files(KERNEL_SOURCES).map(changedAt));
  for (const unit of units()) {
    const has_layout = Number.isFinite(changedAt(unit.layout));
    if (changedAt(unit.object) < newest || !has_layout) await buildUnit(unit);
  }
}

try {
  await build();
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  say(`${error.message}\n${error.log ?? ''}`);
  process.exitCode = 1;
}
