// Connections of Node's HTTP/2, relayed and kept: the requests that are read from their bytes are those that the server
// answered, exactly; however the bytes are cut, and wherever they are joined.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { ask, h2Server, type Piece, portOf, relayTo, type Truth } from '../../test/traffic/h2.ts';
import { grpcName, Http2Connection, type Http2Exchange, type Http2Options } from './connection.ts';
import { FRAME_HEAD, FrameReader, PREFACE, startsWithFrames } from './frames.ts';

const SEED = { seed: 20260730, numRuns: 300 };

interface Read {
  readonly exchanges: Http2Exchange[];
  readonly connection: Http2Connection;
}

function read(pieces: readonly Piece[], options: Partial<Http2Options> = {}): Read {
  const exchanges: Http2Exchange[] = [];
  const sink = { exchange: (one: Http2Exchange) => exchanges.push(one) };
  const connection = new Http2Connection(sink, { joined: false, ...options });
  let now = 1000;
  for (const { side, bytes } of pieces) {
    now += 1;
    connection.feed(side, bytes, now);
  }
  connection.close(now + 1);
  return { exchanges, connection };
}

const truthOf = (one: Http2Exchange): Truth => ({
  method: one.method ?? '?',
  path: one.path ?? '?',
  status: one.status ?? -1,
  request_bytes: one.request_bytes,
  response_bytes: one.response_bytes,
  grpc_status: one.grpc_status,
});

const byPath = (rows: readonly Truth[]): Truth[] =>
  [...rows].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

/** Requests of all kinds over one connection, many at once. */
async function traffic(
  t: TestContext,
  server_options: http2.ServerOptions = {},
  client_options: http2.ClientSessionOptions = {},
): Promise<{ truths: Truth[]; pieces: readonly Piece[] }> {
  const truths: Truth[] = [];
  const server = await h2Server(truths, server_options);
  const relay = await relayTo(portOf(server));
  t.after(async () => {
    await relay.close();
    server.close();
  });
  const session = http2.connect(`http://127.0.0.1:${relay.port}`, client_options);
  const kinds = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD'];
  const round = async (n: number): Promise<void> => {
    const asked = Array.from({ length: 20 }, (_, i) => {
      const method = kinds[(i + n) % kinds.length]!;
      const body = method === 'POST' || method === 'PUT' ? Buffer.alloc(1000 * i, 'q') : undefined;
      const status = [200, 201, 204, 404, 500][i % 5]!;
      const bytes = status === 204 ? 0 : i % 7 === 0 ? 70_000 : 100 + i;
      const kind = i % 6 === 1 ? 'early' : 's';
      return ask(session, method, `/${kind}/${status}/${bytes}/${n}-${i}`, body, {
        'x-round': `${n}`,
      });
    });
    const calls = [0, 5, 13].map((code) =>
      ask(session, 'POST', `/shop.v1.Cart/Add${n}?${code}`, Buffer.alloc(9), {
        'content-type': 'application/grpc',
        te: 'trailers',
      }),
    );
    await Promise.all([...asked, ...calls]);
  };
  for (let n = 0; n < 6; n += 1) await round(n);
  session.close();
  await once(session, 'close');
  return { truths, pieces: relay.pieces[0]! };
}

function cutUp(pieces: readonly Piece[], size: number): Piece[] {
  return pieces.flatMap(({ side, bytes }) =>
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => ({
      side,
      bytes: bytes.subarray(i * size, (i + 1) * size),
    })),
  );
}

test('requests of every kind, over one connection', async (t) => {
  const { truths, pieces } = await traffic(t);
  const { exchanges, connection } = read(pieces);
  assert.equal(truths.length, 6 * 23);
  assert.deepEqual(byPath(exchanges.map(truthOf)), byPath(truths));
  const none = { unknown_fields: 0, bad_blocks: 0, lost: 0, evicted: 0, partial: 0, pushed: 0 };
  assert.deepEqual(connection.counts, none);
  for (const one of exchanges) {
    assert.equal(one.end, 'complete');
    assert.ok(!one.missed && one.request_seen);
    assert.equal(one.informational, one.path?.startsWith('/early/') ? 1 : 0);
    assert.equal(one.grpc, one.path?.startsWith('/shop') ?? false);
    assert.ok(one.start_ns < one.first_byte_ns && one.first_byte_ns <= one.end_ns);
  }
});

test('the same, however the bytes are cut, and without knowing the client', async (t) => {
  const { truths, pieces } = await traffic(t);
  for (const size of [1, 9, 100, 16_393]) {
    const { exchanges } = read(cutUp(pieces, size), { client: size % 2 === 0 ? 0 : undefined });
    assert.deepEqual(byPath(exchanges.map(truthOf)), byPath(truths), `pieces of ${size}`);
  }
});

const PAD = http2.constants.PADDING_STRATEGY_MAX;
const TABLES: readonly (readonly [string, http2.ServerOptions, http2.ClientSessionOptions])[] = [
  ['padding', { paddingStrategy: PAD }, { paddingStrategy: PAD }],
  ['no table', { settings: { headerTableSize: 0 } }, { settings: { headerTableSize: 0 } }],
  [
    'large tables',
    { settings: { headerTableSize: 65_536 } },
    { settings: { headerTableSize: 65_536 } },
  ],
  [
    'large frames',
    { settings: { maxFrameSize: 1 << 20 } },
    { settings: { maxFrameSize: 1 << 20 } },
  ],
];

for (const [name, server, client] of TABLES) {
  test(`the same, with ${name}`, async (t) => {
    const { truths, pieces } = await traffic(t, server, client);
    const { exchanges } = read(pieces);
    assert.deepEqual(byPath(exchanges.map(truthOf)), byPath(truths));
  });
}

test('heads larger than a frame are continued', async (t) => {
  const truths: Truth[] = [];
  const server = await h2Server(truths, { settings: { maxHeaderListSize: 1 << 20 } });
  const relay = await relayTo(portOf(server));
  t.after(async () => {
    await relay.close();
    server.close();
  });
  const session = http2.connect(`http://127.0.0.1:${relay.port}`, {
    maxSendHeaderBlockLength: 1 << 20,
  });
  const large = Object.fromEntries(
    Array.from({ length: 12 }, (_, i) => [`x-${i}`, 'ä~'.repeat(900)]),
  );
  await ask(session, 'GET', '/s/200/5/large', undefined, large);
  await ask(session, 'GET', '/s/200/6/small', undefined);
  session.close();
  await once(session, 'close');
  const { exchanges } = read(relay.pieces[0]!);
  assert.deepEqual(byPath(exchanges.map(truthOf)), byPath(truths));
});

test('a pushed response, a reset by either side, and a connection that breaks', async (t) => {
  const server = http2.createServer();
  server.on('stream', (stream, headers) => {
    stream.on('error', () => stream.destroy());
    const path = headers[':path'];
    if (path === '/push') {
      stream.pushStream({ ':path': '/pushed' }, (_, push) => {
        push.respond({ ':status': 200 });
        push.end('12345');
        stream.respond({ ':status': 200 });
        stream.end('ok');
      });
    } else if (path === '/refused') stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    else if (path === '/given-up') {
      stream.respond({ ':status': 206 });
      stream.write('some');
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const relay = await relayTo(portOf(server));
  t.after(async () => {
    await relay.close();
    server.close();
  });
  const session = http2.connect(`http://127.0.0.1:${relay.port}`);
  session.on('error', () => session.destroy());
  const pushed = once(session, 'stream').then(([stream]) => once(stream.resume(), 'end'));
  await ask(session, 'GET', '/push', undefined);
  await pushed;
  await ask(session, 'GET', '/refused', undefined).catch((error: Error) => error);
  const given_up = session.request({ ':path': '/given-up' });
  given_up.on('error', () => given_up.destroy());
  await once(given_up, 'data');
  given_up.close(http2.constants.NGHTTP2_CANCEL);
  await once(given_up, 'close');
  const open = session.request({ ':path': '/open' });
  open.on('error', () => open.destroy());
  await ask(session, 'GET', '/push', undefined);
  session.destroy();
  const { exchanges, connection } = read(relay.pieces[0]!);
  const rows = exchanges.map(({ path, pushed: by_push, status, end, reset_by, reset_code }) =>
    [path, by_push, status, end, reset_by, reset_code].join(' '),
  );
  assert.deepEqual(rows.sort(), [
    '/given-up false 206 reset client 8',
    '/open false 0 closed  0',
    '/push false 200 complete  0',
    '/push false 200 complete  0',
    '/pushed true 200 complete  0',
    '/pushed true 200 complete  0',
    '/refused false 0 reset server 11',
  ]);
  assert.equal(connection.counts.pushed, 2);
});

test('joined at any piece: nothing is told that is not so', async (t) => {
  const { truths, pieces } = await traffic(t);
  const whole = new Map(read(pieces).exchanges.map((one) => [one.stream, one]));
  let told = 0;
  let unknown = 0;
  for (let from = 1; from < pieces.length; from += 3) {
    const { exchanges } = read(pieces.slice(from), { joined: true, client: 0 });
    assert.ok(exchanges.length <= truths.length);
    const streams = new Set(exchanges.map(({ stream }) => stream));
    assert.equal(streams.size, exchanges.length, 'each stream once');
    for (const one of exchanges) {
      const truth = whole.get(one.stream)!;
      for (const name of ['method', 'path', 'status', 'grpc_status'] as const) {
        if (one[name] === undefined) {
          unknown += truth[name] === undefined ? 0 : 1;
          continue;
        }
        assert.equal(one[name], truth[name], `${name} of stream ${one.stream} from ${from}`);
        told += 1;
      }
    }
  }
  assert.ok(told > 1000 && unknown > 10, `${told} told, ${unknown} unknown`);
  t.diagnostic(`${told} values told, ${unknown} unknown, none wrong`);
});

test('a piece missed in the middle: nothing is told that is not so', async (t) => {
  const { pieces } = await traffic(t);
  const whole = new Map(read(pieces).exchanges.map((one) => [one.stream, one]));
  for (let miss = 2; miss < pieces.length; miss += 5) {
    const exchanges: Http2Exchange[] = [];
    const sink = { exchange: (one: Http2Exchange) => exchanges.push(one) };
    const connection = new Http2Connection(sink, { joined: false, client: 0 });
    for (const [n, { side, bytes }] of pieces.entries()) {
      if (n === miss) connection.gap(side);
      else connection.feed(side, bytes, n + 1);
    }
    connection.close(pieces.length + 1);
    assert.equal(connection.counts.lost, 1);
    const streams = new Set(exchanges.map(({ stream }) => stream));
    assert.equal(streams.size, exchanges.length, 'each stream once');
    for (const one of exchanges) {
      const truth = whole.get(one.stream);
      assert.ok(truth !== undefined);
      assert.ok(one.path === undefined || one.path === truth.path);
      assert.ok(one.method === undefined || one.method === truth.method);
      const reset = one.status === 0 || one.status === undefined;
      assert.ok(reset || one.status === truth.status, `${miss}: ${one.status} ${truth.status}`);
      assert.ok(one.response_bytes <= truth.response_bytes);
    }
  }
});

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(FRAME_HEAD);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

test('hostile frames: no throw, bounded memory, every stream accounted for', () => {
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .constantFrom('828684', '88', '8264', '4001610131', '80', '3fe1ff0388')
      .map((hex) => Buffer.from(hex, 'hex')),
  );
  const any = fc
    .tuple(fc.nat(10), fc.nat(255), fc.nat(30), payload)
    .map(([type, flags, stream, bytes]) => frame(type, flags, stream, bytes));
  const sane = fc
    .tuple(fc.constantFrom(0, 1), fc.constantFrom(4, 5), fc.nat(40), payload)
    .map(([type, flags, stream, bytes]) => frame(type, flags, stream, bytes));
  const piece = fc.record({
    side: fc.constantFrom<0 | 1>(0, 1),
    bytes: fc.oneof(any, sane, sane, fc.uint8Array({ maxLength: 50 })),
  });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), fc.boolean(), (pieces, joined) => {
      const budget = { open: 0, max: 6 };
      let over = 0;
      const sink = { exchange: () => (over += 1) };
      const connection = new Http2Connection(sink, { joined, client: 0, streams_max: 4, budget });
      for (const { side, bytes } of pieces) {
        connection.feed(side, bytes, 1);
        assert.ok(connection.open <= 4 && budget.open === connection.open);
      }
      connection.close(2);
      assert.equal(budget.open, 0);
    }),
    { ...SEED, numRuns: 3000 },
  );
});

test('frames that no peer sends, by what is wrong with them', () => {
  const wrong: readonly (readonly [string, Buffer])[] = [
    ['DATA on stream 0', frame(0, 0, 0, Buffer.alloc(1))],
    ['HEADERS on stream 0', frame(1, 4, 0, Buffer.alloc(1))],
    ['PRIORITY of 4 bytes', frame(2, 0, 1, Buffer.alloc(4))],
    ['RST_STREAM of 3 bytes', frame(3, 0, 1, Buffer.alloc(3))],
    ['SETTINGS of 5 bytes', frame(4, 0, 0, Buffer.alloc(5))],
    ['SETTINGS on a stream', frame(4, 0, 1, Buffer.alloc(6))],
    ['an ACK with settings', frame(4, 1, 0, Buffer.alloc(6))],
    ['PING of 7 bytes', frame(6, 0, 0, Buffer.alloc(7))],
    ['GOAWAY of 7 bytes', frame(7, 0, 0, Buffer.alloc(7))],
    ['WINDOW_UPDATE of 3 bytes', frame(8, 0, 0, Buffer.alloc(3))],
    ['CONTINUATION of nothing', frame(9, 4, 1, Buffer.alloc(1))],
    ['padding without a payload', frame(0, 8, 1, Buffer.alloc(0))],
    ['more padding than payload', frame(0, 8, 1, Buffer.from([2, 0]))],
    ['more padding than a head', frame(1, 12, 1, Buffer.from([2, 0]))],
    ['a block broken off', Buffer.concat([frame(1, 0, 1, PREFACE), frame(0, 0, 1, PREFACE)])],
    [
      'a block that goes on elsewhere',
      Buffer.concat([frame(1, 0, 1, PREFACE), frame(9, 4, 3, PREFACE)]),
    ],
    ['no preface', Buffer.from('PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n')],
  ];
  for (const [name, bytes] of wrong) {
    const seen: string[] = [];
    const note = (what: string) => () => void seen.push(what);
    const reader = new FrameReader(
      {
        headers: note('headers'),
        promise: note('promise'),
        data: note('data'),
        reset: note('reset'),
        lost: note('lost'),
      },
      'start',
    );
    reader.feed(bytes);
    assert.equal(reader.state, 'lost', name);
    assert.deepEqual(seen, ['lost'], name);
  }
});

test('what is taken for frames: no binary, no text, no other protocol', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 400 }), (bytes) => {
      assert.ok(!startsWithFrames(bytes));
    }),
    { ...SEED, numRuns: 20_000 },
  );
  for (const text of [
    'GET / HTTP/1.1\r\n\r\n',
    'HTTP/1.1 200 OK\r\n\r\n',
    '*1\r\n$4\r\nPING\r\n',
    '',
  ]) {
    assert.ok(!startsWithFrames(Buffer.from(text)), text);
  }
  assert.ok(startsWithFrames(frame(4, 0, 0, Buffer.alloc(0))));
  assert.ok(!startsWithFrames(frame(4, 0, 0, Buffer.alloc(6)).subarray(0, 12)), 'one that is cut');
});

test('names of gRPC', () => {
  assert.deepEqual(grpcName('/shop.v1.Cart/Add'), { service: 'shop.v1.Cart', method: 'Add' });
  for (const path of ['/', '/a', '/a/b/c', '', undefined, 'a/b']) {
    assert.deepEqual(grpcName(path), { service: '', method: '' });
  }
});
