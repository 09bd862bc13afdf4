// Golden records → rows of httpflow. In the golden record each byte differs from its neighbours, so that a swapped lane
// cannot pass.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { isStringColumn } from '../../src/table/columns.ts';
import { DomainCache } from '../../src/table/domains.ts';
import { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { probeOptions } from '../../src/table/testing.ts';
import { httpflow } from '../httpflow.ts';
import { flow_role, http2_flag, http2_record } from '../layout.gen.ts';
import { Http2Decoder } from './decode.ts';

const SEED = { seed: 20260731, numRuns: 1500 };
const EPHEMERAL = 10_001;
const { HTTP2_EGRESS, HTTP2_BEGIN, HTTP2_AT_HEAD, HTTP2_RESYNC, HTTP2_END, HTTP2_RESET } =
  http2_flag;
const { HTTP2_SERVER, HTTP2_CLIENT, HTTP2_UPGRADE } = http2_flag;

interface Fields {
  readonly flags: number;
  readonly cookie?: number;
  readonly now_ns?: number;
  readonly after?: number;
  readonly to: number;
  readonly skip?: number;
  readonly data?: Uint8Array;
  readonly tgid?: number;
  readonly role?: number;
}

/** As the kernel side makes it. */
function record(fields: Fields): Buffer {
  const { data = new Uint8Array(0) } = fields;
  const bytes = Buffer.alloc(http2_record.SIZE + data.length);
  bytes.writeUInt32LE(6, http2_record.head_kind);
  bytes.writeUInt32LE(fields.flags, http2_record.head_flags);
  bytes.writeBigUInt64LE(0x0001_2334_4556_6778n, http2_record.owner_start_ns);
  bytes.writeBigUInt64LE(0x0002_4354_6576_8798n, http2_record.owner_cgroup_id);
  bytes.writeUInt32LE(fields.tgid ?? 0x31_4253, http2_record.owner_tgid);
  bytes.writeUInt32LE(0x6475_8697, http2_record.owner_uid);
  bytes.writeBigUInt64LE(BigInt(fields.cookie ?? 0x1_0203), http2_record.cookie);
  bytes.writeBigUInt64LE(BigInt(fields.now_ns ?? 1000), http2_record.now_ns);
  bytes.writeUInt32LE(fields.after ?? 0, http2_record.after);
  bytes.writeUInt32LE(fields.to, http2_record.to);
  bytes.writeUInt32LE(fields.skip ?? 0, http2_record.skip);
  bytes.writeUInt32LE(0x4132_2314, http2_record.netns);
  bytes.set([10, 1, 2, 3], http2_record.local_addr);
  bytes.set([192, 0, 2, 7], http2_record.peer_addr);
  bytes.writeUInt16LE(8123, http2_record.local_port);
  bytes.writeUInt16LE(45_678, http2_record.peer_port);
  bytes[http2_record.family] = 2;
  bytes[http2_record.role] = fields.role ?? flow_role.ROLE_INCOMING;
  bytes.writeUInt16LE(data.length, http2_record.length);
  bytes.set(data, http2_record.SIZE);
  return bytes;
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array | number): Buffer {
  const bytes = typeof payload === 'number' ? new Uint8Array(0) : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(typeof payload === 'number' ? payload : payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, bytes]);
}

const text = (value: string): Buffer => Buffer.from(`${String.fromCharCode(value.length)}${value}`);
const literal = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0]), text(name), text(value)]);

/** POST, http, and a path. */
const request = (path: string, ...more: Buffer[]): Buffer =>
  Buffer.concat([Buffer.from([0x83, 0x86, 0x04]), text(path), ...more]);
const OK = Buffer.from([0x88]);

type Row = Record<string, unknown>;

interface Made {
  readonly decoder: Http2Decoder;
  readonly notes: Record<string, number>;
  rows(): Row[];
}

function made(): Made {
  const fold = new Fold(httpflow);
  const notes: Record<string, number> = {};
  const context: DecodeContext = {
    fold: () => fold,
    owner: (tgid) => ({
      process_name: tgid === 0 ? '' : `p${tgid}`,
      process_executable_path: '/usr/bin/shop',
      cgroup_path: '/shop',
      container_id: 'c0ffee',
    }),
    options: { ...probeOptions, ephemeral_port: EPHEMERAL },
    domains: new DomainCache(),
    note: (what, count) => {
      notes[what] = (notes[what] ?? 0) + count;
    },
    dropped: () => assert.fail('nothing is dropped'),
  };
  const rows = (): Row[] => {
    const batch = fold.close(1000);
    return Array.from({ length: batch?.rows ?? 0 }, (_, r) => {
      const row: Row = {};
      batch!.dimensions.forEach((column, i) => {
        const value = isStringColumn(column) ? column.dictionary[column.ids[r]!] : column.values[r];
        row[httpflow.dimensions[i]!.name] = value;
      });
      batch!.measures.forEach((column, i) => {
        row[httpflow.measures[i]!.name] = 'values' in column ? column.values[r] : column.sums[r];
      });
      return row;
    });
  };
  return { decoder: new Http2Decoder(context), notes, rows };
}

function feed(to: Made, records: readonly Buffer[]): void {
  for (const one of records) {
    const bytes = Buffer.concat([Buffer.alloc(16), one]);
    to.decoder.over(bytes);
    assert.equal(to.decoder.decode(16, one.length, 5000), true);
  }
}

/** A gRPC call with 300 bytes to the server, of which the record has the length alone, and 5 back. */
function call(): Buffer[] {
  const type = literal('content-type', 'application/grpc');
  const asked = Buffer.concat([
    frame(1, 4, 1, request('/shop.v1.Cart/Add', type)),
    frame(0, 1, 1, 300),
  ]);
  const answer = Buffer.concat([
    frame(1, 4, 1, Buffer.concat([OK, type])),
    frame(0, 0, 1, 5),
    frame(1, 5, 1, literal('grpc-status', '5')),
  ]);
  const in_flags = HTTP2_SERVER | HTTP2_BEGIN | HTTP2_AT_HEAD;
  const out_flags = HTTP2_SERVER | HTTP2_BEGIN | HTTP2_AT_HEAD | HTTP2_EGRESS;
  const in_to = 100 + asked.length + 290;
  return [
    record({
      flags: in_flags,
      now_ns: 1000,
      after: 100,
      to: in_to,
      skip: 10,
      data: asked,
      tgid: 0,
    }),
    record({ flags: HTTP2_SERVER | HTTP2_AT_HEAD, now_ns: 1500, after: in_to, to: in_to + 10 }),
    record({ flags: out_flags, now_ns: 4000, after: 7, to: 7 + answer.length + 5, data: answer }),
  ];
}

test('a request of HTTP/1 that goes over by Upgrade is a row with the status of stream 1', () => {
  const one = made();
  const line = Buffer.from('PUT /über?q=1 HTTP/1.1\r');
  const answer = Buffer.concat([frame(4, 0, 0, 0), frame(1, 4, 1, OK), frame(0, 1, 1, 5)]);
  feed(one, [
    record({
      flags: HTTP2_SERVER | HTTP2_UPGRADE,
      now_ns: 1000,
      after: 0xffff_fff0,
      to: 90,
      data: line,
    }),
    record({
      flags: HTTP2_SERVER | HTTP2_BEGIN | HTTP2_AT_HEAD | HTTP2_EGRESS,
      now_ns: 4000,
      after: 7,
      to: 7 + answer.length + 5,
      data: answer,
    }),
  ]);
  const [row, ...more] = one.rows();
  assert.deepEqual(more, []);
  const { method, path, status_code, http_version, count, bytes_read, bytes_written } = row!;
  assert.deepEqual(
    [method, path, status_code, http_version, count, bytes_read, bytes_written],
    ['PUT', '/über', 200, '2', 1, 106, 5],
  );
  assert.equal(row!.latency_max, 3000);
  assert.deepEqual(one.notes, {});
});

test('a gRPC call in golden records → its row', () => {
  const one = made();
  feed(one, call());
  const rows = one.rows();
  assert.equal(rows.length, 1);
  assert.deepEqual(rows[0], {
    direction: 'incoming',
    transport: 'tcp',
    family: 'IPv4',
    src_ip: '10.1.2.3',
    src_port: 8123,
    src_ip_type: 'private',
    dst_ip: '192.0.2.7',
    dst_port: 0,
    dst_ip_type: 'other',
    dst_domain: '',
    dst_nat_ip: '',
    dst_nat_port: 0,
    pid: 0x31_4253,
    process_name: `p${0x31_4253}`,
    process_executable_path: '/usr/bin/shop',
    uid: 0x6475_8697,
    cgroup_id: 0x0002_4354_6576_8798,
    cgroup_path: '/shop',
    container_id: 'c0ffee',
    netns: 0x4132_2314,
    method: 'POST',
    path: '/shop.v1.Cart/Add',
    route: '/shop.v1.Cart/Add',
    status_code: 200,
    http_version: '2',
    rpc_system: 'grpc',
    rpc_service: 'shop.v1.Cart',
    rpc_method: 'Add',
    rpc_grpc_status_code: '5',
    tls: 0,
    truncated: 0,
    count: 1,
    bytes_read: 300,
    bytes_written: 5,
    latency: 3000,
    latency_max: 3000,
    duration: 3000,
  });
  assert.deepEqual(one.notes, {});
});

test('the end of a connection, by both sides or by a reset, ends what is open', () => {
  for (const how of ['both', 'reset']) {
    const one = made();
    const data = frame(1, 4, 1, request('/open'));
    const flags = HTTP2_CLIENT | HTTP2_EGRESS;
    feed(one, [
      record({ flags: flags | HTTP2_BEGIN | HTTP2_AT_HEAD, after: 1, to: 1 + data.length, data }),
      record({ flags: flags | HTTP2_END, after: 1 + data.length, to: 1 + data.length }),
    ]);
    assert.equal(one.decoder.connections, 1, 'one side alone ends nothing');
    const last = how === 'both' ? HTTP2_END : HTTP2_RESET;
    feed(one, [record({ flags: HTTP2_CLIENT | last, after: 0, to: 0 })]);
    assert.equal(one.decoder.connections, 0);
    const [row] = one.rows();
    assert.deepEqual([row!.direction, row!.path, row!.status_code], ['outgoing', '/open', 0]);
  }
});

test('a record that is missing: the direction is lost, and goes on at the next head', () => {
  const one = made();
  const first = frame(1, 5, 1, request('/first'));
  const third = frame(1, 5, 5, request('/third'));
  const flags = HTTP2_SERVER | HTTP2_AT_HEAD;
  const answers = Buffer.concat([1, 3, 5].map((stream) => frame(1, 5, stream, OK)));
  feed(one, [
    record({ flags: flags | HTTP2_BEGIN, after: 1, to: 1 + first.length, data: first }),
    record({ flags, after: 900, to: 900 + third.length, data: third }),
    record({
      flags: flags | HTTP2_EGRESS | HTTP2_BEGIN,
      after: 1,
      to: 1 + answers.length,
      data: answers,
    }),
  ]);
  one.decoder.tick(5000);
  const paths = one.rows().map(({ method, path, status_code }) => [method, path, status_code]);
  assert.deepEqual(paths.sort(), [
    ['POST', '/first', 200],
    ['POST', '/third', 200],
    ['unknown', 'unknown', 200],
  ]);
  assert.deepEqual(one.notes, { http2_lost: 1, http2_path_unknown: 1 });
});

test('a connection joined late says so, and who connected is its client', () => {
  for (const role of [flow_role.ROLE_OUTGOING, flow_role.ROLE_UNKNOWN]) {
    const one = made();
    const data = frame(1, 5, 9, request('/late/17'));
    const flags = HTTP2_AT_HEAD | HTTP2_RESYNC;
    const answer = frame(1, 5, 9, OK);
    const from_client = role === flow_role.ROLE_OUTGOING ? HTTP2_EGRESS : 0;
    const from_server = HTTP2_EGRESS - from_client;
    feed(one, [
      record({ role, flags: flags | from_client, after: 1, to: 1 + data.length, data }),
      record({ role, flags: flags | from_server, after: 1, to: 1 + answer.length, data: answer }),
    ]);
    const [row] = one.rows();
    const direction = role === flow_role.ROLE_OUTGOING ? 'outgoing' : 'incoming';
    assert.deepEqual([row!.direction, row!.route], [direction, '/late/{id}']);
    assert.equal(one.notes.http2_joined_late, 1);
  }
});

test('idle connections are let go, the oldest make room', () => {
  const one = made();
  const flags = HTTP2_SERVER | HTTP2_BEGIN | HTTP2_AT_HEAD;
  const bytes = record({ flags, to: 0 });
  one.decoder.over(bytes);
  for (let cookie = 1; cookie <= 8200; cookie += 1) {
    bytes.writeBigUInt64LE(BigInt(cookie), http2_record.cookie);
    assert.ok(one.decoder.decode(0, bytes.length, cookie));
  }
  assert.equal(one.decoder.connections, 8192);
  assert.equal(one.notes.http2_connection_evicted, 8);
  one.decoder.tick(10 * 60_000 + 4000);
  assert.equal(one.decoder.connections, 8192 - 3992);
  assert.equal(one.notes.http2_idle, 3992);
});

test('records that are too short are refused; hostile ones do no harm', () => {
  const one = made();
  const whole = record({ flags: 0, to: 1, data: OK });
  one.decoder.over(whole);
  for (const length of [0, http2_record.SIZE - 1, http2_record.SIZE]) {
    assert.equal(one.decoder.decode(0, length, 1), false);
  }
  const field = fc.record({
    flags: fc.nat(255),
    cookie: fc.nat(3),
    after: fc.nat(40),
    to: fc.nat(40),
    skip: fc.constantFrom(0, 0, 3, 4_000_000_000),
    data: fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.constantFrom(frame(1, 5, 1, request('/x')), frame(0, 1, 1, 9), frame(1, 4, 1, OK)),
    ),
  });
  fc.assert(
    fc.property(fc.array(field, { maxLength: 30 }), (all) => {
      feed(one, all.map(record));
      assert.ok(one.decoder.connections <= 4);
    }),
    SEED,
  );
  one.decoder.tick(5000);
  for (const row of one.rows()) assert.ok(Number(row.count) > 0);
});
