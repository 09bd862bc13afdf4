// Golden bytes → columns. In the golden record each byte differs from its neighbours, so that a swapped lane cannot pass.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { type Batch, isStringColumn } from '../src/table/columns.ts';
import { DomainCache } from '../src/table/domains.ts';
import { Fold } from '../src/table/fold.ts';
import type { DecodeContext, Owner } from '../src/table/probe.ts';
import { probeOptions } from '../src/table/testing.ts';
import { FlowDecoder } from './flow.ts';
import { flow_flag, flow_record, flow_role } from './layout.gen.ts';
import { netflow } from './netflow.ts';

const SEED = 20_260_119;
const AF_INET = 2;
const AF_INET6 = 10;
const TCP = 6;
const UDP = 17;
const EPHEMERAL = 10_001;
const NOW_MS = 1_700_000_000_000;
const OWNER: Owner = {
  process_name: 'nginx',
  process_executable_path: '/usr/sbin/nginx',
  cgroup_path: '/system.slice/nginx.service',
  container_id: 'c0ffee',
};

/** Fields of the C struct by name; numbers below 2^53, or bytes. */
type Fields = Partial<Record<keyof typeof flow_record, number | bigint | Uint8Array>>;

const WIDTHS: Readonly<Record<string, 1 | 2 | 4>> = {
  ...{ head_kind: 4, head_flags: 4, owner_tgid: 4, owner_uid: 4, srtt_us: 4, rttvar_us: 4 },
  ...{ netns: 4, connections_established: 4, connections_closed: 4, connections_failed: 4 },
  ...{ local_port: 2, peer_port: 2, nat_port: 2, error: 2, family: 1, transport: 1, role: 1 },
};

/** The record's bytes; what is not named is zero. */
function record(fields: Fields, into = new Uint8Array(flow_record.SIZE)): Uint8Array {
  const view = new DataView(into.buffer, into.byteOffset);
  for (const [name, value] of Object.entries(fields)) {
    const at = flow_record[name as keyof typeof flow_record]; // Fields has no other names
    if (value instanceof Uint8Array) into.set(value, at);
    else if (WIDTHS[name] === 1) view.setUint8(at, Number(value));
    else if (WIDTHS[name] === 2) view.setUint16(at, Number(value), true);
    else if (WIDTHS[name] === 4) view.setUint32(at, Number(value), true);
    else view.setBigInt64(at, BigInt(value), true);
  }
  return into;
}

type Row = Record<string, unknown>;

function rowsOf(batch: Batch | undefined): readonly Row[] {
  return Array.from({ length: batch?.rows ?? 0 }, (_, r) => {
    const row: Row = {};
    batch!.dimensions.forEach((column, i) => {
      const value = isStringColumn(column) ? column.dictionary[column.ids[r]!] : column.values[r];
      row[netflow.dimensions[i]!.name] = value;
    });
    batch!.measures.forEach((column, i) => {
      const { name } = netflow.measures[i]!;
      if ('values' in column) row[name] = column.values[r];
      else row[name] = column.sums[r];
    });
    return row;
  });
}

/** Decodes records, one after another at an odd place each, into the rows of one interval. */
function decode(records: readonly Uint8Array[], decoder = made()): readonly Row[] {
  for (const one of records) {
    const bytes = new Uint8Array(24 + one.length);
    bytes.set(one, 24);
    decoder.flow.over(bytes);
    decoder.flow.decode(24, one.length, NOW_MS);
  }
  return rowsOf(decoder.fold.close(1000));
}

interface Made {
  readonly flow: FlowDecoder;
  readonly fold: Fold;
  readonly drops: readonly string[];
}

function made(owner: () => Owner = () => OWNER, domains = new DomainCache()): Made {
  const fold = new Fold(netflow);
  const drops: string[] = [];
  const context: DecodeContext = {
    fold: () => fold,
    owner,
    options: { ...probeOptions, ephemeral_port: EPHEMERAL },
    domains,
    note: () => assert.fail('nothing is noted'),
    dropped: (what, reason, count) => drops.push(`${what} ${reason} ${count}`),
  };
  return { flow: new FlowDecoder(context), fold, drops };
}

/** Like the kernel's record of an accepted connection over IPv6 that the peer reset. */
const GOLDEN: Fields = {
  head_kind: 2,
  head_flags: flow_flag.FLOW_ESTABLISHED | flow_flag.FLOW_CLOSED | flow_flag.FLOW_RESET_IN,
  owner_start_ns: 0x0001_1223_3445_5667n,
  owner_cgroup_id: 0x0002_1324_3546_5768n,
  owner_tgid: 0x0031_4253,
  owner_uid: 0x6475_8697,
  bytes_read: 0x0003_1425_3647_5869n,
  bytes_written: 0x0004_1526_3748_596an,
  packets_read: 0x0005_1627_3849_5a6bn,
  packets_written: 0x0006_1728_394a_5b6cn,
  retransmits: 0x0007_1829_3a4b_5c6dn,
  connect_ns: 0x0000_192a_3b4c_5d6en,
  srtt_us: 0x7f80_9192,
  rttvar_us: 0xa3a4_b5b6,
  netns: 0xf001_0203,
  connections_established: 1,
  connections_closed: 1,
  local_addr: Uint8Array.from({ length: 16 }, (_, i) => 0x20 + i),
  peer_addr: Uint8Array.from({ length: 16 }, (_, i) => 0xfe - i),
  local_port: 0x1f90,
  peer_port: 0xd431,
  family: AF_INET6,
  transport: TCP,
  role: flow_role.ROLE_INCOMING,
  error: 104,
};

test('golden bytes become this row', () => {
  assert.deepEqual(decode([record(GOLDEN)]), [
    {
      direction: 'incoming',
      transport: 'tcp',
      family: 'IPv6',
      src_ip: '2021:2223:2425:2627:2829:2a2b:2c2d:2e2f',
      src_port: 8080,
      src_ip_type: 'other',
      dst_ip: 'fefd:fcfb:faf9:f8f7:f6f5:f4f3:f2f1:f0ef',
      dst_port: 0,
      dst_ip_type: 'other',
      pid: 3_228_243,
      process_name: 'nginx',
      process_executable_path: '/usr/sbin/nginx',
      uid: 1_685_423_767,
      cgroup_id: 583_996_186_974_056,
      cgroup_path: '/system.slice/nginx.service',
      container_id: 'c0ffee',
      netns: 4_026_597_891,
      error_type: '',
      dst_domain: '',
      dst_nat_ip: '',
      dst_nat_port: 0,
      bytes_read: 866_574_987_122_793,
      bytes_written: 1_149_153_787_271_530,
      packets_read: 1_431_732_587_420_267,
      packets_written: 1_714_311_387_569_004,
      retransmits: 1_996_890_187_717_741,
      rtt: 2_139_132_306,
      rtt_var: 2_745_480_630,
      rtt_samples: 1,
      tcp_established: 1,
      tcp_closed: 1,
      connect_failures: 0,
      connect_latency: 27_669_174_181_230,
      resets_sent: 0,
      resets_received: 1,
      preexisting: 0,
      bytes_read_before_start: 0,
      bytes_written_before_start: 0,
    },
  ]);
});

test('neighbouring bytes of the golden record differ', () => {
  const bytes = record(GOLDEN);
  const used = bytes.subarray(flow_record.owner_start_ns, flow_record.netns + 4);
  const equal = used.filter((byte, i) => byte === used[i + 1] && byte !== 0);
  assert.deepEqual([...equal], []);
});

/** The one row of one record, those columns that are asked for. */
function one(fields: Fields, names: readonly string[]): readonly unknown[] {
  const rows = decode([record({ family: AF_INET, transport: TCP, ...fields })]);
  assert.equal(rows.length, 1);
  return names.map((name) => rows[0]![name]);
}

test('ports are folded on the side that opened the connection', () => {
  const ports = (role: number, local_port: number, peer_port: number) =>
    one({ role, local_port, peer_port }, ['direction', 'src_port', 'dst_port']);
  const { ROLE_OUTGOING, ROLE_INCOMING, ROLE_UNKNOWN } = flow_role;
  assert.deepEqual(ports(ROLE_OUTGOING, 40_000, 50_000), ['outgoing', 0, 50_000]);
  assert.deepEqual(ports(ROLE_INCOMING, 50_000, 40_000), ['incoming', 50_000, 0]);
  assert.deepEqual(ports(ROLE_OUTGOING, EPHEMERAL - 1, 80), ['outgoing', EPHEMERAL - 1, 80]);
  assert.deepEqual(ports(ROLE_OUTGOING, EPHEMERAL, 80), ['outgoing', 0, 80]);
  assert.deepEqual(ports(ROLE_INCOMING, 80, EPHEMERAL), ['incoming', 80, 0]);
  assert.deepEqual(ports(ROLE_UNKNOWN, 40_000, 80), ['outgoing', 0, 80]);
  assert.deepEqual(ports(ROLE_UNKNOWN, 80, 40_000), ['incoming', 80, 0]);
  assert.deepEqual(ports(ROLE_UNKNOWN, 40_000, 50_000), ['unknown', 40_000, 50_000]);
  assert.deepEqual(ports(ROLE_UNKNOWN, 80, 443), ['unknown', 80, 443]);
});

test('a failed connect has its reason, and is no reset', () => {
  const names = ['error_type', 'connect_failures', 'tcp_closed', 'resets_received'];
  const head_flags = flow_flag.FLOW_FAILED | flow_flag.FLOW_RESET_IN;
  const failed = (error: number) => one({ head_flags, error, connections_failed: 1 }, names);
  assert.deepEqual(failed(111), ['ECONNREFUSED', 1, 0, 0]);
  assert.deepEqual(failed(110), ['ETIMEDOUT', 1, 0, 0]);
  assert.deepEqual(failed(113), ['EHOSTUNREACH', 1, 0, 0]);
  assert.deepEqual(failed(0), ['abandoned', 1, 0, 0]);
  assert.deepEqual(failed(60_000), ['<other>', 1, 0, 0]);
  assert.deepEqual(one({ error: 111 }, ['error_type']), ['']);
});

test('what came before the start is named', () => {
  const head_flags = flow_flag.FLOW_PREEXISTING | flow_flag.FLOW_ESTABLISHED;
  const counts = { bytes_read: 11, bytes_written: 22, connections_established: 1 };
  const names = ['preexisting', 'bytes_read_before_start', 'bytes_written_before_start'];
  assert.deepEqual(one({ head_flags, ...counts }, names), [1, 11, 22]);
  assert.deepEqual(one({ head_flags: flow_flag.FLOW_ESTABLISHED, ...counts }, names), [0, 0, 0]);
});

test('an overflow record has a direction, a transport and counts, nothing else', () => {
  const [row] = decode([
    record({
      head_flags: flow_flag.FLOW_OVERFLOW,
      transport: UDP,
      role: flow_role.ROLE_OUTGOING,
      owner_tgid: 77,
      local_port: 5,
      peer_port: 6,
      bytes_written: 1234,
      packets_written: 9,
      connections_established: 7,
      connections_closed: 8,
    }),
  ]);
  const { direction, transport, family, src_ip, process_name, pid, src_port } = row!;
  assert.deepEqual([direction, transport], ['outgoing', 'udp']);
  assert.deepEqual([family, src_ip, process_name], ['<other>', '<other>', '<other>']);
  assert.deepEqual([pid, src_port], [0, 0]);
  const { bytes_written, packets_written, tcp_established, tcp_closed } = row!;
  assert.deepEqual([bytes_written, packets_written], [1234, 9]);
  assert.deepEqual([tcp_established, tcp_closed], [7, 8]);
});

test('an end without a socket has an owner and no addresses', () => {
  const names = ['family', 'src_ip', 'dst_ip', 'pid', 'tcp_closed'];
  const counts = { owner_tgid: 77, connections_closed: 1 };
  assert.deepEqual(one({ family: 0, ...counts }, names), ['', '', '', 77, 1]);
});

test('a count below zero is held at zero and noted', () => {
  const decoder = made();
  const bytes = record({ family: AF_INET, transport: TCP, bytes_read: -1, bytes_written: 5 });
  const [row] = decode([bytes], decoder);
  assert.deepEqual([row!.bytes_read, row!.bytes_written], [0, 5]);
  assert.deepEqual(decoder.drops, ['counts negative_delta 1']);
});

test('records of one key fold, and strings stay right over intervals', () => {
  const decoder = made();
  const local_addr = Uint8Array.of(10, 1, 2, 3);
  const bytes = record({ family: AF_INET, transport: UDP, local_addr, bytes_read: 3 });
  const expected = [{ src_ip: '10.1.2.3', family: 'IPv4', transport: 'udp', bytes_read: 6 }];
  for (let interval = 0; interval < 3; interval += 1) {
    const rows = decode([bytes, bytes], decoder).map((row) => {
      const { src_ip, family, transport, bytes_read } = row;
      return { src_ip, family, transport, bytes_read };
    });
    assert.deepEqual(rows, expected);
  }
});

test('an owner of whom more becomes known is another row', () => {
  let owner = OWNER;
  const decoder = made(() => owner);
  const bytes = record({ family: AF_INET, transport: TCP, owner_tgid: 5, bytes_read: 1 });
  decode([bytes], decoder);
  owner = { ...OWNER, container_id: 'decaf' };
  assert.deepEqual(
    decode([bytes], decoder).map((row) => row.container_id),
    ['decaf'],
  );
});

test(`any bytes become a row, seed ${SEED}`, () => {
  const decoder = made();
  const size = flow_record.SIZE;
  const records = fc.uint8Array({ minLength: size, maxLength: size });
  fc.assert(
    fc.property(records, fc.constantFrom(AF_INET, AF_INET6, 0, 255), (bytes, family) => {
      const before = decoder.fold.counts.added;
      decoder.flow.over(record({ family }, bytes.slice()));
      decoder.flow.decode(0, flow_record.SIZE, NOW_MS);
      assert.equal(decoder.fold.counts.added, before + 1);
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('outgoing flows have the name that their peer was looked up by when they began', () => {
  const domains = new DomainCache();
  const decoder = made(() => OWNER, domains);
  const peer_addr = Uint8Array.of(192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const ends = { peer_addr, netns: 5, peer_port: 443, family: AF_INET };
  const of = (
    role: number,
    head_flags: number,
    local_port: number,
    transport = TCP,
    begin_ns = 0,
  ) =>
    decode([record({ ...ends, role, head_flags, local_port, transport, begin_ns })], decoder).map(
      (row) => row.dst_domain,
    )[0];
  const { FLOW_ESTABLISHED, FLOW_CLOSED, FLOW_FAILED } = flow_flag;
  const { ROLE_OUTGOING, ROLE_INCOMING } = flow_role;
  assert.equal(of(ROLE_OUTGOING, FLOW_ESTABLISHED, 999), '', 'before the look-up');
  domains.note(5, '192.0.2.7', 'a.example', 60, { now_ms: NOW_MS, time_ns: 1e9 });
  assert.equal(of(ROLE_OUTGOING, FLOW_ESTABLISHED, 1000), 'a.example');
  assert.equal(of(ROLE_OUTGOING, 0, 2000, UDP), 'a.example');
  assert.equal(of(ROLE_INCOMING, FLOW_ESTABLISHED, 1001), '');
  domains.note(5, '192.0.2.7', 'b.example', 60, { now_ms: NOW_MS, time_ns: 3e9 });
  assert.equal(of(ROLE_OUTGOING, 0, 1000), 'a.example', 'it keeps its name');
  assert.equal(of(ROLE_OUTGOING, 0, 2000, UDP), 'a.example');
  assert.equal(of(ROLE_OUTGOING, 0, 999), '', 'older than the look-up');
  assert.equal(of(ROLE_OUTGOING, FLOW_ESTABLISHED | FLOW_CLOSED, 1002), 'b.example');
  assert.equal(of(ROLE_OUTGOING, FLOW_FAILED, 1003), 'b.example');
  const whole = FLOW_ESTABLISHED | FLOW_CLOSED;
  assert.equal(of(ROLE_OUTGOING, whole, 1004, TCP, 2e9), 'a.example', 'reported after the next');
  assert.equal(of(ROLE_OUTGOING, FLOW_FAILED, 1004, TCP, 4e9), 'b.example');
  assert.equal(of(ROLE_OUTGOING, 0, 2001, UDP, 2e9), 'a.example');
  assert.equal(of(ROLE_OUTGOING, 0, 2002, UDP, 0.5e9), '', 'it is older than the look-up');
  assert.equal(of(ROLE_OUTGOING, FLOW_CLOSED, 1000), 'a.example');
  assert.equal(of(ROLE_OUTGOING, 0, 1000), '', 'another connection has its ports now');
});

test('the address after destination NAT, of outgoing flows that have one', () => {
  const nat_addr = Uint8Array.of(10, 21, 32, 43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const nat = { nat_addr, nat_port: 0x1f91, family: AF_INET };
  const seen = (role: number, head_flags: number) =>
    decode([record({ ...nat, role, head_flags, transport: TCP })]).map((row) => [
      row.dst_nat_ip,
      row.dst_nat_port,
    ])[0];
  assert.deepEqual(seen(flow_role.ROLE_OUTGOING, flow_flag.FLOW_NAT), ['10.21.32.43', 8081]);
  assert.deepEqual(seen(flow_role.ROLE_OUTGOING, 0), ['', 0]);
  assert.deepEqual(seen(flow_role.ROLE_INCOMING, flow_flag.FLOW_NAT), ['', 0]);
});
