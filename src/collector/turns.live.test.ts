// Totals of the maps that are taken in turns, when the collector is killed between taking and writing: each comes once.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ask, hear, kill, startChild } from '../../test/child.ts';
import { liveFolders, NO_LIVE, Sink, settles } from '../../test/live.ts';
import { Spend, type Spent } from '../../test/spend/spend.ts';

const COUNT = 200_000;
const BUSY_COUNT = 4_000_000;
const KILLS = 12;
/** No interval ends but those that are asked for. */
const INTERVAL_MS = 600_000;
/** Far more than taking the totals takes. */
const HELD_MS = 1500;
const RING_BYTES = 8 << 20;
const OWN = { interval: INTERVAL_MS, probes: { syscalls: { enabled: true } } };

interface Place {
  readonly data_dir: string;
  readonly pin_path: string;
  readonly port: number;
}

function start(t: TestContext, { data_dir, pin_path, port }: Place, ring_bytes = RING_BYTES) {
  return startChild(t, [data_dir, pin_path, `${port}`, `${ring_bytes}`, JSON.stringify(OWN)]);
}

/** All calls of the process are told, once. */
async function isTold(child: ReturnType<typeof start>, sink: Sink, spent: Spent): Promise<void> {
  const flush = () => ask(child, 'flush');
  const calls = (syscall: string) =>
    sink.total({ pid: spent.pid, syscall }, ['calls'], 'syscall').calls;
  const seen = () => ['getppid', 'fchdir', 'chdir'].map(calls);
  await settles(flush, seen, [spent.getppid, spent.fchdir, spent.chdir]);
}

test('killed while no disk and no reducer takes the rows', { skip: NO_LIVE }, async (t) => {
  const options = ['-t', 'tmpfs', '-o', 'size=512k', 'turns-test'];
  const folders: Place = { ...liveFolders(t), port: 0 };
  const { data_dir } = folders;
  if (spawnSync('mount', [...options, data_dir]).status !== 0)
    return t.skip('mount -t tmpfs is refused here');
  try {
    await heldAndKilled(t, folders);
  } finally {
    spawnSync('umount', ['-l', data_dir]);
  }
});

async function heldAndKilled(t: TestContext, folders: Place): Promise<void> {
  const { data_dir } = folders;
  const nobody = await Sink.listen();
  const { port } = nobody;
  await nobody.close();
  const first = start(t, { ...folders, port });
  assert.equal((await hear(first)).taken_over, false);
  const ballast = join(data_dir, 'ballast');
  assert.throws(() => writeFileSync(ballast, Buffer.alloc(1 << 20)), { code: 'ENOSPC' });
  const spend = Spend.start(t, 'calls', COUNT);
  const spent = await spend.spent;
  first.send('flush'); // will not be answered
  await delay(HELD_MS);
  await kill(first);
  rmSync(ballast);
  const sink = await Sink.listen(port);
  t.after(() => sink.close());
  const second = start(t, { ...folders, port });
  assert.equal((await hear(second)).taken_over, true);
  await isTold(second, sink, spent);
  await spend.end();
  await ask(second, 'stop');
}

test(`killed ${KILLS} times while it takes totals all the time`, { skip: NO_LIVE }, async (t) => {
  const sink = await Sink.listen();
  t.after(() => sink.close());
  const place = { ...liveFolders(t), port: sink.port };
  let child = start(t, place);
  await hear(child);
  const spend = Spend.start(t, 'calls', BUSY_COUNT);
  for (let kills = 0; kills < KILLS; kills += 1) {
    const flushes = setInterval(() => child.send('flush'), 20);
    await delay(100 + 17 * kills);
    clearInterval(flushes);
    await kill(child);
    child = start(t, place);
    assert.equal((await hear(child)).taken_over, true);
  }
  const spent = await spend.spent;
  await isTold(child, sink, spent);
  await spend.end();
  await ask(child, 'stop');
  assert.equal(existsSync(place.pin_path), false);
});

test('what a collector of another build left is lost, and the ledger says so', {
  skip: NO_LIVE,
}, async (t) => {
  const sink = await Sink.listen();
  t.after(() => sink.close());
  const place = { ...liveFolders(t), port: sink.port };
  const first = start(t, place);
  await hear(first);
  const spend = Spend.start(t, 'calls', COUNT);
  await spend.spent;
  await kill(first);
  const other = start(t, place, 2 * RING_BYTES);
  assert.equal((await hear(other)).taken_over, false);
  await ask(other, 'flush');
  const left = {
    table: 'totals_left_by_another_build',
    outcome: 'dropped',
    reason: 'unknown_layout',
  };
  const { count } = sink.total(left, ['count'], 'sonde_ledger');
  assert.ok(count! >= 3, `${count} entries`); // one for each call and its error
  await spend.end();
  await ask(other, 'stop');
});
