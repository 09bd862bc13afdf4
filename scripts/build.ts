// Builds what is not written as it runs: the native addon; the kernel object that the collector loads; the layouts that
// TypeScript reads its records by, of the types that the object's `layouts` names; the collector's bundle. Only what is
// older than its sources.

import { globSync, statSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Btf } from '../src/bpf/btf.ts';
import { buildNative } from '../src/bpf/build-native.ts';
import { compileBpf } from '../src/bpf/compile.ts';
import { BpfError } from '../src/bpf/error.ts';
import { generateLayout } from '../src/bpf/layout-text.ts';
import { buildBundles, bundlesAreFresh } from './bundle.ts';

const ROOT = join(import.meta.dirname, '..');
const SOURCE = 'bpf/sonde.bpf.c';
const OBJECT = 'build/sonde.bpf.o';
const LAYOUT = 'probes/layout.gen.ts';
/** Programs of commands that need no collector, an object each: cgroup-demo, profile. */
const SMALL = ['cgroup_demo', 'profile'] as const;

/** All kernel C, since any of it may be included, and what turns it into the two files above. */
const OBJECT_SOURCES = [
  '{bpf,probes}/**/*.bpf.{c,h}',
  'src/bpf/{btf,compile,layout,layout-text}.ts',
  'scripts/build.ts',
];

function say(text: string): void {
  process.stderr.write(`sonde set-up: ${text}\n`);
}

/** Of the files that match, the time of the newest change; before all times where there is none. */
function changedAt(...patterns: string[]): number {
  const times = globSync(patterns, { cwd: ROOT }).map((path) => statSync(join(ROOT, path)).mtimeMs);
  return Math.max(Number.NEGATIVE_INFINITY, ...times);
}

async function buildAddon(): Promise<void> {
  if (changedAt('build/sonde_bpf.node') < changedAt('native/*')) {
    say('build: build/sonde_bpf.node');
  }
  await buildNative();
}

async function buildObject(): Promise<void> {
  const newest = changedAt(...OBJECT_SOURCES);
  if (changedAt(OBJECT) >= newest && changedAt(LAYOUT) >= newest) return;
  say(`build: ${OBJECT}, ${LAYOUT}`);
  // Under other names until both are whole: a test may be reading the old ones.
  const object = join(ROOT, `${OBJECT}.new`);
  const layout = join(ROOT, `${LAYOUT}.new`);
  await compileBpf(join(ROOT, SOURCE), object, { includes: [join(ROOT, 'bpf')] });
  const bytes = await readFile(object);
  await writeFile(layout, generateLayout(bytes, layoutNames(Btf.ofObject(bytes))));
  await rename(layout, join(ROOT, LAYOUT));
  await rename(object, join(ROOT, OBJECT));
}

async function buildSmall(name: string): Promise<void> {
  const source = `bpf/${name}.bpf.c`;
  const object = `build/${name}.bpf.o`;
  const inputs = [source, 'bpf/kernel.bpf.h', 'src/bpf/compile.ts', 'scripts/build.ts'];
  if (changedAt(object) >= changedAt(...inputs)) return;
  say(`build: ${object}`);
  await compileBpf(join(ROOT, source), join(ROOT, object));
}

/** The types of the members of `layouts`, and the structs within them; the compiler describes what that variable holds. */
function layoutNames(btf: Btf): readonly string[] {
  const variable = btf.types.find((type) => type.kind === 'variable' && type.name === 'layouts');
  const names = variable?.kind === 'variable' ? namedWithin(btf, variable.type) : [];
  if (names.length > 0) return [...new Set(names)];
  throw new BpfError(`Cannot find the struct variable layouts in ${SOURCE}`, { code: 'ELAYOUT' });
}

function namedWithin(btf: Btf, id: number): readonly string[] {
  const type = btf.resolve(id);
  if (type.kind === 'enum') return type.name === '' ? [] : [type.name];
  if (type.kind === 'array') return namedWithin(btf, type.element);
  if (type.kind !== 'struct') return [];
  const inner = type.members.flatMap((member) => namedWithin(btf, member.type));
  return type.name === '' ? inner : [...inner, type.name];
}

async function bundleCollector(): Promise<void> {
  if (bundlesAreFresh(ROOT)) return;
  say('build: build/js/kernel-collector.mjs, build/js/start.mjs');
  if (!(await buildBundles(ROOT))) {
    say('no esbuild here: the collector runs from its sources, which takes more memory');
  }
}

try {
  await buildAddon();
  await buildObject();
  for (const name of SMALL) await buildSmall(name);
  await bundleCollector();
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  say(`${error.message}\n${error.log}`);
  process.exitCode = 1;
}
