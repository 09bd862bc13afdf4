// Batches of `netflow` for the tests and the benchmark of the store: numbers that a program can add up beside it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { netflow } from '../../probes/netflow.ts';
import { encodeBatch } from '../table/batch.ts';
import { Fold } from '../table/fold.ts';
import type { Store, StoreBatch } from './client.ts';
import { collect } from './query.ts';

export { netflow };

export interface FlowRow {
  readonly [column: string]: string | number;
}

/** One Arrow stream of `netflow`; columns that a row does not name are empty or 0. */
export function flowArrow(rows: readonly FlowRow[], time_ms: number): Uint8Array {
  const fold = new Fold(netflow, { rows_max: rows.length + 1 });
  const dims = new Float64Array(netflow.dimensions.length);
  const measures = new Float64Array(netflow.measures.length);
  for (const row of rows) {
    for (const [i, { name, type }] of netflow.dimensions.entries()) {
      const value = row[name] ?? (type === 'string' ? '' : 0);
      dims[i] = typeof value === 'string' ? fold.intern(value) : value;
    }
    for (const [i, { name, fold: how }] of netflow.measures.entries()) {
      const value = row[name];
      measures[i] = typeof value === 'number' ? value : how === 'sum' ? 0 : Number.NaN;
    }
    fold.add(dims, measures);
  }
  const batch = fold.close(time_ms);
  if (batch === undefined) throw new Error('flowArrow: no rows');
  return encodeBatch(batch);
}

/** `count` rows that differ, whose bytes_read are `seq`, `seq + 1`, …. */
export function flowBatch(seq: number, count: number, time_ms: number): StoreBatch {
  const rows = Array.from({ length: count }, (_, i) => ({
    direction: i % 2 === 0 ? 'incoming' : 'outgoing',
    transport: 'tcp',
    family: 'IPv4',
    src_ip: `10.0.${(i >> 8) % 256}.${i % 256}`,
    dst_ip: '10.9.9.9',
    src_port: i % 2 === 0 ? 443 : 0,
    dst_port: i % 2 === 0 ? 0 : 443,
    process_name: `p${i % 7}`,
    pid: 1000 + i,
    bytes_read: seq + i,
    bytes_written: 2 * seq + i,
    rtt: 100 + (i % 3),
    rtt_samples: 1 + (i % 2),
    connect_latency: 1000 * (1 + (i % 5)),
    tcp_established: 1,
  }));
  const arrow = flowArrow(rows, time_ms);
  return { table: 'netflow', collector_id: 'collector-1', seq, host: "host'\\1", arrow };
}

/** The sum of bytes_read of `flowBatch(seq, count)`. */
export function bytesRead(seq: number, count: number): number {
  return seq * count + (count * (count - 1)) / 2;
}

export function temporaryDir(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'sonde-store-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Rows of a query that must succeed. */
export async function rowsOf(
  store: Store,
  sql: string,
): Promise<readonly Record<string, unknown>[]> {
  const output = await collect(await store.query(sql, 'json'));
  if (!Buffer.isBuffer(output)) throw new Error(`query failed: ${output.message}`);
  // JSON of our own formats: one array of objects.
  return JSON.parse(output.toString('utf8')) as Record<string, unknown>[];
}
