// A store that an older version made, opened by a newer one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { netflow } from '../../probes/netflow.ts';
import { defineTable } from '../table/definition.ts';
import { Store } from './client.ts';
import { flowBatch, rowsOf, temporaryDir } from './testing.ts';

const START = Math.floor(Date.now() / 3_600_000) * 3_600_000 - 3_600_000;

test('new columns are added to a store that is older, and old rows stay', async () => {
  const old = temporaryDir();
  const later = defineTable({
    ...netflow,
    dimensions: [...netflow.dimensions, { name: 'zone', type: 'string', help: 'New' }],
    measures: [
      ...netflow.measures,
      { name: 'drops', type: 'u64', unit: '1', fold: 'sum', help: 'New' },
    ],
  });
  try {
    for (const tables of [[netflow], [later], [later]]) {
      const opened = await Store.open({ target: { dir: old.path }, tables });
      try {
        const seq = ((await opened.maxSeqs()).get('collector-1')?.get('netflow') ?? 0) + 1;
        assert.equal((await opened.insert(flowBatch(seq, 10, START))).ok, true);
        if (tables[0] === netflow) continue;
        for (const table of ['netflow', 'netflow_1m', 'netflow_1h']) {
          const [row] = await rowsOf(
            opened,
            `SELECT sum(tcp_established) AS n, sum(drops) AS d, groupUniqArray(zone) AS z FROM ${table}`,
          );
          assert.deepEqual(row, { n: 10 * seq, d: 0, z: [''] }, table);
        }
      } finally {
        await opened.close();
      }
    }
  } finally {
    old.remove();
  }
});

test('retention is changed by who names one, and kept by who does not', async () => {
  const dir = temporaryDir();
  const target = { dir: dir.path };
  const days = (n: number) => ({ raw_s: n * 86_400, minute_s: 86_400 * 40, hour_s: 86_400 * 400 });
  const ttlOf = async (store: Store) => {
    const sql =
      "SELECT extract(create_table_query, 'INTERVAL|toIntervalSecond\\\\((\\\\d+)') AS ttl FROM system.tables WHERE name = 'netflow'";
    return (await rowsOf(store, sql))[0]?.ttl;
  };
  try {
    for (const [retention, expected] of [
      [days(7), 7],
      [undefined, 7],
      [days(9), 9],
    ] as const) {
      const store = await Store.open({
        target,
        tables: [netflow],
        ...(retention && { retention }),
      });
      assert.equal(Number(await ttlOf(store)), expected * 86_400);
      await store.close();
    }
  } finally {
    dir.remove();
  }
});
