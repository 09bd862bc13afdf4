// The whole reducer over its ports: a collector's sender in front, the store behind.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { netflow } from '../../probes/netflow.ts';
import { bytesRead, flowBatch, temporaryDir } from '../store/testing.ts';
import { type Asker, asker, askFlush, listenForControl } from '../wire/ask.ts';
import { FlightSender } from '../wire/client.ts';
import { Spool } from '../wire/spool.ts';
import { answers } from './answers.ts';
import { FlushBoard } from './flush.ts';
import { Reducer } from './reducer.ts';

const dir = temporaryDir();
const host = '127.0.0.1';
const START = Date.now() - 60_000;
let reducer: Reducer;
let asking: Asker;

const start = (tables = [netflow]) =>
  Reducer.start({
    listen: { host, port: 0 },
    metrics: { host, port: 0 },
    store: { dir: join(dir.path, 'store') },
    tables,
  });

before(async () => {
  reducer = await start();
  asking = asker({ host, port: reducer.port });
});
after(async () => {
  asking.close();
  await reducer.close();
  dir.remove();
});

function sender(spool: Spool, collector_id: string): FlightSender {
  return new FlightSender(spool, {
    host,
    port: reducer.port,
    collector_id,
    hostname: 'node-1',
    version: '0.1.0',
  });
}

async function sums(): Promise<unknown> {
  const sql = 'SELECT count() AS rows, sum(bytes_read) AS bytes FROM netflow';
  const answer = await asking.action('query', { sql, format: 'json' });
  return JSON.parse(answer.toString('utf8'))[0];
}

test('what a collector sends is stored once, and the page shows it', async () => {
  const spool = Spool.open(join(dir.path, 'spool'), { bytes_max: 1 << 20, fsync: 'none' });
  const payload = flowBatch(1, 100, START).arrow;
  assert.equal(spool.append({ table: 'netflow', payload, rows: 100, counts: {} }).ok, true);
  const sending = sender(spool, 'c1');
  await sending.flush();
  await sending.close();
  assert.deepEqual(await sums(), { rows: 100, bytes: bytesRead(1, 100) });
  const page = await (await fetch(`http://${host}:${reducer.metrics_port}/metrics`)).text();
  const values = [...page.matchAll(/^sonde_netflow_bytes_read_total\{.*\} (\d+)$/gm)];
  const shown = values.reduce((sum, [, value]) => sum + Number(value), 0);
  assert.equal(shown, bytesRead(1, 100));
  assert.match(page, /host="node-1"/);
  assert.deepEqual(reducer.ledger.imbalance(), []);
  spool.close();
});

test('a reducer that was started anew knows what it has', async () => {
  const spool = Spool.open(join(dir.path, 'spool-2'), { bytes_max: 1 << 20, fsync: 'none' });
  const payload = flowBatch(1, 10, START).arrow;
  assert.equal(spool.append({ table: 'netflow', payload, rows: 10, counts: {} }).ok, true);
  const first = sender(spool, 'c2');
  await first.flush();
  await first.close();
  const before_restart = await sums();
  spool.close();
  asking.close();
  await reducer.close();
  reducer = await start();
  asking = asker({ host, port: reducer.port });
  // The same collector with an older spool: the sequence begins again, as after a lost acknowledgement.
  const again = Spool.open(join(dir.path, 'spool-3'), { bytes_max: 1 << 20, fsync: 'none' });
  assert.equal(again.append({ table: 'netflow', payload, rows: 10, counts: {} }).ok, true);
  const second = sender(again, 'c2');
  await second.flush();
  await second.close();
  again.close();
  assert.deepEqual(await sums(), before_restart);
  assert.equal(reducer.server.stats.repeats, 1);
});

test('a batch of no table is refused for good, and the ledger says why', async () => {
  const spool = Spool.open(join(dir.path, 'spool-4'), { bytes_max: 1 << 20, fsync: 'none' });
  const payload = flowBatch(1, 10, START).arrow;
  assert.equal(spool.append({ table: 'nosuch', payload, rows: 10, counts: {} }).ok, true);
  const sending = sender(spool, 'c3');
  await sending.flush();
  await sending.close();
  assert.equal(sending.stats.rejected, 1);
  spool.close();
  const sql = `SELECT stage, reason, sum(count) AS n FROM sonde_ledger
    WHERE outcome = 'dropped' GROUP BY ALL`;
  const answer = await asking.action('query', { sql });
  assert.deepEqual(JSON.parse(answer.toString('utf8')), [
    { stage: 'intake', reason: 'unknown_table', n: 10 },
  ]);
});

test('flush waits for collectors that listen, and names the one that does not answer', async () => {
  const none = await askFlush(asking, 50);
  assert.equal(none.complete, true);
  assert.match(none.message, /^No collector is connected/);
  const stop = new AbortController();
  const drained: string[] = [];
  const listening = ['good', 'stuck'].map((collector_id) => {
    const own = asker({ host, port: reducer.port });
    const on_flush = async () => {
      drained.push(collector_id);
      if (collector_id === 'stuck') await new Promise(() => undefined);
    };
    void listenForControl(own, { collector_id, host: 'h', on_flush, signal: stop.signal });
    return own;
  });
  while (JSON.parse((await asking.action('health', {})).toString()).collectors < 2) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const report = await askFlush(asking, 500);
  assert.deepEqual(drained.sort(), ['good', 'stuck']);
  assert.equal(report.complete, false);
  assert.match(report.message, /^Not all has arrived within 0\.5 s: no answer from h \(stuck\)$/);
  const good = report.collectors.find(({ collector_id }) => collector_id === 'good');
  assert.equal(good?.flushed, true);
  stop.abort();
  for (const own of listening) own.close();
});

test('a collector that delivers is connected, though it has no call open', async (t) => {
  const connected = async () =>
    JSON.parse((await asking.action('health', {})).toString('utf8')).collectors;
  const now = performance.now.bind(performance);
  let later = 100_000; // those of other tests are gone
  t.mock.method(performance, 'now', () => now() + later);
  const call = asking.action('control', { collector_id: 'busy', host: 'h' });
  while ((await connected()) < 1) await new Promise((resolve) => setImmediate(resolve));
  assert.equal((await askFlush(asking, 1)).complete, false);
  assert.match((await call).toString('utf8'), /"flush"/);
  later += 100_000;
  assert.equal(await connected(), 0);
  const spool = Spool.open(join(dir.path, 'spool-busy'), { bytes_max: 1 << 20, fsync: 'none' });
  const payload = flowBatch(1, 10, START).arrow;
  assert.equal(spool.append({ table: 'netflow', payload, rows: 10, counts: {} }).ok, true);
  const sending = sender(spool, 'busy');
  await sending.flush();
  assert.equal(await connected(), 1);
  await sending.close();
  spool.close();
});

test('a flush that was not answered says what the store suffers from', async () => {
  const board = new FlushBoard();
  void board.control({ collector_id: 'a', host: 'h' });
  const { store } = reducer;
  const parts = { store, board, health: () => ({}), settle: async () => undefined };
  const action = answers({ ...parts, trouble: () => 'disk_full' }).actions?.flush;
  assert.ok(action);
  const report = await action.run(Buffer.from('{"timeout_ms":1}'), new AbortController().signal);
  board.close();
  assert.match(Buffer.from(report).toString('utf8'), /\(a\); the store refuses rows: disk_full"/);
});

test('a flush is answered while an insertion into the store does not end', async () => {
  const board = new FlushBoard();
  const { store } = reducer;
  const settle = () => new Promise<void>(() => undefined);
  const parts = { store, board, health: () => ({}), settle };
  const action = answers({ ...parts, trouble: () => 'disk_full' }).actions?.flush;
  assert.ok(action);
  const body = Buffer.from('{"timeout_ms":1}');
  const answer = await action.run(body, new AbortController().signal);
  const { complete, message } = JSON.parse(Buffer.from(answer).toString('utf8'));
  assert.equal(complete, false);
  const late = "the reducer's own ledger is not stored yet; the store refuses rows: disk_full";
  assert.equal(message, `No collector is connected; ${late}`);
});

test('wrong SQL is answered with its place, writing is refused', async () => {
  await assert.rejects(
    asking.action('query', { sql: 'SELECT 1\nFRM netflow WHERE' }),
    /syntax: line 2, column \d+: /,
  );
  await assert.rejects(
    asking.action('query', { sql: 'DROP TABLE netflow' }),
    /refused: line 1, column 1: Only reading/,
  );
});

test('the reducer’s own numbers are on the page', async () => {
  const page = await (await fetch(`http://${host}:${reducer.metrics_port}/metrics`)).text();
  for (const name of ['process_cpu_seconds_total', 'sonde_reducer_rows_total']) {
    assert.match(page, new RegExp(`^${name} \\d`, 'm'));
  }
  assert.match(page, /^sonde_reducer_refused_total\{reason="malformed"\} 0$/m);
  const missing = await fetch(`http://${host}:${reducer.metrics_port}/nosuch`);
  assert.equal(missing.status, 404);
});
