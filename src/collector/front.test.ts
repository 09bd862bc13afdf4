// Slots of two CPUs, as further entries of the map behind them.

import assert from 'node:assert/strict';
import test from 'node:test';
import { FrontReader } from './front.ts';

const SLOTS = 2;
const CPUS = 2;
const SLOT_WORDS = 3; // a key and two sums
const VALUE_WORDS = 4; // who it is, the two sums, and what the slots do not have

function words(...values: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

/** What the slots of a turn hold, and what is written there. */
class Slots {
  readonly valueStride = SLOTS * CPUS * SLOT_WORDS * 8;
  readonly written: [number, Uint8Array][] = [];
  readonly #of: readonly Uint8Array[];

  constructor(...of: readonly Uint8Array[]) {
    this.#of = of;
  }

  lookup(key: Uint8Array, out: Uint8Array): boolean {
    out.set(this.#of[key[0]!]!);
    return true;
  }

  update(key: Uint8Array, value: Uint8Array): void {
    this.written.push([key[0]!, value]);
  }
}

const FRONT = { map: 'some_cpu', slot_bytes: SLOT_WORDS * 8, sums: 8, first: 8 };
const EMPTY = new Uint8Array(SLOTS * CPUS * SLOT_WORDS * 8);

function behind(key_size: number, keys: Uint8Array, values: Uint8Array) {
  const count = keys.length / key_size;
  return { count, keys, values, key_size, value_stride: VALUE_WORDS * 8 };
}

test('the slots in use have the owner of the entry with their key', () => {
  const taken = [5n, 1n, 2n, 7n, 0n, 0n, 7n, 3n, 0n, 5n, 0n, 9n];
  const slots = new Slots(EMPTY, words(...taken));
  const reader = new FrontReader(slots, FRONT);
  reader.read(1);
  const values = words(70n, 1n, 1n, 1n, 50n, 2n, 2n, 2n);
  const { count, keys, values: sums } = reader.joined(behind(8, words(7n, 5n), values));
  assert.equal(count, 5); // the other slot holds nothing
  assert.deepEqual(keys, words(7n, 5n, 5n, 7n, 5n));
  assert.deepEqual(sums.subarray(0, values.length), values);
  const added = words(50n, 1n, 2n, 0n, 70n, 3n, 0n, 0n, 50n, 0n, 9n, 0n);
  assert.deepEqual(sums.subarray(values.length), added);
  assert.deepEqual(slots.written, []);
  reader.clear();
  assert.deepEqual(slots.written, [[1, EMPTY]]);
});

test('keys of 4 bytes', () => {
  const reader = new FrontReader(new Slots(words(5n, 1n, 2n, ...Array<bigint>(9).fill(0n))), FRONT);
  reader.read(0);
  const keys = new Uint8Array(Uint32Array.of(5).buffer);
  const found = reader.joined(behind(4, keys, words(50n, 0n, 0n, 0n)));
  assert.deepEqual(found.keys, new Uint8Array(Uint32Array.of(5, 5).buffer));
  assert.deepEqual(found.values, words(50n, 0n, 0n, 0n, 50n, 1n, 2n, 0n));
});

test('sums without an entry are kept, without an owner; empty slots are not written', () => {
  const slots = new Slots(words(5n, 1n, 2n, ...Array<bigint>(9).fill(0n)), EMPTY);
  const reader = new FrontReader(slots, FRONT);
  reader.read(0);
  reader.clear();
  const nothing = behind(8, new Uint8Array(0), new Uint8Array(0));
  assert.deepEqual(reader.joined(nothing).values, words(0n, 1n, 2n, 0n));
  reader.read(1);
  reader.clear();
  assert.equal(reader.joined(nothing).count, 0);
  assert.deepEqual(slots.written, [[0, EMPTY]]);
});
