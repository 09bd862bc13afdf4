import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Outcome } from './machine.ts';
import { PrefixedLines, type Result, statusOf, table } from './report.ts';

function result(series: string, outcome: Partial<Outcome>): Result {
  const whole = { how: 'exit', status: 0, boots: 1, wall_ms: 1234, console: '' } as const;
  return { series, release: `${series}.0-1`, outcome: { ...whole, ...outcome } };
}

test('the table says of each kernel what became of it', () => {
  const text = table([
    result('5.10', {}),
    result('6.1', { status: 3, boots: 2 }),
    result('6.12', { how: 'limit', status: 124 }),
    result('6.18', { how: 'boot', status: 125, boots: 3 }),
    result('7.2', { status: 125 }),
  ]);
  assert.equal(
    text,
    `kernel  release   result                   time
5.10    5.10.0-1  ok                       1.2 s
6.1     6.1.0-1   exit 3, at boot 2        1.2 s
6.12    6.12.0-1  time limit               1.2 s
6.18    6.18.0-1  did not boot in 3 tries  1.2 s
7.2     7.2.0-1   ended without a status   1.2 s
`,
  );
});

test('the status is that of the first kernel that failed', () => {
  assert.equal(statusOf([result('5.10', {}), result('6.1', {})]), 0);
  const mixed = [result('5.10', {}), result('6.1', { status: 7 }), result('6.12', { status: 124 })];
  assert.equal(statusOf(mixed), 7);
});

test('lines get their prefix however the stream is cut', () => {
  const bytes = Buffer.from('first line: é\r\nsecond\nrest');
  for (let at = 0; at <= bytes.length; at++) {
    const written: string[] = [];
    const lines = new PrefixedLines('6.1 | ', (text) => written.push(text));
    lines.push(bytes.subarray(0, at));
    lines.push(bytes.subarray(at));
    assert.deepEqual(written, ['6.1 | first line: é\n', '6.1 | second\n']);
    lines.flush();
    lines.flush();
    assert.deepEqual(written.slice(2), ['6.1 | rest\n']);
  }
});
