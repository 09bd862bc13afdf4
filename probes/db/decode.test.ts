// Golden bytes → columns, and what becomes of packets that are lost, out of order, repeated, or of a connection that is older.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { PrometheusOutlet } from '../../src/outlet/prometheus.ts';
import { type Batch, isHistogramColumn, isStringColumn } from '../../src/table/columns.ts';
import { DomainCache } from '../../src/table/domains.ts';
import { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { probeOptions } from '../../src/table/testing.ts';
import { dbflow } from '../dbflow.ts';
import { db_flag, db_record } from '../layout.gen.ts';
import { login, packet as mysqlPacket, query } from '../mysql/testing.ts';
import { DbDecoder } from './decode.ts';

const { DB_SENT, DB_BEGIN, DB_END, DB_RESET, DB_LISTENER } = db_flag;
const SEED = 20_260_213;
const SECOND = 1e9;
const NOW_MS = 1_700_000_000_000;
const BASE = 0xffff_fff0; // sequence numbers wrap in each test
const DATABASES = { postgresql: { ports: [5432] }, mysql: { ports: [3306] } };
const PING = '*1\r\n$4\r\nPING\r\n';
const PONG = '+PONG\r\n';

interface Packet {
  readonly flags?: number;
  readonly text?: string;
  /** From the first byte of its side. */
  readonly seq?: number;
  readonly ack?: number;
  readonly time_ns?: number;
  readonly cookie?: number;
  readonly tgid?: number;
  /** At the server's end. */
  readonly serves?: boolean;
  readonly captured?: number;
  /** The server's. */
  readonly port?: number;
}

/** Each byte of the addresses differs from its neighbours. */
function packet(of: Packet): Uint8Array {
  const payload = Buffer.from(of.text ?? '', 'latin1');
  const bytes = new Uint8Array(db_record.SIZE + payload.length + 5); // some room is left
  const view = new DataView(bytes.buffer);
  const big = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);
  const port = of.port ?? 6379;
  const [local, peer] = of.serves ? [port, 54_321] : [54_321, port];
  view.setUint32(db_record.head_flags, of.flags ?? 0, true);
  big(db_record.owner_start_ns, 0x0001_1223_3445);
  big(db_record.owner_cgroup_id, 0x0002_1324_3546);
  view.setUint32(db_record.owner_tgid, of.tgid ?? 4242, true);
  view.setUint32(db_record.owner_uid, 1001, true);
  big(db_record.time_ns, of.time_ns ?? 100 * SECOND);
  big(db_record.cookie, of.cookie ?? 0x0003_1425);
  bytes.set([10, 21, 32, 43], db_record.local_addr);
  bytes.set([192, 0, 2, 53], db_record.peer_addr);
  view.setUint32(db_record.netns, 0xf001_0203, true);
  view.setUint32(db_record.seq, BASE + (of.seq ?? 0), true);
  view.setUint32(db_record.ack_seq, BASE + (of.ack ?? 0), true);
  view.setUint32(db_record.payload_length, payload.length, true);
  view.setUint16(db_record.captured, of.captured ?? payload.length, true);
  view.setUint16(db_record.local_port, local, true);
  view.setUint16(db_record.peer_port, peer, true);
  view.setUint8(db_record.family, 2);
  bytes.set(payload, db_record.SIZE);
  return bytes;
}

type Row = Record<string, string | number>;

class Bench {
  readonly books: Record<string, number> = {};
  readonly domains = new DomainCache();
  readonly decoder: DbDecoder;
  readonly #fold = new Fold(dbflow);
  now_ns = 99 * SECOND;

  constructor() {
    const book = (what: string, count: number): void => {
      if (count > 0) this.books[what] = (this.books[what] ?? 0) + count;
    };
    const context: DecodeContext = {
      fold: () => this.#fold,
      owner: (tgid) => ({
        process_name: tgid === 0 ? '' : 'app',
        process_executable_path: tgid === 0 ? '' : '/bin/app',
        cgroup_path: '/user.slice',
        container_id: 'c0ffee',
      }),
      options: { ...probeOptions, redis: { ports: [6379] }, ...DATABASES },
      domains: this.domains,
      note: book,
      dropped: (what, reason, count) => book(`${what} ${reason}`, count),
    };
    this.decoder = new DbDecoder(context, () => this.now_ns);
  }

  hear(...packets: readonly Packet[]): this {
    for (const one of packets) {
      const bytes = packet(one);
      this.decoder.over(bytes);
      assert.equal(this.decoder.decode(0, bytes.length, NOW_MS), true);
    }
    return this;
  }

  batch(): Batch | undefined {
    this.decoder.tick(NOW_MS);
    return this.#fold.close(NOW_MS);
  }

  rows(): readonly Row[] {
    const batch = this.batch();
    if (batch === undefined) return [];
    return Array.from({ length: batch.rows }, (_, r) => {
      const row: Row = {};
      batch.dimensions.forEach((column, i) => {
        const { name } = dbflow.dimensions[i]!;
        row[name] = isStringColumn(column) ? column.dictionary[column.ids[r]!]! : column.values[r]!;
      });
      batch.measures.forEach((column, i) => {
        const { name } = dbflow.measures[i]!;
        row[name] = isHistogramColumn(column) ? column.sums[r]! : column.values[r]!;
      });
      return row;
    });
  }

  counts(): Record<string, number> {
    const rows = this.rows().map((row) => [
      `${row.db_operation_name} ${row.error_type}`,
      row.count,
    ]);
    return Object.fromEntries(rows.map(([key, count]) => [String(key).trim(), Number(count)]));
  }
}

const BEGIN: Packet = { flags: DB_SENT | DB_BEGIN, tgid: 0 };
const asked = (seq: number, text = PING, more: Packet = {}): Packet => ({
  ...{ flags: DB_SENT, text, seq, ...more },
});
const answered = (seq: number, text = PONG, more: Packet = {}): Packet => ({ text, seq, ...more });

test('a command of each end, to columns', () => {
  const at = (n: number): number => 100 * SECOND + n;
  const client = new Bench().hear(
    BEGIN,
    asked(0, PING, { time_ns: at(0) }),
    answered(0, '-ERR no', { time_ns: at(3) }),
    answered(7, '\r\n', { time_ns: at(7) }),
  );
  const row = {
    ...{ direction: 'outgoing', transport: 'tcp', family: 'IPv4' },
    ...{ src_ip: '10.21.32.43', src_port: 0, src_ip_type: 'private' },
    ...{ dst_ip: '192.0.2.53', dst_port: 6379, dst_ip_type: 'other', dst_domain: '' },
    ...{ pid: 4242, process_name: 'app', process_executable_path: '/bin/app', uid: 1001 },
    ...{ cgroup_id: 0x0002_1324_3546, cgroup_path: '/user.slice', container_id: 'c0ffee' },
    ...{ netns: 0xf001_0203, db_system_name: 'redis', db_operation_name: 'PING' },
    ...{ error_type: 'ERR', count: 1, bytes_read: 9, bytes_written: 14 },
    ...{ latency: 3, latency_max: 3, duration: 7 },
  };
  assert.deepEqual(client.rows(), [row]);
  const server = new Bench().hear(
    { flags: DB_BEGIN | DB_LISTENER, serves: true, tgid: 0, cookie: 1 },
    { text: PING, serves: true, time_ns: at(0) },
    { flags: DB_SENT, text: PONG, serves: true, time_ns: at(5) },
  );
  const [incoming] = server.rows();
  assert.deepEqual(incoming, {
    ...row,
    ...{ direction: 'incoming', src_port: 6379, dst_port: 0, error_type: '' },
    ...{ bytes_read: 14, bytes_written: 7, latency: 5, latency_max: 5, duration: 5 },
  });
});

test('a connection keeps the name that its server had when it began', () => {
  const bench = new Bench();
  const heard = (name: string, second: number): void =>
    bench.domains.note(0xf001_0203, '192.0.2.53', name, 9, {
      ...{ now_ms: NOW_MS, time_ns: second * SECOND },
    });
  heard('a.example', 99);
  heard('b.example', 101);
  bench.hear(BEGIN, asked(0), answered(0));
  assert.equal(bench.rows()[0]?.dst_domain, 'a.example');
  bench.hear(asked(14, PING, { time_ns: 190 * SECOND }), answered(7));
  assert.equal(bench.rows()[0]?.dst_domain, 'a.example');
});

test('the columns in the exposition', async () => {
  const outlet = new PrometheusOutlet([dbflow]);
  outlet.add(new Bench().hear(BEGIN, asked(0), answered(0)).batch()!, 'here', NOW_MS);
  const text = await outlet.text();
  assert.match(text, /^\w*dbflow_count\w*\{.*db_operation_name="PING".*\} 1$/m);
});

test('repeats, overlaps and what comes too early are put in order', () => {
  const twice = PING + PING;
  const bench = new Bench().hear(
    BEGIN,
    asked(14, PING),
    asked(0, twice),
    asked(0, twice),
    asked(20, twice.slice(20) + PING),
    answered(7),
    answered(0),
    answered(0, PONG + PONG + PONG),
  );
  assert.deepEqual([bench.counts(), bench.books], [{ PING: 3 }, {}]);
});

test('bytes that never come lose the place, until a pause', () => {
  const bench = new Bench().hear(BEGIN, asked(0), answered(0), asked(14), asked(56), answered(7));
  bench.now_ns = 110 * SECOND;
  assert.deepEqual(bench.counts(), { PING: 2 });
  const later = (ms: number): Packet => ({ time_ns: 120 * SECOND + ms * 1e6 });
  bench.hear(asked(70, PING, later(0)), answered(14, PONG, later(1)));
  assert.deepEqual([bench.counts(), bench.books.db_place_found], [{ PING: 1 }, 1]);
  assert.equal(bench.books.db_place_lost, 1);
});

test('an older connection: nothing without a pause, or where answers do not fit', () => {
  const bench = new Bench();
  for (let i = 0; i < 20; i += 1) {
    const time_ns = 99 * SECOND + i * 10e6;
    bench.hear(asked(i * 14, PING, { time_ns }), answered(i * 7, PONG, { time_ns }));
  }
  // The first packet came right with the begin: it may belong to what went before.
  assert.deepEqual(bench.counts(), {});
  assert.equal(bench.books['db_packets place_unknown'], 40);
  const time_ns = 105 * SECOND;
  bench.hear(asked(280, PING, { time_ns }), answered(140, PONG + PONG, { time_ns: time_ns + 1 }));
  assert.deepEqual(bench.counts(), {});
  bench.hear(asked(294, 'GET / HTTP/1.1\r\n\r\n', { time_ns: 106 * SECOND }));
  assert.deepEqual(bench.counts(), {});
});

test('what came to the listening socket is the begin of its connection', () => {
  const serves = true;
  const bench = new Bench().hear(
    { flags: DB_BEGIN | DB_LISTENER, serves, tgid: 0, cookie: 1 },
    { flags: DB_LISTENER, text: PING.slice(0, 6), serves, tgid: 0, cookie: 1 },
    { text: PING.slice(6), seq: 6, serves },
    { flags: DB_SENT, text: PONG, serves },
  );
  assert.deepEqual([bench.counts(), bench.books], [{ PING: 1 }, {}]);
});

test('a server that speaks first is heard from its first byte on', () => {
  const at = { port: 3306, serves: true, time_ns: 99 * SECOND };
  const [hello, ok] = [mysqlPacket(0, `\n10.11\0${'\0'.repeat(30)}`), '\0\0\0\u0002\0\0\0'];
  const [begins, asks] = [login('app'), query('SELECT 1')];
  const sent = { ...at, flags: DB_SENT };
  const bench = new Bench().hear(
    { ...at, flags: DB_BEGIN | DB_LISTENER, tgid: 0, cookie: 1 },
    { ...sent, text: hello },
    { ...at, text: begins, ack: hello.length },
    { ...sent, text: mysqlPacket(2, ok), seq: hello.length },
    { ...at, text: asks, seq: begins.length, ack: hello.length + 11 },
    { ...sent, text: mysqlPacket(1, ok), seq: hello.length + 11 },
  );
  assert.deepEqual([bench.counts(), bench.books], [{ SELECT: 1 }, {}]);
});

test('a connection that ends: what nobody answered is counted without a time', () => {
  for (const end of [[DB_RESET], [DB_SENT | DB_END, DB_END]]) {
    const bench = new Bench().hear(BEGIN, asked(0, PING + PING), answered(0));
    bench.hear(...end.map((flags) => ({ flags, seq: 28 })));
    const [row] = bench.rows();
    assert.equal(row?.count, 2);
    assert.deepEqual(bench.decoder.held, { connections: 0, waiting: 0, chunks: 0, parked: 0 });
  }
});

test('at the end of the collector, what waits is accounted for', () => {
  const bench = new Bench().hear(BEGIN, asked(0, PING + PING), answered(0));
  bench.decoder.tick(NOW_MS, true);
  assert.deepEqual(bench.counts(), { PING: 1 });
  assert.equal(bench.books['db_commands open_at_end'], 1);
});

test('what waits, and how many connections there are, has limits', () => {
  const bench = new Bench().hear(BEGIN);
  for (let i = 0; i < 70; i += 1) bench.hear(asked(i * 14_000, PING.repeat(1000)));
  assert.ok(bench.decoder.held.waiting <= 65_536);
  assert.ok(bench.books['db_commands too_many_waiting']! > 65_000);
  for (let i = 0; i < 17_000; i += 1) bench.hear({ ...BEGIN, cookie: i + 10 });
  assert.equal(bench.decoder.held.connections, 16_384);
  for (let i = 0; i < 5000; i += 1) {
    const text = `*1\r\n$4\r\n${String(i).padStart(4, 'A')}\r\n`;
    bench.hear({ ...BEGIN, cookie: 99_999, flags: DB_SENT | (i === 0 ? DB_BEGIN : 0) });
    bench.hear(asked(i * 14, text, { cookie: 99_999 }), answered(i * 7, PONG, { cookie: 99_999 }));
  }
  const rows = bench.rows();
  assert.equal(rows.length, 512); // one of the names is that of no error, and one row is <other>
  assert.equal(
    rows.reduce((sum, { count }) => sum + Number(count), 0),
    5000,
  );
});

test(`any records: nothing is thrown, and memory stays bounded (seed ${SEED})`, () => {
  const any = fc.record({
    flags: fc.integer({ min: 0, max: 31 }),
    text: fc.oneof(fc.string({ unit: 'binary-ascii' }), fc.constantFrom(PING, PONG, '*2\r\n')),
    seq: fc.integer({ min: -40, max: 400 }),
    ack: fc.integer({ min: -40, max: 400 }),
    time_ns: fc.integer({ min: 0, max: 200 * SECOND }),
    cookie: fc.integer({ min: 0, max: 3 }),
    serves: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(any, { maxLength: 60 }), (packets) => {
      const bench = new Bench().hear(...packets);
      bench.now_ns = 300 * SECOND;
      bench.counts();
      assert.ok(bench.decoder.held.connections <= 4);
      assert.equal(bench.decoder.held.chunks, 0);
    }),
    { seed: SEED, numRuns: 1000 },
  );
  const bench = new Bench();
  const bytes = packet({ text: PING, captured: 4000 });
  bench.decoder.over(bytes);
  assert.equal(bench.decoder.decode(0, bytes.length, NOW_MS), false);
  assert.equal(bench.decoder.decode(0, db_record.SIZE - 1, NOW_MS), false);
});

test('bytes within a large value may be missing, told by their length or not', () => {
  const [head, value] = ['*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000\r\n', 'v'.repeat(5000)];
  const set = `${head}${value}\r\n`;
  const got = `$5000\r\n${value}\r\n`;
  const told = new Bench().hear(
    BEGIN,
    asked(0, set, { captured: 100 }),
    answered(0),
    asked(set.length, PING),
    answered(7, got.slice(0, 4000), { captured: 64 }),
  );
  assert.deepEqual(told.counts(), { SET: 1 });
  told.hear(answered(4007, got.slice(4000) + PONG, { captured: 0 }));
  assert.deepEqual(told.counts(), {});
  assert.equal(told.books.db_place_lost, 1, 'the hole goes beyond the value');
  const untold = new Bench().hear(
    BEGIN,
    asked(0, set.slice(0, 100)),
    asked(4000, set.slice(4000) + PING),
  );
  untold.hear(answered(0, PONG + PONG));
  assert.deepEqual(untold.counts(), { SET: 1, PING: 1 });
  assert.deepEqual(untold.books, { db_bytes_passed_over: 3900 });
});

test('a value whose last bytes are missing is whole, and the next command follows it', () => {
  const got = `$5000\r\n${'v'.repeat(5000)}\r\n`;
  const bench = new Bench().hear(
    BEGIN,
    asked(0, '*2\r\n$3\r\nGET\r\n$1\r\nk\r\n'),
    answered(0, got, { captured: 64, time_ns: 100 * SECOND + 9 }),
    asked(20, PING),
    answered(got.length, PONG),
  );
  const [row] = bench.rows();
  assert.deepEqual([row?.bytes_read, row?.count], [got.length, 1]);
  assert.deepEqual(bench.books, { db_bytes_passed_over: got.length - 64 });
});
