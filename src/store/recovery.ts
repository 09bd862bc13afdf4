// A batch whose insertion broke off may be in the base table, in some rollups, in none. Tokens alone do not tell: the
// engine writes a block's id to its log before the block itself, so that a kill between the two would make a resent batch
// look stored. So the base table is asked for the batch's rows, and the touched intervals of each rollup are computed
// again from it. Doing it twice changes nothing. Embedded engine only: there, nobody else writes.

import type { ClickHouseClient } from '@clickhouse/client';
import { type Engine, toClient } from './engine.ts';
import { insertStatement } from './insert.ts';
import type { JournalEntry } from './journal.ts';
import type { TableSchema } from './schema.ts';
import type { Dependent } from './shape.ts';
import { identifier, identifiers, literal } from './sql.ts';

/** Writes of a repair are not blocks of a batch: no token may know them, none may refuse them. */
const REPAIR_SETTINGS = {
  deduplicate_insert: 'disable',
  deduplicate_insert_select: 'disable',
  insert_deduplicate: 0,
  mutations_sync: '2',
  max_insert_threads: '1',
};

/** Makes base and rollups hold the batch exactly once. Throws what the engine says; then nothing is known still. */
export async function recoverBatch(
  engine: Engine,
  schema: TableSchema,
  entry: JournalEntry,
  path: string,
  raw_s: number,
): Promise<void> {
  const ours = `collector_id = ${literal(entry.collector_id)} AND batch_seq = ${entry.seq}`;
  const base = identifier(schema.base.name);
  const settings = toClient(REPAIR_SETTINGS);
  await engine.session(async (client) => {
    const run = (query: string) => client.command({ query, clickhouse_settings: settings });
    const stored = await countRows(client, `SELECT count() FROM ${base} WHERE ${ours}`);
    if (stored !== entry.rows) {
      if (stored > 0) await run(`ALTER TABLE ${base} DELETE WHERE ${ours}`);
      const { statement, structure } = insertStatement(schema, entry);
      const source = { bytes: new Uint8Array(), path };
      await engine.insertArrow({ statement, structure, source, settings: REPAIR_SETTINGS });
    }
    for (const dependent of schema.dependents) {
      const start = dependent.bucket_s;
      const buckets = await bucketsOf(client, `FROM ${base} WHERE ${ours}`, start, raw_s);
      if (buckets.length > 0) await recompute(run, dependent, buckets);
    }
  });
}

async function countRows(client: ClickHouseClient, query: string): Promise<number> {
  const result = await client.query({ query, format: 'TabSeparated' });
  return Number(await result.text());
}

/** What a repair takes at most: rows that expire meanwhile would be missing in what it computes. */
const REPAIR_S = 60;

/** Starts of the intervals that the batch touched, of those whose rows the base table still has. */
async function bucketsOf(
  client: ClickHouseClient,
  from: string,
  bucket_s: number,
  raw_s: number,
): Promise<readonly number[]> {
  const bucket = `intDiv(toUnixTimestamp(time), ${bucket_s}) * ${bucket_s}`;
  const kept = `toUnixTimestamp(now() - INTERVAL ${raw_s} SECOND + INTERVAL ${REPAIR_S} SECOND)`;
  const query = `SELECT DISTINCT ${bucket} AS b ${from} AND b >= ${kept} ORDER BY b`;
  const text = await (await client.query({ query, format: 'TabSeparated' })).text();
  return text.split('\n').filter(Boolean).map(Number);
}

async function recompute(
  run: (query: string) => Promise<unknown>,
  dependent: Dependent,
  buckets: readonly number[],
): Promise<void> {
  const { table, bucket_s } = dependent;
  const list = buckets.join(', ');
  const end = buckets[buckets.length - 1]! + bucket_s;
  const where =
    `s.time >= toDateTime64(${buckets[0]}, 3, 'UTC') AND s.time < toDateTime64(${end}, 3, 'UTC')` +
    ` AND intDiv(toUnixTimestamp(s.time), ${bucket_s}) * ${bucket_s} IN (${list})`;
  const columns = table.columns.filter((c) => c.alias === undefined).map((c) => c.name);
  const name = identifier(table.name);
  await run(`ALTER TABLE ${name} DELETE WHERE toUnixTimestamp(time) IN (${list})`);
  const chosen = `SELECT ${identifiers(columns)} FROM (${dependent.select(where)})`;
  await run(`INSERT INTO ${name} (${identifiers(columns)}) ${chosen}`);
}
