// The table's encoding over the whole way: what a fold closed is what the reducer reads.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeBatch, encodeBatch } from '../table/batch.ts';
import { batchRows, foldRows, SEED, sampleRow, sampleTable } from '../table/testing.ts';
import { FlightSender } from './client.ts';
import { joinStream } from './ipc.ts';
import type { Ack, Sender } from './put.ts';
import { FlightServer } from './server.ts';
import { Spool } from './spool.ts';

test('a batch of a table is the same on the other side', async (t) => {
  const rows = fc.sample(sampleRow, { seed: SEED, numRuns: 300 });
  // The sample has few keys; a cgroup of its own makes each row stay one.
  const apart = rows.map((row, i) => ({ ...row, dimensions: [...row.dimensions.slice(0, -1), i] }));
  const batch = foldRows(sampleTable, apart).close(1_700_000_000_000);
  assert.ok(batch && batch.rows === 300);
  const arrived: Buffer[] = [];
  const put = async (_sender: Sender, one: Parameters<typeof joinStream>[0]): Promise<Ack> => {
    arrived.push(joinStream(one));
    return { ok: true };
  };
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put });
  const dir = mkdtempSync(join(tmpdir(), 'wire-'));
  const spool = Spool.open(dir, { bytes_max: 1 << 20 });
  const about = { collector_id: 'c', hostname: 'h', version: '0' };
  const sender = new FlightSender(spool, { host: '127.0.0.1', port: server.port, ...about });
  t.after(async () => {
    await sender.close();
    spool.close();
    rmSync(dir, { recursive: true, force: true });
    await server.close();
  });
  const entry = { table: 'sample', payload: encodeBatch(batch), rows: batch.rows, counts: {} };
  spool.append(entry);
  sender.kick();
  await sender.flush();
  assert.equal(arrived.length, 1);
  const decoded = decodeBatch(arrived[0]!);
  assert.ok('batch' in decoded);
  assert.deepEqual(batchRows(decoded.batch), batchRows(batch));
});
