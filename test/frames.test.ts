// Kernels before 6.13 let a program and all that it calls take 512 bytes of stack together, and go eight calls deep; later
// ones are more generous, so that only the old would tell. Their rule, held against the object that we build.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test from 'node:test';
import { Elf, type ElfSection, viewOf } from '../src/bpf/elf.ts';

const OBJECTS = ['sonde', 'cgroup_demo', 'profile'];
const STACK_MAX = 512;
const CALLS_MAX = 8;
const INSTRUCTION = 8;
const RELOCATION = 16;
const R_BPF_64_32 = 10;
const FRAME_POINTER = 10;
const CALL = 0x85;
const PSEUDO_CALL = 1;
const ADD_CONSTANT = 0x07;
const MOVE = 0xbf;

interface Code {
  readonly name: string;
  /** Bytes of its frame, as the verifier rounds them. */
  readonly frame: number;
  readonly calls: ReadonlySet<Code>;
}

/** Functions of an object by name. */
function codeOf(elf: Elf): ReadonlyMap<string, Code> {
  const symbols = elf.symbols();
  const at = new Map<string, Code & { calls: Set<Code> }>();
  const functions = symbols.filter(({ is_function }) => is_function);
  for (const { name, section, value, size } of functions) {
    const bytes = elf.sections[section]!.bytes.subarray(value, value + size);
    at.set(`${section} ${value}`, { name, frame: frameOf(bytes), calls: new Set() });
  }
  for (const { section, value, size } of functions) {
    const { name, bytes } = elf.sections[section]!;
    const targets = relocations(elf.section(`.rel${name}`));
    for (let i = value; i < value + size; i += INSTRUCTION) {
      if (bytes[i] !== CALL || bytes[i + 1]! >> 4 !== PSEUDO_CALL) continue;
      const ahead = (viewOf(bytes).getInt32(i + 4, true) + 1) * INSTRUCTION;
      const symbol = symbols[targets.get(i) ?? -1];
      if (symbol?.section === 0) continue; // a function of the kernel
      const target =
        symbol === undefined
          ? `${section} ${i + ahead}`
          : `${symbol.section} ${symbol.value + (symbol.name === '' ? ahead : 0)}`;
      const called = at.get(target);
      assert.ok(called, `a call in ${name} at ${i} leads nowhere`);
      at.get(`${section} ${value}`)!.calls.add(called);
    }
  }
  return new Map([...at.values()].map((code) => [code.name, code]));
}

/** Symbols that calls are led to, by their place. */
function relocations(section: ElfSection | undefined): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  if (section === undefined) return found;
  const view = viewOf(section.bytes);
  for (let at = 0; at < section.bytes.length; at += RELOCATION) {
    if (view.getUint32(at + 8, true) !== R_BPF_64_32) continue;
    found.set(Number(view.getBigUint64(at, true)), view.getUint32(at + 12, true));
  }
  return found;
}

/** How far below the frame pointer it reads, writes or points, as the verifier rounds it. */
function frameOf(bytes: Uint8Array): number {
  const view = viewOf(bytes);
  let lowest = 0;
  for (let at = 0; at < bytes.length; at += INSTRUCTION) {
    const code = bytes[at]!;
    const [target, source] = [bytes[at + 1]! & 15, bytes[at + 1]! >> 4];
    const is_load = (code & 7) === 1;
    const is_store = (code & 7) === 2 || (code & 7) === 3;
    if ((is_load && source === FRAME_POINTER) || (is_store && target === FRAME_POINTER)) {
      lowest = Math.min(lowest, view.getInt16(at + 2, true));
    }
    const next = at + INSTRUCTION;
    if (code !== MOVE || source !== FRAME_POINTER || bytes[next] !== ADD_CONSTANT) continue;
    lowest = Math.min(lowest, view.getInt32(next + 4, true));
  }
  return Math.ceil(Math.max(-lowest, 1) / 32) * 32;
}

/** The deepest ways from a function: by bytes and by calls. */
function deepest(code: Code): { bytes: number; calls: number; way: string } {
  let most = { bytes: 0, calls: 0, way: '' };
  let calls = 0;
  for (const called of code.calls) {
    const below = deepest(called);
    calls = Math.max(calls, below.calls);
    if (below.bytes > most.bytes) most = below;
  }
  const way = `${code.name} (${code.frame})${most.way === '' ? '' : ` > ${most.way}`}`;
  return { bytes: most.bytes + code.frame, calls: calls + 1, way };
}

for (const name of OBJECTS) {
  test(`programs of ${name} keep to the stack of kernels before 6.13`, () => {
    const path = join(resolve(import.meta.dirname, '..'), 'build', `${name}.bpf.o`);
    const elf = Elf.parse(readFileSync(path));
    const code = codeOf(elf);
    assert.ok(code.size > 0, 'there is no code in it');
    for (const one of code.values()) {
      const { bytes, calls, way } = deepest(one);
      assert.ok(bytes <= STACK_MAX, `${bytes} bytes: ${way}`);
      assert.ok(calls <= CALLS_MAX, `${calls} calls from ${one.name}`);
    }
  });
}

test('frames of a way add up, and the longest way counts', () => {
  const leaf = (frame: number): Code => ({ name: `f${frame}`, frame, calls: new Set() });
  const middle: Code = { name: 'm', frame: 64, calls: new Set([leaf(32), leaf(160)]) };
  const root: Code = { name: 'r', frame: 96, calls: new Set([middle, leaf(192)]) };
  assert.deepEqual(deepest(root), { bytes: 320, calls: 3, way: 'r (96) > m (64) > f160 (160)' });
});

test('a frame is as deep as what is stored in it or pointed at', () => {
  const code = (...words: bigint[]) => new Uint8Array(BigUint64Array.from(words).buffer);
  const store = 0xfff8_0a7bn; // *(u64 *)(r10 - 8) = r0
  assert.equal(frameOf(code(store)), 32);
  const move = 0xa1bfn; // r1 = r10
  const add = 0xffff_ffc0_0000_0107n; // r1 += -64
  assert.equal(frameOf(code(move, add)), 64);
  assert.equal(frameOf(code(0x95n)), 32); // exit
});
