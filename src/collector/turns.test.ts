// Turns over a successor, who knows from the spool what its predecessor told.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Turns } from './turns.ts';

/** `sonde_turn`, and how often a grace period was waited for. */
class Place {
  waits = 0;
  readonly #value: Uint32Array;

  constructor(turn: number) {
    this.#value = Uint32Array.of(turn);
  }

  get turn(): number {
    return this.#value[0]!;
  }

  turns(taken_over: boolean, told?: number): Turns {
    const bytes = new Uint8Array(this.#value.buffer);
    const map = {
      lookup: (_: Uint8Array, out: Uint8Array) => {
        out.set(bytes);
        return true;
      },
      update: (_: Uint8Array, value: Uint8Array) => bytes.set(value),
    };
    return new Turns({ map, taken_over, told, wait: () => void this.waits++ });
  }
}

test('each end gives the maps that were filled until then', () => {
  const place = new Place(0);
  const turns = place.turns(false);
  assert.equal(turns.left, false);
  assert.equal(turns.reached, undefined);
  for (const ended of [0, 1, 2]) {
    turns.end();
    const { idle, reached } = turns;
    assert.deepEqual(
      [idle, reached, place.turn, place.waits],
      [ended % 2, ended, ended + 1, ended + 1],
    );
  }
});

test('a turn that was ended and not told comes by itself, and programs stay where they are', () => {
  const place = new Place(8);
  const turns = place.turns(true, 6);
  assert.deepEqual([turns.left, turns.reached], [true, 6]);
  turns.end();
  assert.deepEqual([turns.left, turns.idle, turns.reached, place.turn], [false, 1, 7, 8]);
  assert.equal(place.waits, 1, 'the predecessor may have been killed before its own wait was over');
  turns.end();
  assert.deepEqual([turns.idle, turns.reached, place.turn], [0, 8, 9]);
});

test('a turn that was told does not come again', () => {
  const turns = new Place(8).turns(true, 7);
  assert.deepEqual([turns.left, turns.reached, turns.idle], [false, 7, 1]);
});

test('of whom nothing is known, all is told that is there', () => {
  assert.equal(new Place(8).turns(true).left, true);
});

test('the number goes round', () => {
  const place = new Place(0xffffffff);
  const turns = place.turns(true, 0xfffffffe);
  assert.equal(turns.left, false);
  turns.end();
  assert.deepEqual([turns.reached, turns.idle, place.turn], [0xffffffff, 1, 0]);
  assert.equal(place.turns(true, 0xffffffff).left, false);
});
