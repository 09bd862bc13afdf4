import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeliveryLog } from './delivery_log.ts';

const WELL = { error: '', gone: '', unreachable: '', dropped: { batches: 0, rows: 0 } };

/** Lines as they would be written, level first. */
function listen(): { lines: unknown[]; log: ConstructorParameters<typeof DeliveryLog>[0] } {
  const lines: unknown[] = [];
  const at = (level: string) => (first: unknown, second?: unknown) => {
    lines.push(second === undefined ? [level, first] : [level, first, second]);
  };
  return { lines, log: { info: at('info'), warn: at('warn'), error: at('error') } };
}

test('a reducer that takes nothing is told of once a reason, and once when it does again', () => {
  const { lines, log } = listen();
  const said = new DeliveryLog(log, 'r:8000');
  for (const unreachable of ['', 'refused', 'refused', 'wrong token', 'wrong token', '', '']) {
    said.note({ ...WELL, unreachable });
  }
  const waits = 'the reducer takes no rows; they wait in the spool';
  assert.deepEqual(lines, [
    ['warn', { reducer: 'r:8000', reason: 'refused' }, waits],
    ['warn', { reducer: 'r:8000', reason: 'wrong token' }, waits],
    ['info', { reducer: 'r:8000' }, 'the reducer takes rows again'],
  ]);
});

test('what a full spool drops is told of at once, then summed up for a minute', (t) => {
  let now = 1000;
  t.mock.method(performance, 'now', () => now);
  const { lines, log } = listen();
  const said = new DeliveryLog(log, 'r:8000');
  for (let batches = 0; batches < 10; batches += 1) {
    said.note({ ...WELL, dropped: { batches, rows: 5 * batches } });
    now += 20_000;
  }
  said.note({ ...WELL, dropped: { batches: 9, rows: 45 } }, true);
  const counts = lines.map((line) => {
    const [level, { batches, rows }] = line as [string, { batches: number; rows: number }];
    return [level, batches, rows];
  });
  assert.deepEqual(counts, [
    ['warn', 1, 5],
    ['warn', 3, 15],
    ['warn', 3, 15],
    ['warn', 2, 10],
  ]);
});
