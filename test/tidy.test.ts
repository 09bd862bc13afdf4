// The laws of STYLE.md that a program can keep. Each rule runs over the tree, and over a small wrong example that it must
// refuse: a rule that finds nothing anywhere keeps no law.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { pages } from '../scripts/docs.ts';
import * as documents from './tidy/documents.ts';
import { type File, type Finding, projectFiles, ROOT } from './tidy/files.ts';
import * as kernel from './tidy/kernel.ts';
import * as layers from './tidy/layers.ts';
import * as limits from './tidy/limits.ts';
import * as machine from './tidy/machine.ts';

const files = projectFiles();
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

function clean(findings: readonly Finding[]): void {
  const lines = findings.map((found) => {
    return `${found.path}:${found.line}: ${found.problem}; ${found.cure}`;
  });
  if (lines.length > 0) assert.fail(`\n${lines.join('\n')}`);
}

/** The rule finds exactly this in that: `line problem`, the problem by its beginning. */
function refuses(rule: (file: File) => readonly Finding[], file: File, expected: string): void {
  const found = rule(file).map((finding) => `${finding.line} ${finding.problem}`);
  assert.equal(found.length, 1, `found ${JSON.stringify(found)}, expected: ${expected}`);
  assert.ok(found[0].startsWith(expected), `found ${found[0]}, expected: ${expected}`);
}

const RULES: ReadonlyMap<string, (file: File) => readonly Finding[]> = new Map([
  ['files have at most 500 lines', limits.fileLength],
  ['lines have at most 100 columns, prose 150', limits.lineLength],
  ['functions in C and shell have at most 70 lines', limits.functionLength],
  ['imports go downstream only', layers.layers],
  ['no folder is called utils, helpers or common', layers.folderNames],
  ['C files name their licence', kernel.licenceLine],
  ['kernel objects have names of at most 15 characters', kernel.objectNames],
]);

for (const [name, rule] of RULES) test(name, () => clean(files.flatMap(rule)));

test('nothing imports in a circle', () => clean(layers.cycles(files)));

test('no path of this machine is written down', () => {
  const pattern = machine.machinePaths();
  clean(files.flatMap((file) => machine.paths(file, pattern)));
});

test('no package host is written down', () => {
  const names = machine.registryHosts();
  clean(files.flatMap((file) => machine.hosts(file, names)));
});

test('every promise that is done is shown by something that exists', () => {
  clean(documents.promises(fileAt(documents.PROMISES), project()));
});

test('every dependency has its reason and its use', () => {
  clean(documents.dependencies(fileAt(documents.DEPENDENCIES), packageOf(files), read));
});

test('generated pages are fresh', () => {
  for (const [path, text] of pages) assert.equal(read(path), text(), `${path}: run npm run docs`);
});

function fileAt(path: string): File {
  const file = files.find((candidate) => candidate.path === path);
  assert.ok(file, `${path} is missing`);
  return file;
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

function project() {
  const scripts = Object.keys(manifest.scripts).concat('install', 'ci');
  return { paths: new Set(files.map((file) => file.path)), scripts };
}

function packageOf(sources: readonly File[]): documents.Package {
  const imports = new Map<string, string[]>();
  for (const file of sources.filter((candidate) => candidate.path.endsWith('.ts'))) {
    for (const { specifier } of layers.importsOf(file)) {
      const name = /^(@[^/]+\/[^/]+|[^./@$][^/]*)/.exec(specifier)?.[0];
      if (name === undefined || specifier.startsWith('node:')) continue;
      imports.set(name, [...(imports.get(name) ?? []), file.path]);
    }
  }
  const { dependencies, optionalDependencies, devDependencies } = manifest;
  return {
    dependencies: Object.keys({ ...dependencies, ...optionalDependencies }),
    devDependencies: Object.keys(devDependencies),
    imports,
  };
}

test('limits refuse what is too long', () => {
  const long = (path: string, text: string) => ({ path, text });
  refuses(limits.fileLength, long('src/a.ts', 'x\n'.repeat(501)), '501 has 501 lines');
  assert.deepEqual(limits.fileLength(long('src/a.ts', 'x\n'.repeat(500))), []);
  const code = `const a = ${'b + '.repeat(23)}c;`;
  refuses(limits.lineLength, long('src/a.ts', `\n${code}`), '2 is 104 columns wide; code');
  refuses(limits.lineLength, long('a.md', 'word '.repeat(31)), '1 is 155 columns wide; prose');
  refuses(limits.lineLength, long('a.c', `${'\t'.repeat(12)}a = b;`), '1 is 102 columns');
  assert.deepEqual(limits.lineLength(long('src/a.ts', `// ${'word '.repeat(24)}`)), []);
  assert.deepEqual(limits.lineLength(long('src/a.ts', `f('${'word '.repeat(24)}')`)), []);
  const body = '\tx();\n'.repeat(69);
  refuses(limits.functionLength, long('a.c', `int g;\n\nint f(void)\n{\n${body}}\n`), '3 has 72');
  refuses(limits.functionLength, long('a.sh', `f() {\n${body}}\n`), '1 has 71 lines');
  assert.deepEqual(limits.functionLength(long('a.sh', `f() {\n${body.slice(6)}}\n`)), []);
  const table = `static const int t[] = {\n${'\tF(1),\n'.repeat(80)}};\n`;
  assert.deepEqual(limits.functionLength(long('a.c', table)), []);
});

test('layers refuse what goes upstream', () => {
  const from = (path: string, to: string) => ({ path, text: `\nimport { x } from '${to}';\n` });
  const { layers: rule } = layers;
  refuses(rule, from('probes/a/a.ts', '../../src/bpf/map.ts'), '2 probes imports src/bpf');
  refuses(rule, from('probes/a/a.ts', '../../src/collector/a.ts'), '2 probes imports src/coll');
  refuses(rule, from('src/wire/a.ts', '../store/a.ts'), '2 src/wire imports src/store');
  refuses(rule, from('src/table/a.ts', '../../probes/index.ts'), '2 src/table imports probes');
  refuses(rule, from('src/reducer/a.ts', '../cli/main.ts'), '2 src/reducer imports src/cli');
  refuses(rule, from('src/wire/a.ts', '../../scripts/a.ts'), '2 src/wire imports scripts');
  refuses(rule, from('src/other/a.ts', './b.ts'), '1 src/other is no layer');
  const many = { path: 'src/wire/a.ts', text: "import {\n  x,\n} from '../store/a.ts';\n" };
  refuses(rule, many, '3 src/wire imports src/store');
  assert.deepEqual(rule(from('src/collector/a.ts', '../bpf/map.ts')), []);
  refuses(
    layers.folderNames,
    from('src/utils/a.ts', './b.ts'),
    '1 stands in a folder called utils',
  );
});

test('circles are found, forks are not', () => {
  const file = (path: string, ...to: string[]) => ({
    path,
    text: to.map((name) => `import { x } from './${name}';`).join('\n'),
  });
  const ring = [file('a.ts', 'b.ts'), file('b.ts', 'n.ts', 'c.ts'), file('c.ts', 'a.ts')];
  refuses(() => layers.cycles(ring), ring[0], '1 imports in a circle: a.ts → b.ts → c.ts → a.ts');
  const fork = [
    file('a.ts', 'b.ts', 'c.ts'),
    file('b.ts', 'd.ts'),
    file('c.ts', 'd.ts'),
    file('d.ts'),
  ];
  assert.deepEqual(layers.cycles(fork), []);
  const types = ring.map((f) => ({ ...f, text: f.text.replaceAll('import {', 'import type {') }));
  assert.deepEqual(layers.cycles(types), []);
});

test('kernel rules refuse a wrong licence and a long name', () => {
  const file = (path: string, text: string) => ({ path, text });
  const gpl = '// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0\n';
  refuses(kernel.licenceLine, file('native/a.c', 'int x;'), '1 has no licence line');
  refuses(kernel.licenceLine, file('native/a.c', gpl), '1 has no licence line, or another one');
  assert.deepEqual(kernel.licenceLine(file('bpf/a.bpf.h', gpl)), []);
  const { objectNames } = kernel;
  const map = 'struct {\n\t__uint(type, 1);\n} a_name_too_long_ SEC(".maps");\n';
  refuses(objectNames, file('bpf/a.bpf.c', map), '3 the kernel object a_name_too_long_ has 16');
  const program = 'SEC("tp_btf/x")\nint BPF_PROG(a_name_too_long_, int a)\n{\n}\n';
  refuses(objectNames, file('bpf/a.bpf.c', program), '2 the kernel object a_name_too_long_ has 16');
  const bare = 'SEC("cgroup_skb/egress")\nint a_name_too_long_(struct __sk_buff *skb)\n{\n}\n';
  refuses(objectNames, file('bpf/a.bpf.c', bare), '2 the kernel object a_name_too_long_ has 16');
  assert.deepEqual(objectNames(file('bpf/a.bpf.c', map.replaceAll('too_long_', 'fits_it'))), []);
});

test('paths and hosts of a machine are refused, those of containers are not', () => {
  const pattern = machine.machinePaths(['/data/checkout', '/opt/sonde', '/x']);
  const rule = (file: File) => machine.paths(file, pattern);
  const at = (text: string) => ({ path: 'a.md', text });
  refuses(rule, at(`see /${'root'}/x`), '1 names a path of some machine');
  refuses(rule, at('\n"/data/checkout/x"'), '2 names a path of some machine');
  assert.deepEqual(rule(at('/opt/sonde/x /x/y')), []);
  const proc = '/proc/1/root/etc';
  assert.deepEqual(rule(at(`${proc} \${pid}/root/x`)), []);
  const names = ['packages.example'];
  const hosts = (file: File) => machine.hosts(file, names);
  refuses(hosts, at('npm from packages.example'), '1 names the package host packages.example');
  assert.deepEqual(hosts(at('packagesXexample')), []);
});

test('documents are held against the tree', () => {
  const paths = new Set(['src/a.test.ts']);
  const own = { paths, scripts: ['bench'] };
  const ids = ['A8', 'B11', 'C3', 'D10', 'E9'].flatMap((last) =>
    Array.from({ length: Number(last.slice(1)) }, (_, index) => `${last[0]}${index + 1}`),
  );
  const page = (a1: string) => {
    const rows = ids.map((id) => (id === 'A1' ? a1 : `| ${id} | x | | open |`));
    return { path: documents.PROMISES, text: rows.join('\n') };
  };
  const rule = (file: File) => documents.promises(file, own);
  assert.deepEqual(rule(page('| A1 | x | `src/a.test.ts`, `npm run bench` | done |')), []);
  refuses(rule, page('| A1 | x | by hand | done |'), '1 A1 is done, but nothing shows it');
  refuses(rule, page('| A1 | x | `src/b.test.ts` | done |'), '1 A1 is shown by src/b.test.ts');
  refuses(rule, page('| A1 | x | `npm run bank` | done |'), '1 A1 is shown by npm run bank');
  refuses(rule, page('| A1 | x | | soon |'), '1 A1 has the state "soon"');
  refuses(rule, page('text'), '1 A1 does not stand there exactly once');
});

test('a dependency without reason, use or declaration is refused', () => {
  const imports = new Map([['used', ['src/a.ts']]]);
  const page = { path: documents.DEPENDENCIES, text: '' };
  const row = (name: string, by: string) =>
    `| \`${name}\` | a reason that is long enough | ${by} |\n`;
  const rule = (names: string[]) => (file: File) =>
    documents.dependencies(
      file,
      { dependencies: names, devDependencies: [], imports },
      () => 'tool',
    );
  const with_rows = {
    ...page,
    text: row('used', '') + row('tool', '`x.sh`') + row('idle', '`x.sh`'),
  };
  assert.deepEqual(rule(['used', 'tool'])(with_rows), []);
  refuses(rule(['used', 'idle']), with_rows, '3 idle is used nowhere');
  refuses(rule(['used']), page, '1 gives no reason for used');
  refuses(rule([]), with_rows, '1 imports used, which package.json does not name');
});

test('biome, as configured here, refuses what the grammar must tell', () => {
  const folder = mkdtempSync(join(ROOT, 'test', 'tidy', 'fixture-'));
  const long = `export function long(): void {\n${'  f();\n'.repeat(71)}}\n`;
  const examples: ReadonlyMap<string, string> = new Map([
    ['noExcessiveLinesPerFunction', `declare const f: () => void;\n${long}`],
    ['noDefaultExport', 'export default 1;\n'],
    ['noEnum', 'export enum A {\n  B,\n}\n'],
    ['noNamespace', 'export namespace A {\n  export const b = 1;\n}\n'],
    ['noParameterProperties', 'export class A {\n  constructor(readonly b: number) {}\n}\n'],
    ['noBarrelFile', "export { files } from '../files.ts';\n"],
    ['noExplicitAny', 'export const a: any = 1;\n'],
    ['noEmptyBlockStatements', 'try {\n  JSON.parse("");\n} catch {}\n'],
  ]);
  try {
    for (const [rule, text] of examples) writeFileSync(join(folder, `${rule}.ts`), text);
    const biome = join(ROOT, 'node_modules/.bin/biome');
    const run = spawnSync(biome, ['lint', folder], { cwd: ROOT, encoding: 'utf8' });
    for (const rule of examples.keys()) {
      assert.match(run.stderr, new RegExp(`${rule}\\.ts:\\d+:\\d+ lint/\\w+/${rule}`), rule);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('shell scripts are POSIX: dash reads them', () => {
  const scripts = files.filter((file) => file.text.startsWith('#!/bin/sh'));
  assert.ok(scripts.length >= 4);
  for (const { path } of scripts) execFileSync('sh', ['-n', path], { cwd: ROOT });
});
