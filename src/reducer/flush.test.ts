// Who counts as connected: also a collector that has no call open, since it delivers still; and what is said of the others.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { FlushReport } from '../wire/ask.ts';
import { FlushBoard } from './flush.ts';

const CALL = { collector_id: 'a', host: 'h' };

/** A board whose time goes on by `tick` alone, with a collector that was told to deliver and has not answered. */
async function delivering(t: TestContext) {
  t.mock.timers.enable({ apis: ['Date', 'setTimeout'], now: 1_700_000_000_000 });
  t.mock.method(performance, 'now', () => Date.now());
  const board = new FlushBoard();
  const told = board.control(CALL);
  const flush = (timeout_ms: number) => {
    const report = board.flush(timeout_ms);
    t.mock.timers.tick(timeout_ms);
    return report;
  };
  const { message } = await flush(2000);
  assert.equal(message, 'Not all has arrived within 2 s: no answer from h (a)');
  assert.equal(typeof (await told).flush, 'number');
  return { board, flush };
}

test('a collector that delivers for longer than a minute is connected', async (t) => {
  const { board, flush } = await delivering(t);
  for (let i = 0; i < 3; i += 1) {
    t.mock.timers.tick(50_000);
    board.heard('a');
  }
  const { complete, collectors, message } = await flush(1000);
  assert.deepEqual([complete, collectors.length], [false, 1]);
  assert.equal(message, 'Not all has arrived within 1 s: no answer from h (a)');
});

test('one that fell silent is not, and when it was heard is said', async (t) => {
  const { board, flush } = await delivering(t);
  t.mock.timers.tick(87_000); // 2 s went by before, and 1 s will
  assert.equal(board.connected, 0);
  const { collectors, message } = await flush(1000);
  assert.deepEqual(collectors, []);
  assert.equal(message, 'No collector is connected; h (a) was heard 90 s ago');
});

test('one that has ended is not, whatever of its batches is still on the way', async (t) => {
  const { board, flush } = await delivering(t);
  const ended = new AbortController();
  const { flush: wish } = await board.control(CALL);
  assert.ok(wish !== undefined, 'a wish that was not fulfilled is told again');
  void board.control({ ...CALL, flushed: wish }, ended.signal);
  assert.equal(board.connected, 1);
  ended.abort();
  board.heard('a');
  t.mock.timers.tick(5000);
  assert.equal((await flush(1000)).message, 'No collector is connected');
});

/** The report of a question, as soon as there is one; time goes on by `tick` alone. */
function asking(board: FlushBoard) {
  let report: FlushReport | undefined;
  void board.flush(60_000).then((one) => {
    report = one;
  });
  return async () => {
    await new Promise((resolve) => setImmediate(resolve));
    return report && [report.complete, report.message];
  };
}

test('one whose call ends while it is awaited is not awaited for long', async (t) => {
  const { board } = await delivering(t);
  const ended = new AbortController();
  const { flush: wish } = await board.control(CALL);
  assert.ok(wish !== undefined);
  void board.control({ ...CALL, flushed: wish }, ended.signal);
  ended.abort();
  const answered = asking(board);
  t.mock.timers.tick(2900);
  assert.equal(await answered(), undefined, 'it may call again');
  t.mock.timers.tick(200);
  const words = 'Not all has arrived: stopped before all was delivered: h (a)';
  assert.deepEqual(await answered(), [false, words]);
  assert.equal(board.connected, 0);
});

test('one that says that it ends is not awaited at all, and its last rows count', async (t) => {
  const { board } = await delivering(t);
  const first = asking(board);
  assert.deepEqual(await board.control({ ...CALL, leaving: 'delivered' }), {});
  assert.deepEqual(await first(), [true, '1 collectors delivered']);
  assert.equal(board.connected, 0);
  void board.control(CALL);
  const second = asking(board);
  assert.deepEqual(await board.control({ ...CALL, leaving: 'undelivered' }), {});
  const words = 'Not all has arrived: stopped before all was delivered: h (a)';
  assert.deepEqual(await second(), [false, words]);
});
