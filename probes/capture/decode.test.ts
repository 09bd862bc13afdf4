// Records → exchanges: what two ends say to each other, cut into segments in every way, and hostile records.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { isHistogramColumn } from '../../src/table/columns.ts';
import type { TableDefinition } from '../../src/table/definition.ts';
import { DomainCache } from '../../src/table/domains.ts';
import { Fold } from '../../src/table/fold.ts';
import type { LineOutlet } from '../../src/table/outlet.ts';
import type { DecodeContext, Owner } from '../../src/table/probe.ts';
import { probeOptions } from '../../src/table/testing.ts';
import {
  capture_chunk,
  capture_count,
  capture_flag,
  capture_record,
  flow_role,
  record_kind,
} from '../layout.gen.ts';
import { CAPTURE_DEFAULTS, CaptureDecoder } from './decode.ts';
import { captureStats } from './stats.ts';
import { bodyOf, type Captured } from './testing.ts';

const SEED = { seed: 20_261_126, numRuns: 200 };
const OWNER: Owner = {
  process_name: 'shop',
  process_executable_path: '/usr/bin/shop',
  cgroup_path: '/shop',
  container_id: '',
};
const NOW = 1_700_000_000_000;

type Side = 0 | 1;

/** A decoder, and what comes out of it. */
class Bench {
  readonly lines: Captured[] = [];
  readonly folds = new Map<TableDefinition, Fold>();
  readonly booked: string[] = [];
  readonly decoder: CaptureDecoder;
  readonly cookie: number;
  readonly seq: [number, number] = [0xfffffff0, 100]; // the requests' numbers wrap
  time_ns = 1e12;

  constructor(cookie = 77, options: Partial<typeof CAPTURE_DEFAULTS> = {}) {
    this.cookie = cookie;
    const outlet: LineOutlet = {
      send: (line) => {
        this.lines.push(JSON.parse(line));
        return true;
      },
      counts: { seen: 0, sent: 0, dropped: {}, waiting: 0 },
    };
    const context: DecodeContext = {
      fold: (table) => {
        const fold = this.folds.get(table) ?? new Fold(table);
        this.folds.set(table, fold);
        return fold;
      },
      owner: () => OWNER,
      options: { ...probeOptions, capture: { ...CAPTURE_DEFAULTS, ...options } },
      domains: new DomainCache(),
      note: () => undefined,
      dropped: (what, reason, count) => {
        if (count > 0) this.booked.push(`${what} ${reason} ${count}`);
      },
      outlet,
    };
    this.decoder = new CaptureDecoder(context);
  }

  put(bytes: Uint8Array): boolean {
    this.decoder.over(bytes);
    return this.decoder.decode(0, bytes.length, NOW);
  }

  control(
    flags: number,
    side: Side,
    seq: number,
    more: { ack?: number; length?: number } = {},
  ): void {
    const bytes = new Uint8Array(capture_record.SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint32(capture_record.head_kind, record_kind.RECORD_CAPTURE, true);
    view.setUint32(capture_record.head_flags, flags, true);
    view.setBigUint64(capture_record.cookie, BigInt(this.cookie), true);
    this.time_ns += 1000;
    view.setBigUint64(capture_record.time_ns, BigInt(this.time_ns), true);
    view.setUint32(capture_record.owner_tgid, 4711, true);
    view.setUint32(capture_record.seq, seq, true);
    view.setUint32(capture_record.ack_seq, more.ack ?? 0, true);
    view.setUint32(capture_record.length, more.length ?? 0, true);
    view.setUint16(capture_record.local_port, 8080, true);
    view.setUint16(capture_record.peer_port, 50_000, true);
    view.setUint8(capture_record.family, 2);
    bytes.set([10, 1, 2, 3], capture_record.local_addr);
    bytes.set([10, 4, 5, 6], capture_record.peer_addr);
    view.setUint8(capture_record.role, flow_role.ROLE_INCOMING);
    view.setUint8(capture_record.side, side);
    assert.ok(this.put(bytes));
  }

  open(flags = 0): this {
    this.control(capture_flag.CAPTURE_OPEN | flags, 0, this.seq[0], { ack: this.seq[1] });
    return this;
  }

  chunk(side: Side, seq: number, data: Uint8Array): void {
    const bytes = new Uint8Array(capture_chunk.SIZE + data.length + 5); // and room of its class
    const view = new DataView(bytes.buffer);
    view.setUint32(capture_chunk.head_kind, record_kind.RECORD_CAPTURE, true);
    const flags = capture_flag.CAPTURE_DATA | (side === 0 ? 0 : capture_flag.CAPTURE_RESPONSE);
    view.setUint32(capture_chunk.head_flags, flags, true);
    view.setBigUint64(capture_chunk.cookie, BigInt(this.cookie), true);
    this.time_ns += 1000;
    view.setBigUint64(capture_chunk.time_ns, BigInt(this.time_ns), true);
    view.setUint32(capture_chunk.seq, seq, true);
    view.setUint32(capture_chunk.length, data.length, true);
    bytes.set(data, capture_chunk.SIZE);
    assert.ok(this.put(bytes));
  }

  /** The next bytes of a side; `lost`: they do not come. */
  say(side: Side, text: string, lost = false): this {
    const data = Buffer.from(text, 'latin1');
    if (!lost) this.chunk(side, this.seq[side], data);
    this.seq[side] = (this.seq[side] + data.length) >>> 0;
    return this;
  }

  end(side: Side): this {
    this.control(capture_flag.CAPTURE_END, side, this.seq[side]);
    return this;
  }

  /** Each exchange in short: what was asked, what came, whether all of it. */
  get short(): readonly string[] {
    return this.lines.map(({ request, response, complete }) => {
      const asked = `${request.method} ${request.target} ${bodyOf(request).toString('latin1')}`;
      const got = response === null ? 'nothing' : `${response.status} ${bodyOf(response)}`;
      return `${asked} > ${got}${complete ? '' : ' incomplete'}`;
    });
  }
}

const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: h\r\n\r\n`;
const OK = (body: string): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

test('one exchange, whole, with who and when', () => {
  const bench = new Bench().open().say(0, GET('/a')).say(1, OK('hello'));
  const [line] = bench.lines;
  assert.deepEqual(bench.short, ['GET /a  > 200 hello']);
  assert.deepEqual(
    { ...line, request: 0, response: 0, time: 0, duration_us: 0 },
    {
      ...{ time: 0, duration_us: 0, mode: 'ingress', complete: true, connection: '77', netns: 0 },
      client: { address: '10.4.5.6', port: 50_000 },
      server: { address: '10.1.2.3', port: 8080 },
      process: {
        ...{ pid: 4711, name: 'shop', executable_path: '/usr/bin/shop' },
        ...{ cgroup_path: '/shop', container_id: '' },
      },
      ...{ request: 0, response: 0 },
    },
  );
});

test('messages of every kind on one connection', () => {
  const bench = new Bench().open();
  bench.say(0, GET('/1') + GET('/2')); // pipelined
  bench.say(1, OK('one') + OK('two'));
  bench
    .say(0, 'HEAD /3 HTTP/1.1\r\nHost: h\r\n\r\n')
    .say(1, 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n');
  bench.say(0, 'POST /4 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n');
  bench.say(1, 'HTTP/1.1 100 Continue\r\n\r\n').say(0, 'body').say(1, OK('four'));
  bench.say(
    0,
    'POST /5 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n3;x=y\r\nefg\r\n0\r\n\r\n',
  );
  bench.say(1, 'HTTP/1.1 204 No Content\r\n\r\n');
  bench.say(0, 'POST /6 HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc');
  bench.say(1, 'HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n').say(0, 'def'); // early
  bench.say(0, GET('/7')).say(1, 'HTTP/1.1 200 OK\r\n\r\nuntil the end').end(1).end(0);
  assert.deepEqual(bench.short, [
    'GET /1  > 200 one',
    'GET /2  > 200 two',
    'HEAD /3  > 200 ',
    'POST /4 body > 200 four',
    'POST /5 abcdefg > 204 ',
    'POST /6 abcdef > 413 ',
    'GET /7  > 200 until the end',
  ]);
});

test('trailers of both sides are in the line, redacted', () => {
  const bench = new Bench().open();
  const chunked = 'Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n';
  bench.say(0, `POST /1 HTTP/1.1\r\n${chunked}Authorization: hidden\r\nX-Sum: 7\r\n\r\n`);
  bench.say(1, `HTTP/1.1 200 OK\r\n${chunked}Server-Timing: a\r\n\r\n`);
  bench.say(0, GET('/2')).say(1, OK('two'));
  assert.deepEqual(
    bench.lines.map(({ request, response }) => [request.trailers, response?.trailers]),
    [
      [
        [
          ['Authorization', '<redacted>'],
          ['X-Sum', '7'],
        ],
        [['Server-Timing', 'a']],
      ],
      [undefined, undefined],
    ],
  );
});

test('an upgraded connection is read no further, and HTTP/2 not at all', () => {
  const bench = new Bench().open();
  bench.say(0, GET('/ws')).say(1, 'HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n');
  bench.say(0, GET('/not')).say(1, OK('no'));
  assert.deepEqual(bench.short, ['GET /ws  > 101 ']);
  const two = new Bench().open().say(0, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n').say(1, '\0\0\0');
  assert.deepEqual([two.lines, two.decoder.totals().request_errors], [[], 0]);
});

test('lost pieces: the message says so, the next is whole', () => {
  const bench = new Bench().open();
  const long = 'x'.repeat(50);
  bench.say(0, GET('/1')).say(1, 'HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n0123456789');
  bench.say(1, long.slice(0, 20), true).say(1, long.slice(20));
  bench.say(0, GET('/2')).say(1, OK('lost'), true);
  bench.say(0, GET('/3')).say(1, OK('three')).end(0).end(1);
  assert.equal(bench.lines.length, 0); // they may still come
  bench.decoder.tick(NOW + 10_000);
  assert.deepEqual(bench.short, [
    'GET /1  > 200 0123456789 incomplete',
    'GET /2  > nothing incomplete',
    'GET /3  > 200 three',
  ]);
  assert.deepEqual(
    [bench.lines[0]?.response?.cut, bench.lines[0]?.response?.body_bytes],
    ['lost', 60],
  );
  const { exchanges_incomplete, bodies_cut } = bench.decoder.totals();
  assert.deepEqual([exchanges_incomplete, bodies_cut], [2, 1]);
});

test('beyond the limit of the kernel', () => {
  const bench = new Bench().open().say(0, 'POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc');
  bench.control(capture_flag.CAPTURE_BEYOND, 0, bench.seq[0], { length: 997 });
  bench.seq[0] += 997;
  bench.say(1, OK('x'));
  assert.deepEqual(bench.short, ['POST / abc > 200 x incomplete']);
  const { body_bytes, cut } = bench.lines[0]!.request;
  assert.deepEqual([body_bytes, cut], [1000, 'limit']);
});

test('selected by the port alone: only once the owner is known', () => {
  const bench = new Bench().open(capture_flag.CAPTURE_PROVISIONAL).say(0, GET('/1')).say(1, OK(''));
  assert.equal(bench.lines.length, 0);
  bench.control(capture_flag.CAPTURE_OWNER, 1, bench.seq[1]);
  bench.say(0, GET('/2')).say(1, OK(''));
  assert.deepEqual(bench.short, ['GET /2  > 200 ']);
  bench.decoder.tick(NOW);
  assert.deepEqual(bench.booked, ['capture_exchanges owner_unknown 1']);
});

test('a first request that came to the listening socket', () => {
  const bench = new Bench();
  const { seq } = bench;
  const early = new Bench(2 ** 52 + 5);
  Object.assign(early, { decoder: bench.decoder }); // the same collector, the made-up cookie
  early.control(capture_flag.CAPTURE_LISTENER, 0, seq[0]);
  early.chunk(0, seq[0], Buffer.from(GET('/early')));
  seq[0] = (seq[0] + GET('/early').length) >>> 0;
  bench.open().say(1, OK('late'));
  assert.deepEqual(bench.short, ['GET /early  > 200 late']);
});

test('a thousand unanswered requests on one connection', () => {
  const bench = new Bench().open();
  for (let i = 0; i < 1000; i += 1) bench.say(0, GET(`/${i}`));
  bench.say(1, OK('which?')).end(0).end(1);
  assert.deepEqual(bench.lines, []);
});

test('cut into segments in any way, the exchanges are the same', () => {
  const requests = `${GET('/1')}POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n`;
  const answers = `${OK('one')}HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n`;
  const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 200, maxLength: 200 });
  fc.assert(
    fc.property(sizes, (list) => {
      const bench = new Bench().open();
      let n = 0;
      for (const [side, text] of [
        [0, requests],
        [1, answers],
      ] as const) {
        for (let at = 0; at < text.length; ) {
          const size = list[n % list.length]!;
          n += 1;
          bench.say(side, text.slice(at, at + size));
          at += size;
        }
      }
      assert.deepEqual(bench.short, ['GET /1  > 200 one', 'POST /2 abcde > 201 two']);
    }),
    SEED,
  );
});

test('hostile records and bytes: never a throw, and all that waits is within its limits', () => {
  const act = fc.record({
    kind: fc.nat(9),
    side: fc.constantFrom<Side>(0, 1),
    jump: fc.integer({ min: -200, max: 200 }),
    cookie: fc.nat(3),
    words: fc.array(
      fc.constantFrom(
        'GET / HTTP/1.1\r\n',
        'HTTP/1.1 200 OK\r\n',
        '\r\n',
        'a: b\r\n',
        '\0',
        '5\r\n',
        'Content-Length: 9\r\n',
        'Transfer-Encoding: chunked\r\n',
        'ffffffffff\r\n',
        'xyz',
      ),
      { maxLength: 8 },
    ),
    bytes: fc.uint8Array({ maxLength: 150 }),
  });
  fc.assert(
    fc.property(fc.array(act, { maxLength: 80 }), (acts) => {
      const benches = [1, 2, 3, 4].map((cookie) => new Bench(cookie));
      const [{ decoder }] = benches as [Bench];
      for (const one of benches) Object.assign(one, { decoder });
      for (const { kind, side, jump, cookie, words, bytes } of acts) {
        const bench = benches[cookie]!;
        const seq = (bench.seq[side] + jump) >>> 0;
        if (kind === 0) bench.open();
        else if (kind === 1) bench.control(capture_flag.CAPTURE_END, side, seq);
        else if (kind === 2) bench.control(capture_flag.CAPTURE_RESET | 2, side, seq);
        else if (kind === 3) bench.control(capture_flag.CAPTURE_BEYOND, side, seq, { length: 99 });
        else if (kind === 4) bench.put(bytes);
        else if (kind === 5) decoder.tick(NOW + 1e6);
        else if (kind === 6) bench.chunk(side, seq, bytes);
        else bench.say(side, words.join(''));
      }
      decoder.tick(NOW + 1e9);
      decoder.tick(NOW + 2e9);
      assert.deepEqual(decoder.held, { connections: 0, chunks: 0, bytes: 0, bodies: 0 });
    }),
    SEED,
  );
});

test('what the kernel counted for a predecessor is not told again', () => {
  const lostOf = (bench: Bench) => {
    const { measures } = captureStats;
    const at = measures.findIndex(({ name }) => name === 'events_lost');
    const column = bench.folds.get(captureStats)!.close(NOW)!.measures[at]!;
    assert.ok(!isHistogramColumn(column));
    return column.values[0];
  };
  const counts = (lost: number) => {
    const all = new Array<number>(capture_count.CAPTURE_COUNT_MAX).fill(0);
    all[capture_count.CAPTURE_LOST] = lost;
    return all;
  };
  const bench = new Bench();
  bench.decoder.beginAt(counts(40));
  bench.decoder.kernelCounts(counts(42));
  bench.decoder.tick(NOW);
  assert.equal(lostOf(bench), 2);
});
