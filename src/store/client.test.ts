// src/store/client.test.ts
// The store in a folder: what goes in comes out, once, in the base table and everything that follows from it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { netflow } from '../../probes/netflow.ts';
import { Store } from './client.ts';
import { bytesRead, flowArrow, flowBatch, rowsOf, temporaryDir } from './testing.ts';

const dir = temporaryDir();
let store: Store;

before(async () => {
  store = await Store.open({ target: { dir: dir.path }, tables: [netflow] });
});
after(async () => {
  await store.close();
  dir.remove();
});

const MINUTE = 60_000;
const START = Math.floor(Date.now() / 3_600_000) * 3_600_000 - 3_600_000;

test('a batch is in the base table, the rollups and the connections, and so is a repeat', async () => {
  const batches = [
    flowBatch(1, 100, START + 10_000),
    flowBatch(2, 100, START + 20_000),
    flowBatch(3, 100, START + 30 * MINUTE),
  ];
  for (const batch of [...batches, ...batches]) {
    assert.deepEqual(await store.insert(batch), { ok: true, rows: 100, unknown: [] });
  }
  const sum = bytesRead(1, 100) + bytesRead(2, 100) + bytesRead(3, 100);
  const expected = { bytes: sum, est: 300, samples: 450 };
  for (const table of ['netflow', 'netflow_1m', 'netflow_1h']) {
    const [row] = await rowsOf(
      store,
      `SELECT sum(bytes_read) AS bytes, sum(tcp_established) AS est, sum(rtt_samples) AS samples
       FROM ${table}`,
    );
    assert.deepEqual(row, expected, table);
  }
  const [ends] = await rowsOf(
    store,
    `SELECT sum(client_bytes_received + server_bytes_received) AS bytes,
       sum(client_connections) AS c, sum(server_connections) AS s FROM connections`,
  );
  assert.deepEqual(ends, { bytes: sum, c: 150, s: 150 });
  assert.equal(store.stats().rows, 600);
});

test('times fall into their minute and hour', async () => {
  const minutes = await rowsOf(
    store,
    'SELECT toUnixTimestamp(time) AS t, sum(tcp_established) AS n FROM netflow_1m GROUP BY t ORDER BY t',
  );
  assert.deepEqual(minutes, [
    { t: START / 1000, n: 200 },
    { t: START / 1000 + 1800, n: 100 },
  ]);
  const hours = await rowsOf(
    store,
    'SELECT toUnixTimestamp(time) AS t, sum(tcp_established) AS n FROM netflow_1h GROUP BY t',
  );
  assert.deepEqual(hours, [{ t: START / 1000, n: 300 }]);
});

test('means and histograms of a rollup equal those of the base table', async () => {
  const sql = (table: string) => `SELECT
      sum(rtt * rtt_samples) / sum(rtt_samples) AS rtt,
      sumMap(connect_latency_buckets, connect_latency_counts) AS histogram,
      sum(connect_latency_sum) AS total
    FROM ${table}`;
  const [base] = await rowsOf(store, sql('netflow'));
  assert.ok(Number(base?.rtt) > 100 && Number(base?.rtt) < 102, JSON.stringify(base));
  assert.equal(base?.total, 3 * 20 * 15_000);
  for (const table of ['netflow_1m', 'netflow_1h']) {
    const [row] = await rowsOf(store, sql(table));
    assert.deepEqual(row, base, table);
  }
});

test('the highest sequences are known, and the host is as it was sent', async () => {
  const seqs = await store.maxSeqs();
  assert.deepEqual([...(seqs.get('collector-1') ?? [])], [['netflow', 3]]);
  const [row] = await rowsOf(store, 'SELECT DISTINCT host FROM netflow');
  assert.deepEqual(row, { host: "host'\\1" });
});

test('both ends of a connection meet under one key', async () => {
  const common = { transport: 'tcp', family: 'IPv4', netns: 7, tcp_established: 1 };
  const client = { direction: 'outgoing', process_name: 'curl', bytes_read: 5, bytes_written: 11 };
  const server = { direction: 'incoming', process_name: 'nginx', bytes_read: 11, bytes_written: 5 };
  const end = (a: string, ap: number, b: string, bp: number) => ({
    src_ip: a,
    src_port: ap,
    dst_ip: b,
    dst_port: bp,
    ...common,
  });
  const pairs = ['192.0.2.', '127.0.0.'];
  const rows = pairs.flatMap((net) => [
    { ...end(`${net}1`, 0, `${net}2`, 80), ...client },
    { ...end(`${net}2`, 80, `${net}1`, 0), ...server },
  ]);
  for (const [i, host] of ['left', 'right'].entries()) {
    const arrow = flowArrow(rows, START);
    const batch = { table: 'netflow', collector_id: host, seq: i + 1, host, arrow };
    assert.equal((await store.insert(batch)).ok, true);
  }
  const found = await rowsOf(
    store,
    `SELECT client_ip, scope_host, scope_netns, sum(client_bytes_sent) AS cs,
       sum(server_bytes_received) AS sr, sum(server_bytes_sent) AS ss,
       groupUniqArrayArray(client_processes) AS cp, groupUniqArrayArray(server_processes) AS sp
     FROM connections WHERE server_port = 80 GROUP BY ALL ORDER BY ALL`,
  );
  const names = { cp: ['curl'], sp: ['nginx'] };
  assert.deepEqual(found, [
    { client_ip: '127.0.0.1', scope_host: 'left', scope_netns: 7, cs: 11, sr: 11, ss: 5, ...names },
    {
      client_ip: '127.0.0.1',
      scope_host: 'right',
      scope_netns: 7,
      cs: 11,
      sr: 11,
      ss: 5,
      ...names,
    },
    { client_ip: '192.0.2.1', scope_host: '', scope_netns: 0, cs: 22, sr: 22, ss: 10, ...names },
  ]);
});

test('a batch that is none is a value, and leaves nothing behind', async () => {
  const good = flowBatch(9, 3, START);
  const bad = [
    { ...good, table: 'nosuch' },
    { ...good, collector_id: "x'; DROP TABLE netflow" },
    { ...good, collector_id: '../../x' },
    { ...good, seq: 1.5 },
    { ...good, arrow: new Uint8Array([1, 2, 3]) },
    { ...good, arrow: good.arrow.subarray(0, good.arrow.length >> 1) },
  ];
  for (const batch of bad) {
    const result = await store.insert(batch);
    assert.equal(result.ok, false);
    assert.equal(result.ok === false && result.reason, 'bad_batch');
  }
  assert.deepEqual(readdirSync(join(dir.path, 'journal')), []);
});

test('a second store in the same folder is refused, with the cure', () => {
  const script = `
    import { Store } from ${JSON.stringify(new URL('./client.ts', import.meta.url).href)};
    try {
      await Store.open({ target: { dir: ${JSON.stringify(dir.path)} }, tables: [] });
      console.log('opened');
    } catch (error) {
      console.log(error.code, error.message);
    }`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  const text = child.stdout.toString();
  assert.match(text, /^STORE_IN_USE Cannot open the store .*, process \d+ is using it: stop that/);
  assert.match(text, new RegExp(`process ${process.pid} `));
});

test('an engine that is not installed is an error with its cure', () => {
  const script = `
    import { registerHooks } from 'node:module';
    registerHooks({
      resolve(name, context, next) {
        if (name.startsWith('chdb')) throw new Error('Cannot find package chdb');
        return next(name, context);
      },
    });
    const { Store } = await import(${JSON.stringify(new URL('./client.ts', import.meta.url).href)});
    await Store.open({ target: { dir: '/nonexistent' }, tables: [] }).catch((error) => {
      console.log(error.code, error.message);
    });`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  assert.match(child.stdout.toString(), /^STORE_ENGINE_MISSING Cannot load .*: run npm install/);
});
