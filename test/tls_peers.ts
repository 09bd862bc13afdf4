// What the tests of the TLS probe share: certificates, programs at both ends, and what rows they must leave.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type FlowRow, type Live, NO_LIVE, type Sink, settles } from './live.ts';
import { lacksProgram } from './peer.ts';
import type { Cleanup } from './traffic/traffic.ts';

export const NO_TLS: string | false = NO_LIVE || lacksProgram('openssl', 'python3');

export interface Certificate {
  readonly folder: string;
  readonly cert: string;
  readonly key: string;
}

export function makeCertificate(t: Cleanup): Certificate {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-tls-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const words = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  const rest = ['-nodes', '-days', '2', '-subj', '/CN=localhost', '-keyout', key, '-out', cert];
  execFileSync('openssl', [...words, ...rest], { stdio: 'ignore' });
  return { folder, cert, key };
}

/** Until the collector has looked at all processes, and programs stand in at least these files. */
export async function probed(live: Live, ...names: readonly RegExp[]): Promise<void> {
  const { uprobes } = live.collector;
  const missing = () => names.find((name) => !uprobes.placed.some((path) => name.test(path)));
  for (const end = Date.now() + 60_000; !uprobes.settled || missing() !== undefined; ) {
    const report = JSON.stringify(uprobes.report());
    assert.ok(Date.now() < end, `${missing()} is not probed: ${report}`);
    await delay(50);
  }
}

/** Requests by side, process and status, with the ports that name the connection. */
export function seen(live: Pick<Live, 'sink'>, port: number): readonly FlowRow[] {
  const rows = [
    ...live.sink.rows({ tls: 1, src_port: port }, 'httpflow'),
    ...live.sink.rows({ tls: 1, dst_port: port }, 'httpflow'),
  ];
  const sums = new Map<string, { row: Record<string, string | number>; count: number }>();
  for (const { direction, pid, path, status_code, count, src_ip, dst_ip } of rows) {
    const row = { direction, pid, path, status_code, src_ip, dst_ip } as Record<
      string,
      string | number
    >;
    const key = JSON.stringify(row);
    const sum = sums.get(key) ?? { row, count: 0 };
    sum.count += Number(count);
    sums.set(key, sum);
  }
  const all = [...sums.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  return all.map(([, { row, count }]) => ({ ...row, count }));
}

export interface Side {
  readonly direction: 'incoming' | 'outgoing';
  readonly pid: number;
  /** By path. */
  readonly counts: Readonly<Record<string, number>>;
}

function rowsOf({ direction, pid, counts }: Side): readonly FlowRow[] {
  return Object.entries(counts).map(([path, count]) => ({
    direction,
    pid,
    path,
    status_code: path.startsWith('/missing') ? 404 : 200,
    src_ip: '127.0.0.1',
    dst_ip: '127.0.0.1',
    count,
  }));
}

/** Waits until exactly these rows are there. */
export async function exact(live: Live, port: number, sides: readonly Side[]): Promise<void> {
  await exactIn(live.sink, () => live.collector.flush(), port, sides);
}

/** The same of what a collector in another process sends. */
export async function exactIn(
  sink: Sink,
  flush: () => Promise<void>,
  port: number,
  sides: readonly Side[],
): Promise<void> {
  const keyOf = ({ count: _, ...row }: FlowRow) => JSON.stringify(row);
  const expected = sides.flatMap(rowsOf).sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  await settles(flush, () => seen({ sink }, port), expected);
}
