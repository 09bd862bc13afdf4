// Every state that a crash can leave: batch in the base table or not, whole or in part, rollups with it or without it, the
// engine's log knowing its token without having its rows. After opening, all of them are the same.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { netflow } from '../../probes/netflow.ts';
import { Store } from './client.ts';
import { openEngine } from './engine.ts';
import { openJournal } from './journal.ts';
import { bytesRead, flowBatch, rowsOf, temporaryDir } from './testing.ts';

const ROWS = 50;
const TIME_MS = Date.now() - 3_600_000;
const SEQ = 2;

/** Statements that undo parts of what the insertion of batch 2 did. */
const states: Readonly<Record<string, readonly string[]>> = {
  'all is there': [],
  'nothing is there, but the engine remembers the token': [
    `ALTER TABLE netflow DELETE WHERE batch_seq = ${SEQ}`,
    'ALTER TABLE netflow_1m DELETE WHERE 1',
    'ALTER TABLE netflow_1h DELETE WHERE 1',
    'ALTER TABLE connections DELETE WHERE 1',
  ],
  'the base table has a part of it': [
    `ALTER TABLE netflow DELETE WHERE batch_seq = ${SEQ} AND pid % 2 = 0`,
  ],
  'the base table lacks it, rollups have it': [
    `ALTER TABLE netflow DELETE WHERE batch_seq = ${SEQ}`,
  ],
  'one rollup lacks it': ['ALTER TABLE netflow_1m DELETE WHERE 1'],
  'the connections have it twice': ['INSERT INTO connections SELECT * FROM connections'],
};

for (const [state, statements] of Object.entries(states)) {
  test(`recovery when ${state}`, async () => {
    const dir = temporaryDir();
    const target = { dir: dir.path };
    try {
      const first = await Store.open({ target, tables: [netflow] });
      for (const seq of [1, SEQ, 3]) {
        assert.equal((await first.insert(flowBatch(seq, ROWS, TIME_MS))).ok, true);
      }
      await first.close();
      // Twice: a repair that was broken off is done again.
      for (let round = 0; round < 2; round += 1) {
        const engine = await openEngine(target);
        const settings = { mutations_sync: '2', deduplicate_insert_select: 'disable' } as const;
        for (const query of statements) {
          await engine.session((client) =>
            client.command({ query, clickhouse_settings: settings }),
          );
        }
        leaveBehind(dir.path);
        await engine.close();
        const store = await Store.open({ target, tables: [netflow] });
        assert.deepEqual(readdirSync(join(dir.path, 'journal')), []);
        assert.equal(store.stats().recovered, 1);
        await assertExact(store);
        // A resend of it is known.
        assert.equal((await store.maxSeqs()).get('collector-1')?.get('netflow'), 3);
        await store.close();
      }
    } finally {
      dir.remove();
    }
  });
}

test('recovery when rows are kept for an hour only', async () => {
  const dir = temporaryDir();
  const retention = { raw_s: 3600, minute_s: 86_400, hour_s: 86_400 };
  const open = () => Store.open({ target: { dir: dir.path }, tables: [netflow], retention });
  const now_ms = Date.now();
  try {
    const first = await open();
    assert.equal((await first.insert(flowBatch(SEQ, ROWS, now_ms))).ok, true);
    await first.close();
    const engine = await openEngine({ dir: dir.path });
    const query = 'ALTER TABLE netflow_1m DELETE WHERE 1';
    const clickhouse_settings = { mutations_sync: '2' } as const;
    await engine.session((client) => client.command({ query, clickhouse_settings }));
    leaveBehind(dir.path, now_ms);
    await engine.close();
    const store = await open();
    const rows = await rowsOf(store, 'SELECT sum(bytes_read) AS bytes FROM netflow_1m');
    assert.deepEqual(rows, [{ bytes: bytesRead(SEQ, ROWS) }]);
    await store.close();
  } finally {
    dir.remove();
  }
});

/** The journal as it is while batch 2 is being inserted. */
function leaveBehind(dir: string, time_ms = TIME_MS): void {
  const { table, collector_id, seq, host, arrow } = flowBatch(SEQ, ROWS, time_ms);
  const columns = ['time', ...netflow.dimensions.map(({ name }) => name)];
  for (const { name, fold } of netflow.measures) {
    const parts = ['_buckets', '_counts', '_sum'].map((part) => name + part);
    columns.push(...(fold === 'histogram' ? parts : [name]));
  }
  const journal = openJournal(join(dir, 'journal'));
  journal.write({ table, collector_id, seq, host, rows: ROWS, columns }, arrow);
}

async function assertExact(store: Store): Promise<void> {
  const bytes = bytesRead(1, ROWS) + bytesRead(SEQ, ROWS) + bytesRead(3, ROWS);
  const expected = { bytes, rows: 3 * ROWS };
  for (const table of ['netflow', 'netflow_1m', 'netflow_1h']) {
    const sql = `SELECT sum(bytes_read) AS bytes, sum(tcp_established) AS rows FROM ${table}`;
    assert.deepEqual((await rowsOf(store, sql))[0], expected, table);
  }
  const ends = `SELECT sum(client_bytes_received + server_bytes_received) AS bytes,
    sum(client_connections + server_connections) AS rows FROM connections`;
  assert.deepEqual((await rowsOf(store, ends))[0], expected, 'connections');
}
