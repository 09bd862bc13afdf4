// What the live tests of databases share: a free port, a folder, a program's output, and sums of `dbflow`.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { promisify } from 'node:util';
import { type FlowRow, type Live, settles } from './live.ts';

const run = promisify(execFile);

export type Counts = Record<string, number>;

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // TCP
  server.close();
  return port;
}

export async function output(program: string, words: readonly string[]): Promise<string> {
  return (await run(program, words, { maxBuffer: 1 << 26 })).stdout;
}

/** Ends with a failure of its program allowed; `input` is what it reads. */
export async function outputOf(
  program: string,
  words: readonly string[],
  input: string,
): Promise<string> {
  const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.stdin.end(input);
  await once(child, 'close');
  return said;
}

/** Rows of both ends at a port. */
export function rowsAt(live: Live, port: number, direction: string): readonly FlowRow[] {
  const at = direction === 'outgoing' ? { dst_port: port } : { src_port: port };
  return live.sink.rows({ direction, ...at }, 'dbflow');
}

/** A measure by operation and error. */
export function sums(rows: readonly FlowRow[], measure = 'count'): Counts {
  const all: Counts = {};
  for (const row of rows) {
    const key = `${row.db_operation_name} ${row.error_type}`.trim();
    all[key] = (all[key] ?? 0) + Number(row[measure] ?? 0);
  }
  return all;
}

/** Both ends have counted this; each end as often as the other. */
export async function bothEnds(
  live: Live,
  port: number,
  expected: Counts,
  keep = (_: string): boolean => true,
): Promise<void> {
  const seen = (direction: string): Counts =>
    Object.fromEntries(
      Object.entries(sums(rowsAt(live, port, direction)))
        .filter(([key]) => keep(key))
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  const want = Object.fromEntries(Object.entries(expected).sort(([a], [b]) => (a < b ? -1 : 1)));
  await settles(
    () => live.collector.flush(),
    () => ({ outgoing: seen('outgoing'), incoming: seen('incoming') }),
    { outgoing: want, incoming: want },
  );
}

/** What the ledger says of databases that is not "seen" and "kept"; with what was noted beside. */
export function turnedAway(live: Live): Counts {
  const found: Counts = {};
  for (const { table, outcome, reason, count } of live.collector.ledger.rows()) {
    if (table.startsWith('db_') && outcome !== 'seen' && count > 0)
      found[`${table} ${outcome} ${reason}`.trim()] = count;
  }
  return found;
}
