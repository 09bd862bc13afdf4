import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { tableFromArrays, tableFromIPC, tableToIPC } from 'apache-arrow';
import { FlightSender, type SenderOptions } from './client.ts';
import { Dedup } from './dedup.ts';
import { joinStream } from './ipc.ts';
import type { Ack, Sender } from './put.ts';
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
    put: async (
      sender: Sender,
      batch: Parameters<typeof joinStream>[0] & { table: string },
    ): Promise<Ack> => {
      for (const row of tableFromIPC(joinStream(batch))) {
        rows.push({ table: batch.table, n: row.n, name: row.name, sender });
      }
      return { ok: true };
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

/** A spool and a sender that end with the test. */
function collector(
  t: TestContext,
  port: number,
  options: Partial<SenderOptions> = {},
  bytes_max = 1 << 20,
) {
  const spool = Spool.open(folder(t), { bytes_max });
  const sender = new FlightSender(spool, { ...senderOptions(port), ...options });
  t.after(async () => {
    await sender.close();
    spool.close();
  });
  const append = (n: number, rows = 1) => {
    const payload = batchOf(n, rows);
    const result = spool.append({ table: 'netflow', payload, rows, counts: {} });
    sender.kick();
    return result;
  };
  return { spool, sender, append };
}

test('a reducer that restarts under load gets every row once', async (t) => {
  const store = memoryStore();
  const dedup = new Dedup();
  const listen = (port: number) =>
    FlightServer.listen({ host: '127.0.0.1', port }, { put: store.put, dedup });
  let server = await listen(0);
  const { port } = server;
  const { sender, append } = collector(t, port);
  let appended = 0;
  for (let restart = 0; restart < 4; restart++) {
    for (let turn = 0; turn < 50; turn++) {
      append(appended++);
      if (turn % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await server.close();
    append(appended++);
    server = await listen(port);
  }
  await sender.flush();
  await server.close();
  assert.deepEqual(
    store.rows.map((row) => row.n),
    Array.from({ length: appended }, (_, index) => index),
  );
  assert.ok(sender.stats.connects >= 2, 'the restarts were not noticed');
});

test('a clock that is set back while the reducer is away delays nothing', async (t) => {
  const store = memoryStore();
  const first = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, store);
  const { port } = first;
  await first.close();
  const { sender, append } = collector(t, port);
  append(0);
  while (sender.stats.failures < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() - 7_200_000 });
  const second = await FlightServer.listen({ host: '127.0.0.1', port }, store);
  t.after(() => second.close());
  await sender.flush();
  assert.equal(store.rows.length, 1);
});

test('batches that found the disk full are sent from memory, in their place', async (t) => {
  const store = memoryStore();
  const dedup = new Dedup();
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { ...store, dedup });
  t.after(() => server.close());
  const { spool, sender, append } = collector(t, server.port);
  append(0);
  const payload = batchOf(1, 1);
  // A group above half of the spool is refused as a full disk would refuse it.
  const large = { table: 'netflow', payload: new Uint8Array(1 << 20), rows: 1, counts: {} };
  const refused = spool.appendGroup([large], { ring_id: 'r', cursor: 5 });
  assert.ok(!refused.ok && refused.seqs);
  assert.deepEqual(refused.seqs, [2]);
  const sent = sender.sendMemory([{ ...large, payload, seq: refused.seqs[0] }]);
  assert.equal(sender.memoryBytes(), payload.length);
  append(2);
  assert.equal(await sent, true);
  await sender.flush();
  assert.deepEqual(
    store.rows.map((row) => [row.n, row.sender.seq]),
    [
      [0, 1],
      [1, 2],
      [2, 3],
    ],
  );
  assert.equal(sender.memoryBytes(), 0);
  const late = await sender.sendMemory([{ ...large, payload, seq: 2 }]);
  assert.equal(late, false, 'a batch from the past would be dropped as a repeat');
});

test('a batch that is refused for good does not block the next, and is reported once', async (t) => {
  const store = memoryStore();
  const put: typeof store.put = async (sender, batch) =>
    sender.seq === 2
      ? { ok: false, reason: 'no such table', retry: false }
      : store.put(sender, batch);
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put });
  t.after(() => server.close());
  const rejected: unknown[] = [];
  const options = {
    message_bytes_max: 2000,
    on_rejected: (one: unknown) => rejected.push(one),
  };
  const { spool, sender, append } = collector(t, server.port, options);
  append(0);
  append(1);
  append(2, 1000);
  append(3);
  spool.append({ table: 'netflow', payload: new Uint8Array(9), rows: 4, counts: { seen: 4 } });
  await sender.flush();
  const about = { table: 'netflow', counts: {} };
  assert.deepEqual(rejected, [
    { ...about, seq: 2, rows: 1, reason: 'no such table' },
    { ...about, seq: 3, rows: 1000, reason: 'too_large' },
    { ...about, seq: 5, rows: 4, counts: { seen: 4 }, reason: 'IPC stream without a schema' },
  ]);
  assert.equal(sender.stats.rejected, 3);
  assert.deepEqual(
    store.rows.map((row) => row.n),
    [0, 3],
  );
  assert.equal(server.stats.rejected, 1);
});

test('what is in flight is bounded, and silence ends a stream', async (t) => {
  const store = memoryStore();
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let arrived = 0;
  const put: typeof store.put = async (sender, batch) => {
    arrived++;
    await gate;
    return store.put(sender, batch);
  };
  const dedup = new Dedup();
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put, dedup });
  t.after(() => server.close());
  const size = batchOf(0, 1).length;
  const options = { bytes_in_flight_max: size * 3, ack_timeout_ms: 60 };
  const { sender, append } = collector(t, server.port, options);
  for (let turn = 0; turn < 10; turn++) append(turn);
  while (sender.stats.resends === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(sender.stats.bytes_in_flight <= size * 3);
  assert.equal(arrived, 1, 'one collector, one batch at a time');
  release();
  await sender.flush();
  assert.deepEqual(
    store.rows.map((row) => row.n),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
});

test('a reducer that takes one batch after another is slow, and not silent', async (t) => {
  const store = memoryStore();
  const real = performance.now.bind(performance);
  let passed_ms = 0;
  t.mock.method(performance, 'now', () => real() + passed_ms);
  const put: typeof store.put = async (from, batch) => {
    const before = store.rows.length;
    const waits = () => sender.stats.batches_acknowledged < before && sender.stats.failures === 0;
    while (waits()) await new Promise(setImmediate);
    passed_ms += 20_000; // of the 30 s that it may be silent
    sender.kick();
    await new Promise((resolve) => setTimeout(resolve, 5));
    return store.put(from, batch);
  };
  const dedup = new Dedup();
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put, dedup });
  t.after(() => server.close());
  const { sender, append } = collector(t, server.port);
  for (let turn = 0; turn < 10; turn++) append(turn);
  await sender.flush();
  assert.equal(store.rows.length, 10);
  assert.deepEqual([sender.stats.resends, sender.stats.failures], [0, 0]);
});

test('flush ends when what it waits for was dropped by the limit', async (t) => {
  const lost: number[] = [];
  const dir = folder(t);
  const notice = (some: readonly { rows: number }[]): undefined =>
    void lost.push(...some.map(({ rows }) => rows));
  const spool = Spool.open(dir, { bytes_max: 65536, segment_bytes: 16384, notice });
  const put = async () => ({ ok: true }) as const;
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put });
  t.after(() => server.close());
  for (let turn = 0; turn < 100; turn++) {
    spool.append({ table: 't', payload: batchOf(turn, 500), rows: 500, counts: {} });
  }
  const sender = new FlightSender(spool, senderOptions(server.port));
  await sender.flush();
  const dropped = lost.reduce((sum, rows) => sum + rows, 0);
  assert.ok(dropped > 0);
  assert.equal(server.stats.batches * 500 + dropped, 50_000);
  await sender.close();
  spool.close();
});

test('flush ends when what it waits for cannot be read any more', async (t) => {
  const put = async () => ({ ok: true }) as const;
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put });
  t.after(() => server.close());
  const dir = folder(t);
  const spool = Spool.open(dir, { bytes_max: 65536 });
  spool.append({ table: 't', payload: batchOf(0, 100), rows: 100, counts: {} });
  const path = join(dir, '000000000001.log');
  const bytes = readFileSync(path);
  bytes[bytes.length - 9] ^= 1;
  writeFileSync(path, bytes);
  const sender = new FlightSender(spool, senderOptions(server.port));
  await sender.flush();
  assert.equal(server.stats.batches, 0);
  assert.equal(spool.stats.dropped_rows, 100);
  await sender.close();
  spool.close();
});

test('the dedup forgets the collector that was silent longest, and says so', () => {
  const dedup = new Dedup({ collectors_max: 2 });
  dedup.seed([{ collector_id: 'a', table: 't', seq: 5 }]);
  dedup.stored('b', 't', 9);
  dedup.stored('a', 'u', 1);
  dedup.stored('c', 't', 3);
  assert.equal(dedup.forgotten, 1);
  assert.equal(dedup.isRepeat('b', 't', 9), false);
  assert.equal(dedup.isRepeat('a', 't', 5), true);
  assert.equal(dedup.isRepeat('a', 't', 6), false);
  dedup.stored('a', 't', 4);
  assert.equal(dedup.highest('a', 't'), 5);
  assert.equal(dedup.repeats, 1);
});
