// Regular expressions of the operator's: what is refused says what to write instead.

import assert from 'node:assert/strict';
import test from 'node:test';
import { linearPatterns, patterns } from './leaf.ts';

test('flags of a pattern are refused with the way to write them', () => {
  const hint = (found: unknown): string => String((found as { cure?: string }).cure);
  assert.deepEqual(patterns().parse(['(?i:secret)']), ['(?i:secret)']);
  assert.match(hint(patterns().parse(['(?i)secret'])), /\(\?i:secret\), not \(\?i\)secret/);
  assert.match(hint(patterns().parse(['('])), /mend it/);
  assert.match(hint(linearPatterns.parse(['(?i)secret'])), /\[Ss\]/);
  assert.match(hint(linearPatterns.parse(['(?=a)'])), /without look-around/);
});
