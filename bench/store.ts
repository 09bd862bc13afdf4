// What storing and asking costs: rows a second into the base table with its rollups, milliseconds of the questions that
// pages and commands ask. `node bench/store.ts` prints it; all of it is bounded.

import { netflow } from '../probes/netflow.ts';
import { Store, type StoreBatch } from '../src/store/client.ts';
import { collect } from '../src/store/query.ts';
import { flowBatch, temporaryDir } from '../src/store/testing.ts';
import { type Figure, printFigures } from './figure.ts';

const QUERY_ROUNDS = 7;

/** The questions of `sonde top`, the page and an investigation. */
const QUESTIONS: Readonly<Record<string, string>> = {
  'top processes, netflow':
    'SELECT process_name, sum(bytes_read) AS b FROM netflow GROUP BY process_name ORDER BY b DESC LIMIT 10',
  'top peers, netflow':
    'SELECT src_ip, dst_ip, sum(bytes_read) AS b FROM netflow GROUP BY src_ip, dst_ip ORDER BY b DESC LIMIT 10',
  'bytes by minute, netflow':
    'SELECT toStartOfMinute(time) AS t, sum(bytes_read) FROM netflow GROUP BY t ORDER BY t',
  'bytes by minute, netflow_1m':
    'SELECT time, sum(bytes_read) FROM netflow_1m GROUP BY time ORDER BY time',
  'latency histogram, netflow':
    'SELECT sumMap(connect_latency_buckets, connect_latency_counts) FROM netflow',
  'both ends, connections':
    'SELECT server_ip, server_port, sum(client_bytes_sent), sum(server_bytes_received) FROM connections GROUP BY ALL LIMIT 10',
};

/** Batches are made before the clock starts. */
function batches(count: number, rows: number, first: number, time_ms: number): StoreBatch[] {
  return Array.from({ length: count }, (_, i) => flowBatch(first + i, rows, time_ms + i * 1000));
}

async function insertAll(store: Store, all: readonly StoreBatch[]): Promise<number> {
  const start = performance.now();
  for (const batch of all) {
    const result = await store.insert(batch);
    if (!result.ok) throw new Error(result.message);
  }
  return (performance.now() - start) / 1000;
}

async function measureInserts(store: Store, time_ms: number): Promise<Figure[]> {
  await insertAll(store, batches(3, 1000, 1, time_ms));
  const figures: Figure[] = [];
  let first = 100;
  for (const [rows, count] of [
    [100, 60],
    [10_000, 20],
    [50_000, 4],
  ] as const) {
    const all = batches(count, rows, first, time_ms);
    first += 1000;
    const seconds = await insertAll(store, all);
    figures.push({
      name: `insert, ${rows} rows a batch`,
      value: (rows * count) / seconds,
      unit: 'rows/s',
    });
    figures.push({
      name: `insert, ${rows} rows a batch`,
      value: count / seconds,
      unit: 'batches/s',
    });
  }
  return figures;
}

async function ask(store: Store, sql: string): Promise<number> {
  const start = performance.now();
  const answer = await collect(await store.query(sql, 'arrow'));
  if (!Buffer.isBuffer(answer)) throw new Error(answer.message);
  return performance.now() - start;
}

async function measureQueries(store: Store): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [name, sql] of Object.entries(QUESTIONS)) {
    const times: number[] = [];
    for (let round = 0; round < QUERY_ROUNDS; round += 1) times.push(await ask(store, sql));
    const median = times.sort((a, b) => a - b)[QUERY_ROUNDS >> 1]!;
    figures.push({ name: `query, ${name}`, value: median, unit: 'ms' });
  }
  return figures;
}

/** Bytes on disk by stored row, of the base table alone. */
async function measureDisk(store: Store): Promise<Figure[]> {
  const sql = `SELECT sum(bytes_on_disk) / sum(rows) AS value FROM system.parts
    WHERE active AND table = 'netflow'`;
  const answer = await collect(await store.query(sql, 'csv'));
  if (!Buffer.isBuffer(answer)) throw new Error(answer.message);
  const value = Number(answer.toString('utf8').split('\n')[1]);
  return [{ name: 'disk, netflow', value, unit: 'B/row' }];
}

/** All figures of the store. */
export async function run(): Promise<readonly Figure[]> {
  const dir = temporaryDir();
  const rss_before = process.memoryUsage.rss();
  const opening = performance.now();
  const store = await Store.open({ target: { dir: dir.path }, tables: [netflow] });
  const opened = performance.now() - opening;
  try {
    const time_ms = Date.now() - 3_600_000;
    const figures: Figure[] = [
      { name: 'open, a new store', value: opened, unit: 'ms' },
      ...(await measureInserts(store, time_ms)),
      ...(await measureQueries(store)),
      ...(await measureDisk(store)),
      {
        name: 'resident, more by the engine',
        value: (process.memoryUsage.rss() - rss_before) / 2 ** 20,
        unit: 'MiB',
      },
    ];
    return figures;
  } finally {
    await store.close();
    dir.remove();
  }
}

if (import.meta.main) printFigures(await run());
