import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { tableFromArrays, tableFromIPC, tableToIPC } from 'apache-arrow';
import { FlightSender, type SenderOptions } from './client.ts';
import { Dedup } from './dedup.ts';
import { joinStream } from './ipc.ts';
import type { Sender } from './put.ts';
import { FlightServer } from './server.ts';
import { Spool } from './spool.ts';

function batchOf(first: number, rows: number): Uint8Array {
  const numbers = Int32Array.from({ length: rows }, (_, index) => first + index);
  const names = Array.from({ length: rows }, (_, index) => `name${index % 3}`);
  return tableToIPC(tableFromArrays({ n: numbers, name: names }), 'stream');
}

function folder(t: { after(fn: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'wire-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function senderOptions(port: number): SenderOptions {
  return {
    host: '127.0.0.1',
    port,
    collector_id: 'c1',
    hostname: 'h',
    version: '0',
    backoff_ms_min: 5,
    backoff_ms_max: 20,
  };
}

/** A store that keeps what it is given, decoded. */
function memoryStore() {
  const rows: { table: string; n: number; name: string; sender: Sender }[] = [];
  return {
    rows,
    put: async (sender: Sender, batch: Parameters<typeof joinStream>[0] & { table: string }) => {
      for (const row of tableFromIPC(joinStream(batch))) {
        rows.push({ table: batch.table, n: row.n, name: row.name, sender });
      }
      return { ok: true } as const;
    },
  };
}

test('what is appended reaches the store once, in order, and leaves the spool', async (t) => {
  const store = memoryStore();
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, store);
  const spool = Spool.open(folder(t), { bytes_max: 1 << 20 });
  const sender = new FlightSender(spool, senderOptions(server.port));
  t.after(async () => {
    await sender.close();
    spool.close();
    await server.close();
  });
  for (let turn = 0; turn < 10; turn++) {
    const result = spool.appendGroup(
      [
        { table: 'netflow', payload: batchOf(turn * 100, 100), rows: 100, counts: {} },
        { table: 'ledger', payload: batchOf(turn, 1), rows: 1, counts: {} },
      ],
      { ring_id: 'r', cursor: turn },
    );
    assert.equal(result.ok, true);
    sender.kick();
  }
  await sender.flush();
  const flows = store.rows.filter((row) => row.table === 'netflow');
  assert.deepEqual(
    flows.map((row) => row.n),
    Array.from({ length: 1000 }, (_, index) => index),
  );
  assert.equal(flows[4].name, 'name1');
  assert.deepEqual(flows[0].sender, {
    collector_id: 'c1',
    host: 'h',
    version: '0',
    peer: flows[0].sender.peer,
    seq: 1,
  });
  assert.equal(store.rows.length, 1010);
  assert.deepEqual([...spool.pending()], []);
  assert.deepEqual(spool.last(), { seq: 20, ring: { ring_id: 'r', cursor: 9 } });
  assert.equal(sender.stats.batches_acknowledged, 20);
  assert.equal(server.stats.batches, 20);
});

test('lost acknowledgements cause resends, and the store has every row once', async (t) => {
  const store = memoryStore();
  const dedup = new Dedup();
  let calls = 0;
  const put: typeof store.put = async (sender, batch) => {
    const ack = await store.put(sender, batch);
    // The store has it, the acknowledgement is lost: the connection breaks now and then.
    if (++calls % 3 === 0) {
      dedup.stored(sender.collector_id, batch.table, sender.seq);
      throw new Error('broken on purpose');
    }
    return ack;
  };
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put, dedup });
  const spool = Spool.open(folder(t), { bytes_max: 1 << 20 });
  const sender = new FlightSender(spool, senderOptions(server.port));
  t.after(async () => {
    await sender.close();
    spool.close();
    await server.close();
  });
  for (let turn = 0; turn < 20; turn++) {
    spool.append({ table: 'netflow', payload: batchOf(turn, 1), rows: 1, counts: {} });
  }
  await sender.flush();
  assert.deepEqual(
    store.rows.map((row) => row.n),
    Array.from({ length: 20 }, (_, index) => index),
  );
  assert.ok(sender.stats.resends > 0, 'nothing was sent again');
  assert.ok(dedup.repeats > 0, 'no repeat was seen');
  assert.equal(server.stats.refused.unavailable, 6);
});
