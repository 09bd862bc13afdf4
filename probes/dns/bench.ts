// The decoder of DNS under test: records of packets as the kernel makes them, and the rows that come of them.

import assert from 'node:assert/strict';
import { type Batch, isStringColumn } from '../../src/table/columns.ts';
import { DomainCache } from '../../src/table/domains.ts';
import { Fold } from '../../src/table/fold.ts';
import type { DecodeContext, Owner } from '../../src/table/probe.ts';
import { probeOptions } from '../../src/table/testing.ts';
import { dns_flag, dns_record } from '../layout.gen.ts';
import { DnsDecoder } from './decoder.ts';
import { dnsflow } from './dnsflow.ts';
import { joined, message, RESPONSE } from './testing.ts';

export const NOW_MS = 1_700_000_000_000;
export const TIMEOUT_MS = 5000;
export const SECOND = 1e9;
export const UDP = 17;
export const TCP = 6;
export const SENT = dns_flag.DNS_SENT;

const OWNER: Owner = {
  process_name: 'curl',
  process_executable_path: '/usr/bin/curl',
  cgroup_path: '/user.slice',
  container_id: 'c0ffee',
};
const NOBODY: Owner = {
  ...{ process_name: '', process_executable_path: '', cgroup_path: '', container_id: '' },
};

export interface Packet {
  readonly flags?: number;
  readonly time_ns?: number;
  readonly cookie?: number;
  readonly tgid?: number;
  readonly local_port?: number;
  readonly peer_port?: number;
  readonly peer?: number;
  readonly transport?: number;
  readonly seq?: number;
  readonly length?: number;
}

/** A record of a client's packet unless told otherwise; each byte of the addresses differs from its neighbours. */
export function packet(payload: Uint8Array, of: Packet = {}): Uint8Array {
  const bytes = new Uint8Array(dns_record.SIZE + payload.length + 5); // some room is left
  const view = new DataView(bytes.buffer);
  const big = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  view.setUint32(dns_record.head_flags, of.flags ?? SENT, true);
  big(dns_record.owner_start_ns, 0x0001_1223_3445);
  big(dns_record.owner_cgroup_id, 0x0002_1324_3546);
  view.setUint32(dns_record.owner_tgid, of.tgid ?? ((of.flags ?? SENT) === SENT ? 4242 : 0), true);
  big(dns_record.time_ns, of.time_ns ?? 100 * SECOND);
  big(dns_record.cookie, of.cookie ?? 0x0003_1425);
  bytes.set([10, 21, 32, 43], dns_record.local_addr);
  bytes.set([192, 0, 2, of.peer ?? 53], dns_record.peer_addr);
  view.setUint32(dns_record.netns, 0xf001_0203, true);
  view.setUint32(dns_record.seq, of.seq ?? 0, true);
  view.setUint32(dns_record.payload_length, of.length ?? payload.length, true);
  view.setUint16(dns_record.captured, payload.length, true);
  view.setUint16(dns_record.local_port, of.local_port ?? 54_321, true);
  view.setUint16(dns_record.peer_port, of.peer_port ?? 53, true);
  view.setUint8(dns_record.family, 2);
  view.setUint8(dns_record.transport, of.transport ?? UDP);
  bytes.set(payload, dns_record.SIZE);
  return bytes;
}

export type Row = Record<string, string | number>;

export class Bench {
  readonly domains = new DomainCache();
  readonly notes: string[] = [];
  readonly decoder: DnsDecoder;
  readonly #fold = new Fold(dnsflow);
  now_ns = 100 * SECOND;

  constructor(domains_max = 100) {
    const context: DecodeContext = {
      fold: () => this.#fold,
      owner: (tgid) => (tgid === 0 ? NOBODY : OWNER),
      options: {
        ...probeOptions,
        ephemeral_port: 10_001,
        dns: { ports: [53, 5353], timeout: TIMEOUT_MS, domains_max },
      },
      domains: this.domains,
      note: (what, count) => this.notes.push(`${what} ${count}`),
      dropped: (what, reason, count) => this.notes.push(`${what} ${reason} ${count}`),
    };
    this.decoder = new DnsDecoder(context, () => this.now_ns);
  }

  take(bytes: Uint8Array): boolean {
    const moved = joined([new Uint8Array(24), bytes]);
    this.decoder.over(moved);
    return this.decoder.decode(24, bytes.length, NOW_MS);
  }

  ask(id: number, name = 'a.example', of: Packet = {}): void {
    assert.ok(this.take(packet(message({ id, questions: [[name, 1]] }), of)));
  }

  reply(id: number, name = 'a.example', of: Packet = {}, flags = RESPONSE): void {
    const after = { flags: 0, time_ns: 100 * SECOND + 2000, ...of };
    assert.ok(this.take(packet(message({ id, flags, questions: [[name, 1]] }), after)));
  }

  batch(): Batch | undefined {
    return this.#fold.close(NOW_MS);
  }

  /** The rows so far, with the columns named. */
  rows(...names: string[]): readonly Row[] {
    return rowsOf(this.batch()).map((row) =>
      Object.fromEntries(names.map((name) => [name, row[name]!])),
    );
  }
}

export function rowsOf(batch: Batch | undefined): readonly Row[] {
  return Array.from({ length: batch?.rows ?? 0 }, (_, r) => {
    const row: Row = {};
    batch!.dimensions.forEach((column, i) => {
      const value = isStringColumn(column) ? column.dictionary[column.ids[r]!] : column.values[r];
      row[dnsflow.dimensions[i]!.name] = value!;
    });
    batch!.measures.forEach((column, i) => {
      const { name } = dnsflow.measures[i]!;
      row[name] = 'values' in column ? column.values[r]! : column.sums[r]!;
    });
    return row;
  });
}
