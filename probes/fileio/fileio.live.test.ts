// Reads and writes by kind of file, against a program that counts its own, exactly.

import assert from 'node:assert/strict';
import test from 'node:test';
import { type Live, lacks, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { asleep, Spend } from '../../test/spend/spend.ts';

const COUNT = 2000;
const SIZE = 300;
const ON = { fileio: { enabled: true } };

type Seen = Record<string, readonly number[]>;

/** `kind operation` → [calls, errors, bytes] of a process. */
function seen({ sink }: Live, pid: number): Seen {
  const rows = sink.rows({ pid }, 'file_io');
  return Object.fromEntries(
    rows.map(({ file_kind, operation, calls, errors, bytes }) => [
      `${file_kind} ${operation}`,
      [Number(calls), Number(errors), Number(bytes)],
    ]),
  );
}

/** What came since; kinds of which nothing did are left out. */
function less(now: Seen, before: Seen): Seen {
  const changes = Object.entries(now).map(([name, counts]): [string, readonly number[]] => [
    name,
    counts.map((count, i) => count - (before[name]?.[i] ?? 0)),
  ]);
  return Object.fromEntries(changes.filter(([, counts]) => counts.some((count) => count !== 0)));
}

/** What `spend files` does: each kind is written and read once over; then reads that fail, and reads at an offset. */
function expected(count: number, size: number): Seen {
  const once = [count, 0, count * size];
  return {
    'regular write': once,
    'regular read': [2 * count, 0, 2 * count * size],
    'pipe write': once,
    'pipe read': once,
    'socket write': once,
    'socket read': once,
    'character write': once,
    'character read': once,
    'tty write': once,
    'tty read': once,
    'none read': [count, count, 0],
  };
}

for (const latency of [false, true]) {
  test(`reads and writes, latency ${latency}`, { skip: NO_LIVE }, async (t) => {
    const live = await startLive(t, { collector: { probes: ON, fileio: { latency } } });
    const missing = lacks(live, 'fileio', latency ? 'latency' : 'calls');
    if (missing) return t.skip(missing);
    const spend = Spend.start(t, 'files', COUNT, SIZE);
    await asleep(spend.pid);
    await live.collector.flush();
    const before = seen(live, spend.pid); // what its loader read
    spend.begin();
    const { pid } = await spend.spent;
    await settles(
      () => live.collector.flush(),
      () => less(seen(live, pid), before),
      expected(COUNT, SIZE),
    );
    const rows = live.sink.rows({ pid, file_kind: 'tty' }, 'file_io');
    for (const row of rows) {
      assert.equal(row.process_name, 'spend');
      assert.equal(row.latency_count, latency ? COUNT : 0);
    }
    await spend.end();
  });
}
