// What the way to the reducer costs: rows a second into the spool and from the spool through Flight to a handler,
// and the memory that the collector pays for the libraries. `node bench/wire.ts` prints it; all of it is bounded.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tableFromArrays, tableToIPC } from 'apache-arrow';
import { FlightSender } from '../src/wire/client.ts';
import { joinStream } from '../src/wire/ipc.ts';
import type { Ack, Sender } from '../src/wire/put.ts';
import { FlightServer } from '../src/wire/server.ts';
import { Spool } from '../src/wire/spool.ts';
import { type Figure, printFigures } from './figure.ts';

const ROUNDS = 3;
const MEMORY_ROUNDS = 5;

/** Eight columns as of flows: three dictionaries, ports, counters. About 34 bytes a row. */
function flows(rows: number): Uint8Array {
  const pick = (count: number, prefix: string) =>
    Array.from({ length: rows }, (_, index) => `${prefix}${(index * 7919) % count}`);
  const columns = {
    src_ip: pick(200, '10.0.0.'),
    dst_ip: pick(500, '10.1.0.'),
    process_name: pick(30, 'process'),
    src_port: Uint16Array.from({ length: rows }, (_, index) => index % 60000),
    dst_port: Uint16Array.from({ length: rows }, () => 443),
    bytes_read: Float64Array.from({ length: rows }, (_, index) => index * 100),
    bytes_written: Float64Array.from({ length: rows }, (_, index) => index * 10),
    rtt: Uint32Array.from({ length: rows }, (_, index) => index % 5000),
  };
  return tableToIPC(tableFromArrays(columns), 'stream');
}

interface Case {
  readonly rows: number;
  readonly batches: number;
  readonly fsync: 'none' | 'batch';
}

/** Seconds of the appends, and from the first byte sent to the last acknowledgement. */
async function once(one: Case, payload: Uint8Array): Promise<{ append_s: number; wire_s: number }> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-wire-'));
  let rows_seen = 0;
  const put = async (_sender: Sender, batch: Parameters<typeof joinStream>[0]): Promise<Ack> => {
    // What a store asks of the wire: the batch as one Arrow stream.
    if (joinStream(batch).length > 0) rows_seen += one.rows;
    return { ok: true };
  };
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put });
  const spool = Spool.open(dir, { bytes_max: 512 << 20, fsync: one.fsync });
  const start = performance.now();
  for (let batch = 0; batch < one.batches; batch += 1) {
    const entry = { table: 'netflow', payload, rows: one.rows, counts: {} };
    const result = spool.append({ ...entry, ring: { ring_id: 'bench', cursor: batch } });
    if (!result.ok) throw new Error(`append failed: ${result.reason}`);
  }
  const appended = performance.now();
  const about = { collector_id: 'bench', hostname: 'bench', version: '0' };
  const sender = new FlightSender(spool, { host: '127.0.0.1', port: server.port, ...about });
  await sender.flush();
  const stored = performance.now();
  await sender.close();
  spool.close();
  await server.close();
  rmSync(dir, { recursive: true, force: true });
  if (rows_seen !== one.rows * one.batches) throw new Error(`${rows_seen} rows arrived`);
  return { append_s: (appended - start) / 1000, wire_s: (stored - appended) / 1000 };
}

async function measure(label: string, one: Case): Promise<Figure[]> {
  const payload = flows(one.rows);
  let append_s = Number.POSITIVE_INFINITY;
  let wire_s = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const result = await once(one, payload);
    append_s = Math.min(append_s, result.append_s);
    wire_s = Math.min(wire_s, result.wire_s);
  }
  const rows = one.rows * one.batches;
  const megabytes = (payload.length * one.batches) / 1e6;
  return [
    { name: `spool append, ${label}`, value: rows / append_s, unit: 'rows/s' },
    { name: `spool append, ${label}`, value: megabytes / append_s, unit: 'MB/s' },
    { name: `spool to handler, ${label}`, value: rows / wire_s, unit: 'rows/s' },
    { name: `spool to handler, ${label}`, value: one.batches / wire_s, unit: 'batches/s' },
  ];
}

/** Resident memory of a fresh process that imports `module`; the median of several. */
function resident(module: string, env: NodeJS.ProcessEnv): number {
  const program = `${module === '' ? '' : `await import(${JSON.stringify(module)});`}
    setTimeout(() => console.log(process.memoryUsage.rss()), 100);`;
  const samples: number[] = [];
  for (let round = 0; round < MEMORY_ROUNDS; round += 1) {
    const args = ['--input-type=module', '-e', program];
    const { stdout } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
    samples.push(Number(stdout) / 1048576);
  }
  return samples.sort((a, b) => a - b)[MEMORY_ROUNDS >> 1] ?? Number.NaN;
}

/** Type stripping alone is some 20 MiB of a process; node's compile cache spares it from the second start on. */
function memory(): Figure[] {
  const client = new URL('../src/wire/client.ts', import.meta.url).href;
  const spool = new URL('../src/wire/spool.ts', import.meta.url).href;
  const grpc = import.meta.resolve('@grpc/grpc-js');
  const modules = { nothing: '', 'node:http2': 'node:http2', 'grpc-js': grpc, spool, client };
  const cache = mkdtempSync(join(tmpdir(), 'bench-cache-'));
  const figures: Figure[] = [];
  for (const [name, module] of Object.entries(modules)) {
    const cold = { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1' };
    const warm = { ...process.env, NODE_COMPILE_CACHE: cache };
    resident(module, warm);
    figures.push({ name: `resident, ${name}`, value: resident(module, cold), unit: 'MiB' });
    const cached = resident(module, warm);
    figures.push({ name: `resident, ${name}, compile cache`, value: cached, unit: 'MiB' });
  }
  rmSync(cache, { recursive: true, force: true });
  return figures;
}

/** All figures of the wire. */
export async function run(): Promise<readonly Figure[]> {
  const figures = [
    ...(await measure('10,000 rows a batch', { rows: 10_000, batches: 60, fsync: 'none' })),
    ...(await measure('100 rows a batch', { rows: 100, batches: 2000, fsync: 'none' })),
    ...(await measure('100 rows, fsync', { rows: 100, batches: 300, fsync: 'batch' })),
    ...memory(),
  ];
  return figures;
}

if (import.meta.main) printFigures(await run());
