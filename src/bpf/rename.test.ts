// An object under other names: the kernel shows the new ones, the caller goes on with those of the source.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Btf } from './btf.ts';
import { Elf } from './elf.ts';
import { BpfError } from './error.ts';
import { BpfMap } from './map.ts';
import { BpfObject } from './object.ts';
import { renameObject } from './rename.ts';
import { fixture, skipLive } from './testdata/fixture.ts';

const probe = await fixture('probe');
const bad = await fixture('bad');
const rename = (name: string): string => `tfo_${name}`;

test('symbols and variables have the new names, all else is as it was', () => {
  const { bytes, originals } = renameObject(probe, rename);
  const before = Elf.parse(probe);
  const after = Elf.parse(bytes);
  assert.equal(originals.get('tfo_counts'), 'counts');
  assert.equal(originals.get('tfo_on_call'), 'on_call');
  const names = before.symbols().map(({ name }) => name);
  const expected = names.map((name) =>
    [...originals.values()].includes(name) ? rename(name) : name,
  );
  assert.deepEqual(
    after.symbols().map(({ name }) => name),
    expected,
  );
  for (const [i, section] of before.sections.entries()) {
    if (['.BTF', '.symtab', '.strtab'].includes(section.name)) continue;
    assert.deepEqual(after.sections[i], section);
  }
  const named = (object: Uint8Array, kind: 'variable' | 'function') =>
    Btf.ofObject(object).types.flatMap((type) => (type.kind === kind ? [type.name] : []));
  const maps = before.symbols().flatMap(({ name, section }) => {
    return before.sections[section]?.name === '.maps' ? [name] : [];
  });
  assert.ok(maps.length > 2);
  const programs = [...originals.values()].filter((name) => !maps.includes(name));
  for (const [kind, own] of [
    ['variable', maps],
    ['function', programs],
  ] as const) {
    assert.deepEqual(
      named(bytes, kind),
      named(probe, kind).map((name) => (own.includes(name) ? rename(name) : name)),
    );
  }
});

test('a file that is none, or ends early, is refused and not read beyond', () => {
  for (const length of [0, 64, 200, probe.length - 100]) {
    assert.throws(() => renameObject(probe.subarray(0, length), rename), BpfError);
  }
});

test('the kernel has the new names, the object the old', { skip: skipLive() }, () => {
  using object = BpfObject.open(probe, { name: 'tfo', rename });
  object.load();
  assert.equal(object.program('on_call').info().name, 'tfo_on_call');
  const counts = object.map('counts');
  assert.equal(BpfMap.fromFd(counts.fd).name, 'tfo_counts');
  assert.equal(counts.maxEntries, 1024);
});

test('a refusal names the program as the source does', { skip: skipLive() }, () => {
  using object = BpfObject.open(bad, { rename });
  const names = [...object.programs.keys()];
  assert.throws(
    () => object.load(),
    (error: unknown) =>
      error instanceof BpfError && error.program !== undefined && names.includes(error.program),
  );
});
