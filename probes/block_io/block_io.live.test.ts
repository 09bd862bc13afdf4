// Requests of a loop device of the test's own, against the kernel's statistics of it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { type FlowRow, type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';

const COUNT = 500;
const BLOCK = 8192;

/** The name of a device over a file; undefined where there is none to be had. */
function loopDevice(t: TestContext): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-block-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'disk');
  writeFileSync(file, '');
  truncateSync(file, COUNT * BLOCK);
  const { status, stdout } = spawnSync('losetup', ['-f', '--show', file], { encoding: 'utf8' });
  if (status !== 0) return undefined;
  const path = stdout.trim();
  t.after(() => spawnSync('losetup', ['-d', path]));
  return basename(path);
}

/** [requests, bytes] read and written since the device was made. */
function truth(device: string): Record<string, readonly number[]> {
  const fields = readFileSync(`/sys/block/${device}/stat`, 'utf8').trim().split(/\s+/).map(Number);
  return {
    read: [fields[0]!, fields[2]! * 512],
    write: [fields[4]!, fields[6]! * 512],
  };
}

function seen({ sink }: Live, device: string): Record<string, readonly number[]> {
  return Object.fromEntries(
    ['read', 'write'].map((operation) => {
      const sums = sink.total({ device, operation }, ['requests', 'bytes'], 'block_io');
      return [operation, [sums.requests!, sums.bytes!]];
    }),
  );
}

function copy(from: string, to: string, flag: string): void {
  const words = [`if=${from}`, `of=${to}`, `bs=${BLOCK}`, `count=${COUNT}`, flag];
  const { status, stderr } = spawnSync('dd', words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

test('requests of a block device', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const device = loopDevice(t);
  if (device === undefined) return t.skip('needs a loop device: losetup');
  const before = truth(device); // of earlier users of the same device
  copy('/dev/zero', `/dev/${device}`, 'oflag=direct');
  copy(`/dev/${device}`, '/dev/null', 'iflag=direct');
  const done = () => {
    const now = truth(device);
    return Object.fromEntries(
      Object.entries(now).map(([name, [requests, bytes]]) => [
        name,
        [requests! - before[name]![0]!, bytes! - before[name]![1]!],
      ]),
    );
  };
  assert.ok(done().read![0]! >= COUNT && done().write![0]! >= COUNT);
  await settles(
    () => live.collector.flush(),
    () => seen(live, device),
    done(),
  );
  for (const operation of ['read', 'write']) {
    const row: FlowRow = live.sink.rows({ device, operation }, 'block_io')[0]!;
    assert.deepEqual([row.errors, row.size_sum], [0, row.bytes]);
    assert.deepEqual([row.latency_count, row.size_count], [row.requests, row.requests]);
    assert.ok(Number(row.latency_sum) > 0);
    // 8192 is the upper bound of the bucket of (2^12, 2^13], and in it.
    assert.ok(Number(row.size_bucket_12) >= COUNT, `${row.size_bucket_12}`);
  }
});
