// Golden bytes → columns, columns → exposition, and fuzz with a fixed seed. Neighbouring bytes of the golden record differ.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { PrometheusOutlet } from '../../src/outlet/prometheus.ts';
import { bucketScale } from '../../src/table/buckets.ts';
import { type Batch, isHistogramColumn, isStringColumn } from '../../src/table/columns.ts';
import { DomainCache } from '../../src/table/domains.ts';
import { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { probeOptions } from '../../src/table/testing.ts';
import { httpflow } from '../httpflow.ts';
import { flow_role, http_flag, http_record, http_rest_record, http_total } from '../layout.gen.ts';
import { HttpDecoder } from './decode.ts';
import { parseRequestLine } from './line.ts';
import { httpTotals } from './totals.ts';

const SEED = 20_260_126;
const RUNS = 2000;
const ENTRY_BYTES = 16;
const COARSE = 0x80000000;

interface Entry {
  readonly ttfb: number;
  readonly duration: number;
  readonly request: number;
  readonly response: number;
}

const ENTRIES: readonly Entry[] = [
  { ttfb: 0x01020304, duration: 0x05060708, request: 0x090a0b0c, response: 0x0d0e0f10 },
  { ttfb: 1000, duration: 3000, request: 80, response: 4_000_000_000 },
  { ttfb: COARSE + 3_000_000, duration: COARSE + 4_000_000, request: 81, response: 5 },
];

function record(line: string, entries: readonly Entry[], first = 0, flags = 0): Uint8Array {
  const bytes = Buffer.alloc(http_record.entry + entries.length * ENTRY_BYTES);
  bytes.writeUInt32LE(3, http_record.head_kind);
  bytes.writeUInt32LE(flags, http_record.head_flags);
  bytes.writeBigUInt64LE(0x0001_1223_3445_5667n, http_record.owner_start_ns);
  bytes.writeBigUInt64LE(0x0002_1324_3546_5768n, http_record.owner_cgroup_id);
  bytes.writeUInt32LE(0x0031_4253, http_record.owner_tgid);
  bytes.writeUInt32LE(0x6475_8697, http_record.owner_uid);
  bytes.writeUInt32LE(0xf001_0203, http_record.netns);
  bytes.writeUInt16LE(0x1f90, http_record.local_port);
  bytes.writeUInt16LE(0xd431, http_record.peer_port);
  for (let i = 0; i < 16; i += 1) {
    bytes[http_record.local_addr + i] = 0x20 + i;
    bytes[http_record.peer_addr + i] = 0xfe - i;
  }
  bytes[http_record.family] = 10;
  bytes[http_record.role] = flow_role.ROLE_INCOMING;
  bytes.writeUInt16LE(418, http_record.status);
  bytes[http_record.line_bytes] = line.length;
  bytes[http_record.first] = first;
  bytes[http_record.entries] = entries.length;
  bytes.write(line, http_record.line, 'latin1');
  entries.forEach(({ ttfb, duration, request, response }, i) => {
    const at = http_record.entry + i * ENTRY_BYTES;
    const values = [ttfb, duration, request, response];
    for (const [j, value] of values.entries()) bytes.writeUInt32LE(value, at + 4 * j);
  });
  return bytes;
}

interface Made {
  readonly context: DecodeContext;
  readonly decoder: HttpDecoder;
  readonly fold: Fold;
}

function made(raw_path = false, domains = new DomainCache()): Made {
  const fold = new Fold(httpflow);
  const owner = {
    process_name: 'nginx',
    process_executable_path: '/usr/sbin/nginx',
    cgroup_path: '/system.slice/nginx.service',
    container_id: 'c0ffee',
  };
  const context: DecodeContext = {
    fold: () => fold,
    owner: () => owner,
    options: { ...probeOptions, ephemeral_port: 10_001, http: { raw_path } },
    domains,
    note: () => assert.fail('nothing is noted'),
    dropped: () => assert.fail('nothing is dropped'),
  };
  return { context, decoder: new HttpDecoder(context), fold };
}

function decodeInto({ decoder }: Pick<Made, 'decoder'>, one: Uint8Array): boolean {
  const bytes = new Uint8Array(24 + one.length);
  bytes.set(one, 24);
  decoder.over(bytes);
  return decoder.decode(24, one.length, 1000);
}

function rowsOf(batch: Batch | undefined): readonly Record<string, unknown>[] {
  return Array.from({ length: batch?.rows ?? 0 }, (_, r) => {
    const row: Record<string, unknown> = {};
    batch!.dimensions.forEach((column, i) => {
      const value = isStringColumn(column) ? column.dictionary[column.ids[r]!] : column.values[r];
      row[httpflow.dimensions[i]!.name] = value;
    });
    batch!.measures.forEach((column, i) => {
      const { name } = httpflow.measures[i]!;
      row[name] = isHistogramColumn(column) ? column.sums[r] : column.values[r];
      if (!isHistogramColumn(column)) return;
      const counts = column.counts.slice(column.offsets[r], column.offsets[r + 1]);
      row[`${name}_count`] = counts.reduce((sum, count) => sum + count, 0);
    });
    return row;
  });
}

function decoded(one: Uint8Array, into = made()): readonly Record<string, unknown>[] {
  assert.ok(decodeInto(into, one));
  return rowsOf(into.fold.close(1000));
}

const GOLDEN_ROW = {
  direction: 'incoming',
  transport: 'tcp',
  family: 'IPv6',
  src_ip: '2021:2223:2425:2627:2829:2a2b:2c2d:2e2f',
  src_port: 0x1f90,
  src_ip_type: 'other',
  dst_ip: 'fefd:fcfb:faf9:f8f7:f6f5:f4f3:f2f1:f0ef',
  dst_port: 0,
  dst_ip_type: 'other',
  dst_domain: '',
  dst_nat_ip: '',
  dst_nat_port: 0,
  pid: 0x0031_4253,
  process_name: 'nginx',
  process_executable_path: '/usr/sbin/nginx',
  uid: 0x6475_8697,
  cgroup_id: 0x0002_1324_3546_5768,
  cgroup_path: '/system.slice/nginx.service',
  container_id: 'c0ffee',
  netns: 0xf001_0203,
  method: 'BREW',
  path: '/pots/{id}',
  route: '/pots/{id}',
  status_code: 418,
  http_version: '1.1',
  rpc_system: '',
  rpc_service: '',
  rpc_method: '',
  rpc_grpc_status_code: '',
  tls: 0,
  truncated: 0,
};

/** What the kernel side makes of these entries in its totals (totals.bpf.h). */
function total(entries: readonly Entry[]): Uint8Array {
  const bytes = Buffer.alloc(http_total.SIZE);
  const scale = bucketScale(3);
  const add = (at: number, value: number): void => {
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(at) + BigInt(value), at);
  };
  for (const { ttfb, duration, request, response } of entries) {
    const bucket = http_total.buckets + 4 * (scale.index(ttfb) - 72);
    bytes.writeUInt32LE(bytes.readUInt32LE(bucket) + 1, bucket);
    add(http_total.rest_requests, 1);
    add(http_total.rest_answered, 1);
    add(http_total.rest_ttfb_ns, ttfb);
    add(http_total.rest_duration_ns, duration);
    add(http_total.rest_bytes_request, request);
    add(http_total.rest_bytes_response, response);
    const max = bytes.readBigUInt64LE(http_total.ttfb_max);
    if (max < BigInt(ttfb)) bytes.writeBigUInt64LE(BigInt(ttfb), http_total.ttfb_max);
  }
  return bytes;
}

test('totals of a kind of request are the row that its records would be', () => {
  const line = 'BREW /pots/7 HTTP/1.1\r\n';
  const times = [513, 1024, 1025, 90_000, 90_001, 0x7fffffff];
  const entries = times.map((ttfb) => ({ ttfb, duration: 0x7fffffff, request: 80, response: 90 }));
  const keys = record(line, [], 0).slice(0, http_record.entry);
  const by_totals = made();
  httpTotals.open(by_totals.context).rows(
    {
      count: 1,
      keys,
      values: total(entries),
      key_size: http_record.entry,
      value_stride: http_total.SIZE,
    },
    1000,
  );
  const by_records = made();
  assert.ok(decodeInto(by_records, record(line, entries)));
  const [one, other] = [by_totals, by_records].map(({ fold }) => fold.close(1000));
  assert.deepEqual(rowsOf(one), rowsOf(other));
  assert.deepEqual(
    one?.measures.filter(isHistogramColumn),
    other?.measures.filter(isHistogramColumn),
  );
  assert.equal(rowsOf(one)[0]!.count, times.length);
});

test('a run of requests, field by field', () => {
  const ttfbs = [0x01020304, 1000, 3_000_000 * 1024];
  const durations = [0x05060708, 3000, 4_000_000 * 1024];
  const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);
  assert.deepEqual(decoded(record('BREW /pots/17?secret=1 HTTP/1.1\r', ENTRIES)), [
    {
      ...GOLDEN_ROW,
      count: 3,
      bytes_read: 0x090a0b0c + 80 + 81,
      bytes_written: 0x0d0e0f10 + 4_000_000_000 + 5,
      latency: sum(ttfbs),
      latency_count: 3,
      latency_max: 3_000_000 * 1024,
      duration: sum(durations),
    },
  ]);
});

test('what was reported before is skipped; what only adds counts no request', () => {
  const more = { ttfb: 0xffffffff, duration: 10, request: 0, response: 7 };
  const none = { ttfb: 0xfffffffe, duration: 0, request: 5, response: 0 };
  const [row] = decoded(record('GET / HTTP/1.0\n', [...ENTRIES, more, none], 3));
  const { count, bytes_read, bytes_written, latency_count, duration } = row!;
  assert.deepEqual([count, bytes_read, bytes_written, latency_count, duration], [1, 5, 7, 0, 10]);
});

test('the raw path is kept if configured, without its query', () => {
  const [row] = decoded(record('GET /pots/17?secret=1 HTTP/1.1\r', ENTRIES), made(true));
  assert.deepEqual([row!.path, row!.route], ['/pots/17', '/pots/{id}']);
});

test('flags: TLS, and lines that nobody can tell apart', () => {
  const flags = http_flag.HTTP_TLS | http_flag.HTTP_MIXED;
  const [row] = decoded(record('GET /a HTTP/1.1\r', ENTRIES, 0, flags));
  assert.deepEqual([row!.tls, row!.method, row!.path, row!.count], [1, '<other>', '<other>', 3]);
});

test('totals of what found no room', () => {
  const bytes = Buffer.alloc(http_rest_record.SIZE);
  bytes.writeUInt32LE(3, http_rest_record.head_kind);
  bytes.writeUInt32LE(http_flag.HTTP_OVERFLOW, http_rest_record.head_flags);
  bytes[http_rest_record.role] = flow_role.ROLE_OUTGOING;
  bytes[http_rest_record.status_class] = 5;
  const fields = [
    [http_rest_record.rest_requests, 11],
    [http_rest_record.rest_ttfb_ns, 3000],
    [http_rest_record.rest_duration_ns, 5000],
    [http_rest_record.rest_bytes_request, 70],
    [http_rest_record.rest_bytes_response, 90],
    [http_rest_record.rest_answered, 10],
  ] as const;
  for (const [at, value] of fields) bytes.writeBigUInt64LE(BigInt(value), at);
  const [row] = decoded(bytes);
  const { direction, method, path, status_code, count, latency, latency_count } = row!;
  assert.deepEqual(
    [direction, method, path, status_code, count, latency, latency_count],
    ['outgoing', '<other>', '<other>', 500, 11, 3000, 10],
  );
  assert.deepEqual([row!.bytes_read, row!.bytes_written, row!.duration], [90, 70, 5000]);
});

test('exposition', async () => {
  const { decoder, fold } = made();
  assert.ok(decodeInto({ decoder }, record('GET /pots/17 HTTP/1.1\r', ENTRIES.slice(1, 2))));
  const outlet = new PrometheusOutlet([httpflow]);
  outlet.add(fold.close(1000)!, 'h', 1000);
  const labels =
    'host="h",direction="incoming",family="IPv6",src_ip="2021:2223:2425:2627:2829:2a2b:2c2d:2e2f",' +
    'src_port="8080",dst_ip="fefd:fcfb:faf9:f8f7:f6f5:f4f3:f2f1:f0ef",dst_port="0",' +
    'process_name="nginx",container_id="c0ffee",method="GET",route="/pots/{id}",status_code="418",' +
    'http_version="1.1",tls="0"';
  const lines = (await outlet.text()).split('\n');
  for (const line of [
    '# TYPE sonde_httpflow_count_total counter',
    `sonde_httpflow_count_total{${labels}} 1`,
    '# TYPE sonde_httpflow_latency_seconds histogram',
    `sonde_httpflow_latency_seconds_count{${labels}} 1`,
    `sonde_httpflow_bytes_written_bytes_total{${labels}} 4000000000`,
  ]) {
    assert.ok(lines.includes(line) || lines.includes(line.replace('_bytes_total', '_total')), line);
  }
});

test('the table has the tags and fields of the documents', () => {
  const tags =
    'direction dst_domain dst_ip dst_ip_type dst_k8s_deployment_name dst_k8s_namespace ' +
    'dst_k8s_pod_name dst_k8s_service_name dst_nat_ip dst_nat_port dst_port family pid ' +
    'process_name src_ip src_ip_type src_k8s_deployment_name src_k8s_namespace src_k8s_pod_name ' +
    'src_k8s_service_name src_port sub_source transport ' +
    'bytes_read bytes_written count http_version latency method path status_code truncated';
  const columns = [...httpflow.dimensions, ...(httpflow.enriched ?? []), ...httpflow.measures];
  const names = columns.map(({ name }) => name);
  assert.deepEqual(
    tags.split(' ').filter((tag) => !names.includes(tag)),
    [],
  );
  assert.equal(httpflow.measures.find(({ name }) => name === 'latency')?.unit, 'ns');
});

test('request lines', () => {
  const of = (text: string): unknown[] => Object.values(parseRequestLine(text));
  assert.deepEqual(of('GET /a?b#c HTTP/1.1\r'), ['GET', '/a', '1.1', false]);
  assert.deepEqual(of('GET http://h:1/a/b HTTP/1.0\n'), ['GET', '/a/b', '1.0', false]);
  assert.deepEqual(of('GET http://h HTTP/1.0\n'), ['GET', '/', '1.0', false]);
  assert.deepEqual(of('CONNECT h:443 HTTP/1.1\r'), ['CONNECT', '', '1.1', false]);
  assert.deepEqual(of('OPTIONS * HTTP/1.1\r'), ['OPTIONS', '*', '1.1', false]);
  assert.deepEqual(of('GET /cut/off'), ['GET', '/cut/off', '', true]);
  assert.deepEqual(of('GET /whole?cut='), ['GET', '/whole', '', false]);
  assert.deepEqual(of(''), ['', '', '', true]);
});

test(`any bytes give a row or a refusal, and few methods (seed ${SEED})`, () => {
  const into = made();
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 700 }), fc.boolean(), (bytes, plain) => {
      // the flags' byte says overflow half of the time: without it the general way is tried
      if (plain && bytes.length > http_record.head_flags) bytes[http_record.head_flags]! &= 0xfe;
      decodeInto(into, bytes);
      if (into.fold.rows > 1000) into.fold.close(1000);
    }),
    { seed: SEED, numRuns: RUNS },
  );
  for (let i = 0; i < 500; i += 1) decodeInto(into, record(`M${i} / HTTP/1.1\r`, ENTRIES));
  const methods = new Set(rowsOf(into.fold.close(1000)).map(({ method }) => method));
  assert.ok(methods.size <= 66, `${methods.size}`);
});
