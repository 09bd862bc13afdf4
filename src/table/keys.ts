// Finds the row of a key: an open-addressing hash over rows of doubles, which allocates only when it grows.

import type { TableDefinition } from './definition.ts';

const CAPACITY_MIN = 64;
/** Rows of keys as doubles; whole numbers only, so that bits and values say the same. */
const HIGH_WORD = 2 ** -32;

export class KeyIndex {
  readonly #width: number;
  /** Positions of the dimensions that need more than 32 bits. */
  readonly #wide: Int32Array;
  readonly #seed: number;
  #rows = 0;
  #mask = CAPACITY_MIN * 2 - 1;
  /** Two words a slot: the hash and row + 1 (0 if free). */
  #slots = new Int32Array(CAPACITY_MIN * 4);
  #keys: Float64Array;

  /** Ports and addresses are chosen by strangers: a random seed keeps them from choosing collisions. */
  constructor(def: TableDefinition, seed: number = Math.random() * 2 ** 32) {
    this.#width = def.dimensions.length;
    const wide = def.dimensions.flatMap(({ type }, i) => (type === 'u64' ? [i] : []));
    this.#wide = Int32Array.from(wide);
    this.#seed = seed | 0;
    this.#keys = new Float64Array(CAPACITY_MIN * this.#width);
  }

  get rows(): number {
    return this.#rows;
  }

  /** Keys of all rows, one after the other, `dimensions.length` numbers each. */
  get keys(): Float64Array {
    return this.#keys;
  }

  /** The row with this key, or -1. */
  find(dims: Float64Array): number {
    const hash = this.#hash(dims);
    const slots = this.#slots;
    const mask = this.#mask;
    let slot = hash & mask;
    for (;;) {
      const mark = slots[slot * 2 + 1]!;
      if (mark === 0) return -1;
      if (slots[slot * 2] === hash && this.#equal(mark - 1, dims)) return mark - 1;
      slot = (slot + 1) & mask;
    }
  }

  /** Adds a key that `find` did not find; returns its row. */
  insert(dims: Float64Array): number {
    const row = this.append(dims);
    if (this.#rows * 2 > this.#mask) this.#rehash((this.#mask + 1) * 2);
    else this.#place(this.#hash(dims), row);
    return row;
  }

  /** Adds a row that will never be looked for (events). */
  append(dims: Float64Array): number {
    const row = this.#rows;
    const width = this.#width;
    if ((row + 1) * width > this.#keys.length) {
      const keys = new Float64Array(this.#keys.length * 2);
      keys.set(this.#keys);
      this.#keys = keys;
    }
    const keys = this.#keys;
    for (let i = 0; i < width; i += 1) keys[row * width + i] = dims[i]!;
    this.#rows = row + 1;
    return row;
  }

  /** Empties it; gives memory back if the last use took less than an eighth. */
  clear(): void {
    const capacity = (this.#mask + 1) / 2;
    const shrink = capacity > CAPACITY_MIN && this.#rows * 8 < capacity;
    if (shrink) {
      this.#mask = capacity - 1;
      this.#slots = new Int32Array(capacity * 2);
    } else this.#slots.fill(0);
    const room = this.#keys.length / Math.max(this.#width, 1);
    if (room > CAPACITY_MIN && this.#rows * 8 < room) {
      this.#keys = new Float64Array(this.#keys.length / 2);
    }
    this.#rows = 0;
  }

  #equal(row: number, dims: Float64Array): boolean {
    const keys = this.#keys;
    const width = this.#width;
    const from = row * width;
    for (let i = 0; i < width; i += 1) if (keys[from + i] !== dims[i]) return false;
    return true;
  }

  /**
   * Murmur's mixing over the low words, then over the high words where there are any. Two lanes, since each step
   * waits for the one before it.
   */
  #hash(dims: Float64Array): number {
    let a = this.#seed;
    let b = ~a;
    const last = this.#width - 1;
    let i = 0;
    for (; i < last; i += 2) {
      a = rotate(a ^ Math.imul(dims[i]! | 0, 0x2d51f3a5));
      b = rotate(b ^ Math.imul(dims[i + 1]! | 0, 0x1b873593));
    }
    if (i === last) a = rotate(a ^ Math.imul(dims[i]! | 0, 0x2d51f3a5));
    const wide = this.#wide;
    for (let j = 0; j < wide.length; j += 1) {
      b = rotate(b ^ Math.imul((dims[wide[j]!]! * HIGH_WORD) | 0, 0x3b9f1a87));
    }
    a = Math.imul(a ^ (a >>> 16), 0x7feb352d);
    b = Math.imul(b ^ (b >>> 15), 0x6a09e667);
    a ^= b;
    return a ^ (a >>> 16);
  }

  #place(hash: number, row: number): void {
    const slots = this.#slots;
    const mask = this.#mask;
    let slot = hash & mask;
    while (slots[slot * 2 + 1] !== 0) slot = (slot + 1) & mask;
    slots[slot * 2] = hash;
    slots[slot * 2 + 1] = row + 1;
  }

  /** The hashes are in the slots: growing reads no key again, but that of the newest row. */
  #rehash(capacity: number): void {
    const old = this.#slots;
    this.#mask = capacity - 1;
    this.#slots = new Int32Array(capacity * 2);
    for (let i = 0; i < old.length; i += 2) {
      if (old[i + 1] !== 0) this.#place(old[i]!, old[i + 1]! - 1);
    }
    const newest = (this.#rows - 1) * this.#width;
    this.#place(this.#hash(this.#keys.subarray(newest, newest + this.#width)), this.#rows - 1);
  }
}

function rotate(word: number): number {
  return (Math.imul((word << 13) | (word >>> 19), 5) + 0x6b64e654) | 0;
}
