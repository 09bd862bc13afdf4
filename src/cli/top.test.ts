// The live table under the keys, with answers that come late or never.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Questions } from './asking.ts';
import { live } from './top.ts';

/** Never resolves. */
function never<T>(): Promise<T> {
  return new Promise(() => undefined);
}

function questionsOf(part: Partial<Questions>): Questions {
  return {
    query: never,
    rows: async () => [],
    fresh: async () => undefined,
    close: async () => undefined,
    ...part,
  };
}

/** Starts it on a terminal that keeps what was shown. */
function begin(part: Partial<Questions>) {
  const keys = new EventEmitter();
  const shown: string[] = [];
  const size = () => ({ columns: 100, rows: 24 });
  const print = (text: string) => void shown.push(text);
  const stop = new AbortController();
  const ended = live(questionsOf(part), 'read', { keys, size, print }, stop).then(() => 'ended');
  const type = (text: string) => keys.emit('data', Buffer.from(text));
  /** What has become of it so long after. */
  const within = (ms: number) => Promise.race([ended, delay(ms, 'goes on')]);
  return { keys, shown, stop, type, within };
}

test('something is shown before the first answer, and q or Ctrl-C end it without one', async () => {
  for (const key of ['q', '\x03', 'rwq']) {
    for (const part of [{ fresh: never<undefined> }, { rows: never<never> }]) {
      const { shown, type, within, keys } = begin(part);
      assert.match(shown[0] ?? '', /sonde top .*q: end/);
      await delay(20);
      type(key);
      assert.equal(await within(100), 'ended', key);
      assert.equal(keys.listenerCount('data'), 0);
      assert.equal(shown.length, 1, 'nothing is drawn after the end');
    }
  }
});

test('q ends it while it waits between two tables', async () => {
  const { type, within } = begin({});
  assert.equal(await within(50), 'goes on');
  type('q');
  assert.equal(await within(100), 'ended');
});

test('each key of one read counts, also while a table is drawn', async () => {
  const asked: string[] = [];
  const rows = async (sql: string) => {
    asked.push(/ORDER BY (\w+)/.exec(sql)?.[1] ?? '');
    await delay(50);
    return [];
  };
  const { type, shown, stop, within } = begin({ rows });
  await delay(10);
  type('tp');
  await delay(200);
  assert.deepEqual(asked, ['read', 'process']);
  assert.match(shown.at(-1) ?? '', /by process/);
  stop.abort();
  assert.equal(await within(100), 'ended');
});

test('a key cuts the wait for the newest rows short', async () => {
  const { shown, type, stop, within } = begin({ fresh: never<undefined> });
  await delay(50);
  type('w');
  await delay(50);
  assert.match(shown.at(-1) ?? '', /by written/);
  stop.abort();
  assert.equal(await within(100), 'ended');
});

test('rows that are late are said to be, and asked for once', async () => {
  let calls = 0;
  const fresh = () => {
    calls += 1;
    return never<undefined>();
  };
  const { shown, type, stop, within } = begin({ fresh });
  await delay(2200);
  assert.match(shown.at(-1) ?? '', /still to come\nno connections yet/);
  type('w');
  await delay(100);
  assert.match(shown.at(-1) ?? '', /by written/);
  assert.equal(calls, 1);
  stop.abort();
  assert.equal(await within(100), 'ended');
});
