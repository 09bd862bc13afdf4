// What every store must do, whichever way it is spoken to: in a folder (client.test.ts) or by URL (server.test.ts).

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Store, type StoreConfig } from './client.ts';
import { collect } from './query.ts';
import { bytesRead, flowArrow, flowBatch, netflow, rowsOf } from './testing.ts';

const MINUTE = 60_000;
const START = Math.floor(Date.now() / 3_600_000) * 3_600_000 - 3_600_000;

let store: Store;

/** Declares the tests. `target` is asked once, before the first. */
export function storeCases(target: () => Promise<StoreConfig['target']>): void {
  before(async () => {
    store = await Store.open({ target: await target(), tables: [netflow] });
  });
  after(() => store.close());
  for (const [name, run] of Object.entries(cases)) test(name, run);
}

const cases: Readonly<Record<string, () => Promise<void>>> = {
  'a batch is in the base table, the rollups and the connections, and so is a repeat': async () => {
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
  },

  'times fall into their minute and hour': async () => {
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
  },

  'means and histograms of a rollup equal those of the base table': async () => {
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
  },

  'the highest sequences are known, and the host is as it was sent': async () => {
    const seqs = await store.maxSeqs();
    assert.deepEqual([...(seqs.get('collector-1') ?? [])], [['netflow', 3]]);
    const [row] = await rowsOf(store, 'SELECT DISTINCT host FROM netflow');
    assert.deepEqual(row, { host: "host'\\1" });
  },

  'both ends of a connection meet under one key': async () => {
    const common = { transport: 'tcp', family: 'IPv4', netns: 7, tcp_established: 1 };
    const client = {
      direction: 'outgoing',
      process_name: 'curl',
      bytes_read: 5,
      bytes_written: 11,
    };
    const server = {
      direction: 'incoming',
      process_name: 'nginx',
      bytes_read: 11,
      bytes_written: 5,
    };
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
      {
        client_ip: '127.0.0.1',
        scope_host: 'left',
        scope_netns: 7,
        cs: 11,
        sr: 11,
        ss: 5,
        ...names,
      },
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
  },

  'both ends of a translated connection meet': async () => {
    const common = { transport: 'tcp', family: 'IPv4', netns: 7, tcp_established: 1 };
    const asked = { ...common, direction: 'outgoing', dst_ip: '10.96.0.10', dst_port: 81 };
    const served = { ...common, direction: 'incoming' };
    const rows = [
      { ...asked, src_ip: '192.0.2.1', dst_nat_ip: '192.0.2.2', dst_nat_port: 8081 },
      { ...served, src_ip: '192.0.2.2', src_port: 8081, dst_ip: '192.0.2.1' },
      // Redirected to the host itself.
      { ...asked, src_ip: '192.0.2.1', dst_nat_ip: '127.0.0.1', dst_nat_port: 8081 },
      { ...served, src_ip: '127.0.0.1', src_port: 8081, dst_ip: '192.0.2.1' },
    ];
    const arrow = flowArrow(rows, START);
    const batch = { table: 'netflow', collector_id: 'nat', seq: 1, host: 'h', arrow };
    assert.equal((await store.insert(batch)).ok, true);
    const found = await rowsOf(
      store,
      `SELECT server_ip, scope_host, scope_netns, sum(client_connections) AS c,
       sum(server_connections) AS s FROM connections WHERE server_port = 8081
     GROUP BY ALL ORDER BY ALL`,
    );
    assert.deepEqual(found, [
      { server_ip: '127.0.0.1', scope_host: 'h', scope_netns: 7, c: 1, s: 1 },
      { server_ip: '192.0.2.2', scope_host: '', scope_netns: 0, c: 1, s: 1 },
    ]);
  },

  'a batch that is none is a value, and leaves nothing behind': async () => {
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
  },

  'many at once: batches and questions': async () => {
    const total = async () =>
      Number((await rowsOf(store, 'SELECT count() AS n FROM netflow'))[0]?.n);
    const first = await total();
    const seqs = Array.from({ length: 12 }, (_, i) => 1000 + i);
    const [results, counts] = await Promise.all([
      Promise.all(seqs.map((seq) => store.insert(flowBatch(seq, 20, START)))),
      Promise.all(seqs.map(total)),
    ]);
    assert.ok(results.every(({ ok }) => ok));
    // A batch is there whole or not at all.
    for (const count of counts) assert.equal((count - first) % 20, 0);
    assert.equal(await total(), first + 12 * 20);
  },

  'wrong SQL is a value with its place; writing is refused': async () => {
    const wrong = await collect(await store.query('SELECT 1,\n  2 FRM netflow WHERE', 'csv'));
    assert.ok(!Buffer.isBuffer(wrong));
    assert.equal(wrong.reason, 'syntax');
    assert.equal(wrong.position?.line, 2);
    const write = await collect(await store.query('DROP TABLE netflow', 'csv'));
    assert.ok(!Buffer.isBuffer(write));
    assert.equal(write.reason, 'refused');
  },

  'a query that nobody waits for ends, and so does its place in the line': async () => {
    const gone = new AbortController();
    const sql = 'SELECT sum(sipHash64(number)) FROM numbers(1000000000000)';
    const began = performance.now();
    const asked = Array.from({ length: 5 }, async () =>
      collect(await store.query(sql, 'csv', {}, gone.signal)),
    );
    setTimeout(() => gone.abort(), 500);
    for (const answer of await Promise.all(asked)) {
      assert.ok(!Buffer.isBuffer(answer));
      assert.equal(answer.reason, 'cancelled', answer.message);
    }
    // The engine itself has stopped, not only the wait for it.
    const running = `SELECT query FROM system.processes WHERE query LIKE '%(sipHash64%'`;
    for (;;) {
      const rows = await rowsOf(store, `${running} AND query NOT LIKE '%processes%'`);
      if (rows.length === 0) break;
      assert.ok(performance.now() - began < 10_000, JSON.stringify(rows));
    }
    assert.ok(performance.now() - began < 10_000);
    assert.equal(store.stats().queries, 0);
  },

  'limits end a query': async () => {
    const sql = 'SELECT sum(sipHash64(number)) FROM numbers(1000000000000)';
    const result = await collect(await store.query(sql, 'csv', { time_s: 1 }));
    assert.ok(!Buffer.isBuffer(result));
    assert.equal(result.reason, 'time', result.message);
  },
};
