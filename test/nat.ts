// What the live tests of NAT share: the client's rows at an address, and what they must say.

import { execFileSync } from 'node:child_process';
import { type FlowRow, type Live, NO_LIVE } from './live.ts';
import { type Counts, haveIp } from './traffic/traffic.ts';

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
