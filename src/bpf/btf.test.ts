import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Btf } from './btf.ts';
import { Elf } from './elf.ts';
import { BpfError } from './error.ts';
import { KernelBtf } from './kernel-btf.ts';
import { generateLayout } from './layout-text.ts';
import { fixture } from './testdata/fixture.ts';

const probe = await fixture('probe');

test('an object tells its sections and symbols', () => {
  const elf = Elf.parse(probe);
  assert.ok(elf.section('tp_btf/sys_enter'));
  assert.equal(elf.section('.bss')?.bytes.length, 0);
  assert.ok((elf.section('.bss')?.size ?? 0) > 0);
  assert.ok(elf.symbols().some((symbol) => symbol.name === 'target_tgid' && symbol.size === 4));
});

test('an object tells its types and variables', () => {
  const btf = Btf.ofObject(probe);
  const event = btf.find('event');
  assert.ok(event?.kind === 'struct');
  assert.equal(event.size, 96);
  assert.deepEqual(event.members.map((member) => [member.name, member.bitOffset / 8]).slice(0, 4), [
    ['stamp', 0],
    ['delta', 8],
    ['pid', 16],
    ['kind', 20],
  ]);
  assert.equal(btf.find('no_such_type'), undefined);
  assert.throws(() => btf.type(1_000_000), { code: 'EFORMAT' });
  const variables = btf.variables();
  const offsets = ['target_tgid', 'signed_option', 'enabled'].map((name) => {
    const variable = variables.get(name);
    assert.equal(variable?.section, '.rodata');
    return variable?.offset;
  });
  assert.equal(new Set(offsets).size, 3);
  assert.equal(variables.get('hits')?.section, '.bss');
  assert.equal(variables.get('signed_option')?.signed, true);
});

/** xorshift32: the same bytes on every run. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Runs the readers over damaged bytes: they answer, or throw the error of this library, and end. */
function survive(act: () => unknown): 'read' | 'refused' {
  try {
    act();
    return 'read';
  } catch (error) {
    if (error instanceof BpfError) return 'refused';
    throw error;
  }
}

test('damaged objects are read or refused, never worse', () => {
  const next = random(0x5eed);
  const elf = Elf.parse(probe);
  const btf = elf.section('.BTF');
  assert.ok(btf);
  const start = btf.bytes.byteOffset - probe.byteOffset;
  const seen = { read: 0, refused: 0 };
  for (let turn = 0; turn < 3000; turn++) {
    const bytes = new Uint8Array(probe);
    const flips = 1 + (next() % 8);
    for (let i = 0; i < flips; i++) {
      // Half of the damage goes to the BTF, a fifth to the ELF header, the rest anywhere.
      const where = next() % 10;
      const at =
        where < 5 ? start + (next() % btf.size) : where < 7 ? next() % 64 : next() % bytes.length;
      bytes[at] = next() & 3 ? next() & 0xff : 0xff;
    }
    const length = next() % 16 === 0 ? next() % bytes.length : bytes.length;
    seen[survive(() => generateLayout(bytes.subarray(0, length), ['event', 'task_row']))]++;
    survive(() => Btf.ofObject(bytes.subarray(0, length)).variables());
  }
  assert.ok(seen.read > 100 && seen.refused > 100, JSON.stringify(seen));
});

test('damaged kernel BTF is read or refused, never worse', () => {
  const next = random(0xb7f);
  const section = Elf.parse(probe).section('.BTF');
  assert.ok(section);
  for (let turn = 0; turn < 3000; turn++) {
    const bytes = new Uint8Array(section.bytes);
    for (let i = 0; i < 1 + (next() % 8); i++) bytes[next() % bytes.length] = next() & 0xff;
    survive(() => {
      const btf = KernelBtf.parse(bytes);
      btf.has('struct', 'event', 'slots');
      btf.has('enum', 'event_kind', 'EVENT_FIRST');
      btf.fieldOffset('address', 'port');
    });
  }
});

test('types that refer to themselves are refused', () => {
  // typedef a → typedef b → typedef a
  const loop = btfOf([0, 8 << 24, 2, 0, 8 << 24, 1]);
  const btf = Btf.parse(loop);
  assert.throws(() => btf.resolve(1), { code: 'EFORMAT' });
  // An array of itself.
  const array = Btf.parse(btfOf([0, 3 << 24, 0, 1, 1, 2]));
  assert.throws(() => array.sizeOf(1), { code: 'EFORMAT' });
  // A struct that holds itself, without a name, as its first member.
  const nested = KernelBtf.parse(btfOf([0, (4 << 24) | 1, 8, 0, 1, 0]));
  assert.equal(nested.has('struct', '', 'x'), false);
});

/** A header, these words as types, and the empty string. */
function btfOf(words: number[]): Uint8Array {
  const bytes = new Uint8Array(24 + 4 * words.length + 1);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0xeb9f, true);
  view.setUint8(2, 1);
  view.setUint32(4, 24, true);
  view.setUint32(12, 4 * words.length, true);
  view.setUint32(16, 4 * words.length, true);
  view.setUint32(20, 1, true);
  words.forEach((word, i) => {
    view.setUint32(24 + 4 * i, word, true);
  });
  return bytes;
}

test('every kind of type is decoded', () => {
  const words = [
    ...[0, 1 << 24, 4, (1 << 24) | 32], // 1 int, signed
    ...[0, 2 << 24, 1], // 2 pointer
    ...[0, 3 << 24, 0, 1, 1, 5], // 3 array
    ...[0, (4 << 24) | 1, 4, 0, 1, 0], // 4 struct
    ...[0, (5 << 24) | 1, 4, 0, 1, 0], // 5 union
    ...[0, ((6 << 24) | 1 | (1 << 31)) >>> 0, 4, 0, 0xffffffff], // 6 enum, signed
    ...[0, 7 << 24, 0], // 7 forward
    ...[0, 8 << 24, 1], // 8 typedef
    ...[0, 9 << 24, 8, 0, 10 << 24, 9, 0, 11 << 24, 10], // 9 to 11 modifiers
    ...[0, 12 << 24, 13], // 12 function
    ...[0, (13 << 24) | 1, 1, 0, 11], // 13 prototype
    ...[0, 14 << 24, 1, 1], // 14 variable
    ...[0, (15 << 24) | 1, 4, 14, 0, 4], // 15 section
    ...[0, 16 << 24, 8], // 16 float
    ...[0, 17 << 24, 4, 0], // 17 declaration tag
    ...[0, 18 << 24, 1], // 18 type tag
    ...[0, (19 << 24) | 1, 8, 0, 1, 2], // 19 enum of 64 bits
  ];
  const btf = Btf.parse(btfOf(words));
  assert.deepEqual(
    btf.types.map((type) => type.kind),
    [
      ...['void', 'int', 'pointer', 'array', 'struct', 'union', 'enum', 'forward', 'typedef'],
      ...['modifier', 'modifier', 'modifier', 'function', 'prototype', 'variable', 'section'],
      ...['float', 'tag', 'modifier', 'enum'],
    ],
  );
  assert.equal(btf.resolve(11).id, 1);
  assert.deepEqual([btf.sizeOf(3), btf.sizeOf(2), btf.sizeOf(12)], [20, 8, undefined]);
  const negative = btf.type(6);
  assert.ok(negative.kind === 'enum' && negative.values[0]?.value === -1);
  const wide = btf.type(19);
  assert.ok(wide.kind === 'enum' && wide.values[0]?.value === 2 * 2 ** 32 + 1);
  assert.throws(() => Btf.parse(btfOf([0, 20 << 24, 0])), { code: 'EFORMAT' });
});
