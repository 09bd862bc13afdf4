// Texts come from other people's processes: a table for people holds nothing that a terminal obeys.

import assert from 'node:assert/strict';
import test from 'node:test';
import { shownAnswer } from './query.ts';

test('control characters go from tables, and stay in the other formats', () => {
  const answer = Buffer.from('┌─a─┐\n│ \u001b]0;x\u0007\u009b2J\r é │\n└───┘\n');
  assert.equal(
    shownAnswer('table', answer).toString(),
    '┌─a─┐\n│ \ufffd]0;x\ufffd\ufffd2J\ufffd é │\n└───┘\n',
  );
  for (const format of ['csv', 'json', 'arrow'] as const) {
    assert.equal(shownAnswer(format, answer), answer);
  }
});
