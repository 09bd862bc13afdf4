// The folder of pins, as files of an ordinary folder: what is there, what belongs to a build, what is left.

import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { findMount } from '../bpf/features.ts';
import { lockPins } from './pin_lock.ts';
import { Pins, refuseElsewhere } from './pins.ts';

function root(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-pins-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'deep', 'sonde');
}

function fill(pins: Pins): void {
  pins.create();
  for (const path of [pins.map('ring'), pins.link('one'), pins.link('two'), pins.program('one')]) {
    writeFileSync(path, '');
  }
  mkdirSync(pins.uprobes);
  writeFileSync(join(pins.uprobes, 'file_source_1of1'), '');
}

test('a build sees its own links, and clears those of every build', (t) => {
  const folder = root(t);
  const old = new Pins(folder, 'aaaa');
  const young = new Pins(folder, 'bbbb');
  assert.equal(old.any, false);
  fill(old);
  assert.deepEqual([...old.links()].sort(), ['one', 'two']);
  assert.deepEqual([...old.programs()], ['one']);
  assert.deepEqual([...young.links()], []);
  assert.equal(young.any, true);
  assert.deepEqual(readdirSync(folder).sort(), [
    'links_aaaa',
    'programs_aaaa',
    'ring',
    'uprobes_aaaa',
  ]);
  young.clear();
  assert.equal(existsSync(folder), false);
  young.clear(); // there is nothing to clear
});

test('an ordinary folder is refused before anything is made there', (t) => {
  const folder = root(t);
  assert.throws(() => refuseElsewhere(folder), { code: 'pins_elsewhere', message: /mount -t bpf/ });
  assert.equal(existsSync(dirname(folder)), false);
  const bpffs = findMount('bpf');
  if (bpffs !== undefined) refuseElsewhere(join(bpffs, 'not-there', 'sonde'));
});

test('one holds a folder at a time, and who follows may have it', async (t) => {
  const folder = root(t);
  const first = await lockPins(folder);
  await assert.rejects(() => lockPins(folder), { code: 'pins_in_use' });
  const other = await lockPins(`${folder}-2`);
  other.release();
  first.release();
  const second = await lockPins(folder);
  second.release();
});

test('a folder is one and the same however it is spelled, there or not yet', async (t) => {
  const parent = root(t);
  const folder = join(parent, 'pins');
  const link = `${parent}-link`;
  mkdirSync(parent, { recursive: true });
  symlinkSync(parent, link);
  for (const made of [false, true]) {
    if (made) mkdirSync(folder);
    const lock = await lockPins(folder);
    for (const other of [`${folder}/`, `/${folder}`, `${folder}/x/..`, join(link, 'pins')]) {
      await assert.rejects(() => lockPins(other), { code: 'pins_in_use' }, other);
    }
    lock.release();
  }
});
