// kill -9 in the middle of inserting, again and again: the sums are exact afterwards, in the base table and in all that
// follows from it, and nothing that was confirmed is missing.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { netflow } from '../../probes/netflow.ts';
import { Store } from './client.ts';
import { bytesRead, rowsOf, temporaryDir } from './testing.ts';

const CHILD = fileURLToPath(new URL('./crash-child.ts', import.meta.url));
const ROWS = 200;
const TIME_MS = Date.now() - 3_600_000;

/** Starts a child and kills it after `kills_after` confirmations, at a moment of its own within an insert. */
async function runAndKill(dir: string, last: number, kills_after: number): Promise<number> {
  const args = [CHILD, dir, String(ROWS), String(TIME_MS), String(last)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  let text = '';
  let confirmed = 0;
  let killing = false;
  for await (const chunk of child.stdout) {
    text += chunk;
    const lines = text.split('\n').slice(0, -1);
    confirmed = Number(lines.at(-1)?.replace('open ', '') ?? 0);
    if (killing || lines.length <= kills_after) continue;
    killing = true;
    setTimeout(() => child.kill('SIGKILL'), (kills_after * 7) % 20);
  }
  await exited;
  return confirmed;
}

async function assertExact(store: Store, seqs: number): Promise<void> {
  let sum = 0;
  for (let seq = 1; seq <= seqs; seq += 1) sum += bytesRead(seq, ROWS);
  const expected = { bytes: sum, rows: seqs * ROWS };
  for (const table of ['netflow', 'netflow_1m', 'netflow_1h']) {
    const sql = `SELECT sum(bytes_read) AS bytes, sum(tcp_established) AS rows FROM ${table}`;
    assert.deepEqual((await rowsOf(store, sql))[0], expected, table);
  }
  const ends = `SELECT sum(client_bytes_received + server_bytes_received) AS bytes,
    sum(client_connections + server_connections) AS rows FROM connections`;
  assert.deepEqual((await rowsOf(store, ends))[0], expected, 'connections');
}

test('killed again and again, every batch is stored once, everywhere', async () => {
  const dir = temporaryDir();
  try {
    let confirmed = 0;
    for (let round = 0; round < 6; round += 1) {
      const before = confirmed;
      confirmed = await runAndKill(dir.path, 10_000, 1 + round);
      assert.ok(confirmed >= before, `${confirmed} after ${before}`);
    }
    const store = await Store.open({ target: { dir: dir.path }, tables: [netflow] });
    const known = (await store.maxSeqs()).get('collector-1')?.get('netflow') ?? 0;
    assert.ok(known >= confirmed, `confirmed ${confirmed}, stored ${known}`);
    await assertExact(store, known);
    await store.close();
  } finally {
    dir.remove();
  }
});
