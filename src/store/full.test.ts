// A disk that is full, for real: a small tmpfs. What is not stored is not confirmed; when there is space again, the same
// batches go in and the sums are exact. Needs the right to mount.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { netflow } from '../../probes/netflow.ts';
import { Store } from './client.ts';
import { bytesRead, flowBatch, rowsOf, temporaryDir } from './testing.ts';

const MEBIBYTE = 1024 * 1024;
const ROWS = 2000;
const TIME_MS = Date.now() - 3_600_000;

function mountSmall(path: string, mebibytes: number): string | undefined {
  const options = ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path];
  const { status, stderr } = spawnSync('mount', options);
  return status === 0 ? undefined : `cannot mount a tmpfs: ${stderr}`;
}

/** Takes all space but `left` bytes. */
function fill(path: string, left: number): void {
  const { bavail, bsize } = statfsSync(path);
  const free = Number(bavail) * Number(bsize) - left;
  for (let at = 0; at < free; at += MEBIBYTE) {
    const size = Math.min(MEBIBYTE, free - at);
    try {
      writeFileSync(join(path, 'ballast'), Buffer.alloc(size), { flag: 'a' });
    } catch (error) {
      // The engine merges meanwhile and was quicker: full is full.
      assert.match(String(error), /ENOSPC/);
      return;
    }
  }
}

async function assertExact(store: Store, seqs: readonly number[]): Promise<void> {
  const bytes = seqs.reduce((sum, seq) => sum + bytesRead(seq, ROWS), 0);
  const expected = { bytes, rows: seqs.length * ROWS };
  for (const table of ['netflow', 'netflow_1m', 'netflow_1h']) {
    const sql = `SELECT sum(bytes_read) AS bytes, sum(tcp_established) AS rows FROM ${table}`;
    assert.deepEqual((await rowsOf(store, sql))[0], expected, table);
  }
}

test('a full disk is a value; afterwards every batch is stored once', async (t) => {
  const dir = temporaryDir();
  const problem = mountSmall(dir.path, 256);
  if (problem !== undefined) {
    dir.remove();
    assert.notEqual(process.getuid?.(), 0, problem);
    return t.skip(problem);
  }
  try {
    const store = await Store.open({ target: { dir: join(dir.path, 's') }, tables: [netflow] });
    const stored: number[] = [1];
    assert.equal((await store.insert(flowBatch(1, ROWS, TIME_MS))).ok, true);
    const refused: number[] = [];
    // Less and less space: the journal, the base table or a rollup is the one that finds none.
    let seq = 1;
    for (const left of [4 * MEBIBYTE, 600_000, 400_000, 300_000, 200_000, 100_000, 20_000, 0]) {
      fill(dir.path, left);
      seq += 1;
      const result = await store.insert(flowBatch(seq, ROWS, TIME_MS));
      (result.ok ? stored : refused).push(seq);
      if (!result.ok) assert.equal(result.reason, 'disk_full', result.message);
      rmSync(join(dir.path, 'ballast'), { force: true });
      // A collector comes back with the same batch, while the disk is still full or not.
      if (seq % 2 === 0) fill(dir.path, 0);
      const again = await store.insert(flowBatch(seq, ROWS, TIME_MS));
      if (again.ok && !stored.includes(seq)) stored.push(seq);
      rmSync(join(dir.path, 'ballast'), { force: true });
    }
    t.diagnostic(`refused first: ${refused.join(', ')}`);
    assert.ok(refused.length > 0, 'the disk was never full');
    for (const missing of refused) {
      assert.equal((await store.insert(flowBatch(missing, ROWS, TIME_MS))).ok, true);
    }
    const all = Array.from({ length: seq }, (_, i) => i + 1);
    await assertExact(store, all);
    await store.close();
  } finally {
    spawnSync('umount', ['-l', dir.path]);
    dir.remove();
  }
});
