// What the live tests of NAT share: the client's rows at an address, and what they must say.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type FlowRow, type Live, type Match, NO_LIVE, settles } from './live.ts';
import { CLOSED, KEPT, STREAMS } from './traffic/requests.ts';
import { type Counts, haveIp } from './traffic/traffic.ts';

const run = promisify(execFile);

function haveNft(): boolean {
  try {
    execFileSync('nft', ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    return false; // nftables is not installed
  }
}

export const NO_NAT =
  NO_LIVE || (!haveIp() && 'needs ip') || (!haveNft() && 'needs nft (nftables)');

const SUMS = {
  tcp: ['tcp_established', 'tcp_closed', 'bytes_read', 'bytes_written'],
  udp: ['packets_read', 'packets_written', 'bytes_read', 'bytes_written'],
} as const;

/** The client's rows at an address: where they say that it went, and their sums. */
export function seen(
  live: Live,
  protocol: 'tcp' | 'udp',
  dst_ip: string,
  dst_port: number,
): unknown {
  const match = { transport: protocol, direction: 'outgoing', dst_ip, dst_port };
  const rows = live.sink.rows(match);
  const ends = new Set(rows.map((row: FlowRow) => `${row.dst_nat_ip} ${row.dst_nat_port}`));
  return [[...ends], Object.values(live.sink.total(match, SUMS[protocol]))];
}

export function expected(counts: Counts, protocol: 'tcp' | 'udp', ends: string): unknown {
  const { connections, bytes_read, bytes_written } = counts;
  const { datagrams_read, datagrams_written } = counts;
  const first =
    protocol === 'tcp' ? [connections, connections] : [datagrams_read, datagrams_written];
  return [[ends], [...first, bytes_read, bytes_written]];
}

interface Place {
  readonly client: string;
  readonly server: string;
  readonly server_ip: string;
  lead(protocol: 'tcp', from: number, port: number): void;
}

const PROGRAM = fileURLToPath(new URL('./traffic/requests.ts', import.meta.url));

/**
 * Requests to a service that is led to a server: kept, closed and HTTP/2. Each is in the client's rows with the address after
 * NAT. Asks at two ports from `first` on.
 */
export async function checkRequests(
  live: Live,
  place: Place,
  service: string,
  first: number,
): Promise<void> {
  const at = (netns: string) => ['netns', 'exec', netns, process.execPath, PROGRAM];
  const server = spawn('ip', [...at(place.server), 'server', place.server_ip]);
  try {
    const [line] = await once(server.stdout, 'data');
    const ports = String(line).trim().split(' ').map(Number);
    const services = ports.map((_, i) => first + i);
    services.forEach((port, i) => {
      place.lead('tcp', port, ports[i]!);
    });
    await run('ip', [...at(place.client), 'client', service, ...services.map(String)]);
    const led = (row: FlowRow) => `${row.dst_nat_ip} ${row.dst_nat_port} ${row.http_version}`;
    await settles(
      () => live.collector.flush(),
      () => requestsBy(live, { direction: 'outgoing', dst_ip: service, dst_port: services }, led),
      {
        [`${place.server_ip} ${ports[0]} 1.1`]: KEPT + CLOSED,
        [`${place.server_ip} ${ports[1]} 2`]: STREAMS,
      },
    );
    const incoming = requestsBy(live, { direction: 'incoming', src_port: ports }, led);
    assert.deepEqual(incoming, { ' 0 1.1': KEPT + CLOSED, ' 0 2': STREAMS });
  } finally {
    server.stdin.end();
  }
}

function requestsBy(live: Live, match: Match, name: (row: FlowRow) => string): unknown {
  const sums: Record<string, number> = {};
  for (const row of live.sink.rows(match, 'httpflow')) {
    sums[name(row)] = (sums[name(row)] ?? 0) + Number(row.count);
  }
  return sums;
}
