// A stranger at the port changes numbers and nothing else: after each attack a collector's batch still gets through.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { tableFromArrays, tableToIPC } from 'apache-arrow';
import { type FlightData, flight_data } from './flight.ts';
import { splitStream } from './ipc.ts';
import { encodeMetadata } from './metadata.ts';
import { FlightServer, type ServerOptions } from './server.ts';
import type { Refusal } from './stats.ts';

const EMPTY = new Uint8Array(0);
const PUT = '/arrow.flight.protocol.FlightService/DoPut';
const LIST = '/arrow.flight.protocol.FlightService/ListFlights';
const limits = {
  first_bytes_ms: 150,
  first_message_ms: 200,
  stream_idle_ms: 250,
  idle_ms: 200,
  message_bytes_max: 65536,
  batch_bytes_max: 100_000,
  tables_max: 3,
  connections_max: 8,
  streams_max: 4,
  streams_per_connection_max: 100,
};

interface Rig {
  readonly server: FlightServer;
  readonly lines: string[];
  readonly stored: string[];
}

async function rig(t: TestContext, options: Partial<ServerOptions> = {}): Promise<Rig> {
  const lines: string[] = [];
  const stored: string[] = [];
  const server = await FlightServer.listen(
    { host: '127.0.0.1', port: 0, limits, log: (line) => lines.push(line), ...options },
    {
      put: async (_sender, batch) => {
        stored.push(batch.table);
        return { ok: true };
      },
    },
  );
  t.after(() => server.close());
  return { server, lines, stored };
}

function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

const arrow = splitStream(tableToIPC(tableFromArrays({ n: Int32Array.of(1, 2) }), 'stream'));
assert.ok(arrow.ok);
const { schema, messages } = arrow.value;

function schemaOf(table: string, about?: Uint8Array): FlightData {
  const descriptor = { path: [table], command: EMPTY };
  return { descriptor, data_header: schema, app_metadata: about ?? EMPTY, data_body: EMPTY };
}

const record: FlightData = { descriptor: undefined, app_metadata: EMPTY, ...messages[0] };
const good = [schemaOf('t'), record];
const encode = (parts: readonly FlightData[]) =>
  Buffer.concat(parts.map((part) => framed(flight_data.encode(part))));

interface Answer {
  status: number | undefined;
  details: string;
  bytes: number;
}

/** One gRPC call over bare HTTP/2, so that the bytes can be wrong. `end: false` leaves the stream open. */
async function call(
  port: number,
  body: Buffer,
  options: { path?: string; headers?: Record<string, string>; end?: boolean } = {},
): Promise<Answer> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  const stream = session.request({
    ':method': 'POST',
    ':path': options.path ?? PUT,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...options.headers,
  });
  const answer: Answer = { status: undefined, details: '', bytes: 0 };
  const read = (headers: Record<string, unknown>) => {
    if (headers['grpc-status'] === undefined) return;
    answer.status = Number(headers['grpc-status']);
    answer.details = decodeURI(String(headers['grpc-message'] ?? ''));
  };
  stream.on('response', read);
  stream.on('trailers', read);
  stream.on('data', (chunk: Buffer) => {
    answer.bytes += chunk.length;
  });
  stream.on('error', () => undefined);
  stream.write(body);
  if (options.end !== false) stream.end();
  await Promise.race([closed(stream), closed(session)]);
  session.destroy();
  return answer;
}

/** `once` of node:events would take a reset for a failure of the test. */
function closed(one: NodeJS.EventEmitter): Promise<void> {
  return new Promise((resolve) => {
    one.once('close', resolve);
    one.once('end', resolve);
  });
}

/** Sends bytes and resolves when the server has closed the connection. */
async function raw(port: number, bytes: Buffer): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write(bytes);
  socket.resume();
  await closed(socket);
}

async function stillWorks({ server, stored }: Rig, options: Parameters<typeof call>[2] = {}) {
  const before = stored.length;
  const answer = await call(server.port, encode(good), options);
  assert.equal(answer.status, 0, answer.details);
  assert.equal(stored.length, before + 1);
}

function refusedOnly(server: FlightServer, expected: Partial<Record<Refusal, number>>): void {
  const seen = Object.entries(server.stats.refused).filter(([, count]) => count > 0);
  assert.deepEqual(Object.fromEntries(seen), expected);
}

test('bytes that are no HTTP/2 end the connection and are told apart', async (t) => {
  const one = await rig(t);
  await raw(one.server.port, Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'));
  await raw(one.server.port, Buffer.alloc(100_000, 0xa5));
  await raw(one.server.port, Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]));
  refusedOnly(one.server, { not_http2: 2, tls_to_plain: 1 });
  await stillWorks(one);
});

test('HTTP/2 that goes wrong after its first bytes is counted', async (t) => {
  const one = await rig(t);
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  await raw(one.server.port, Buffer.concat([preface, Buffer.alloc(300, 0xff)]));
  refusedOnly(one.server, { malformed: 1 });
  await stillWorks(one);
});

test('slow and silent peers are let go', async (t) => {
  const one = await rig(t);
  const { port } = one.server;
  // Silent; a dribble of the preface; a connection with no call.
  await raw(port, Buffer.alloc(0));
  await raw(port, Buffer.from('PRI * HT'));
  const idle = connectHttp2(`http://127.0.0.1:${port}`);
  await once(idle, 'close');
  refusedOnly(one.server, { timeout: 3 });
  // A call without a message; half a message; then silence between messages.
  const silent = await call(port, Buffer.alloc(0), { end: false });
  const list = await call(port, Buffer.alloc(0), { end: false, path: LIST });
  const half = await call(port, encode(good).subarray(0, 60), { end: false });
  const pause = await call(port, encode(good), { end: false });
  const DEADLINE = 4;
  for (const answer of [silent, list, half, pause]) assert.equal(answer.status, DEADLINE);
  refusedOnly(one.server, { timeout: 7 });
  assert.equal(one.server.stats.streams_open, 0);
  await stillWorks(one);
});

test('frames above the limit are refused before they are held', async (t) => {
  const one = await rig(t);
  const huge = Buffer.alloc(5);
  huge.writeUInt32BE(0xfffffff0, 1);
  const frame = await call(one.server.port, Buffer.concat([huge, Buffer.alloc(1000)]));
  assert.equal(frame.status, 8);
  const big = { ...record, data_body: new Uint8Array(60_000) };
  const dictionary = schemaOf('t', encodeMetadata({ ...about(1), messages: 9 }));
  const batch = await call(one.server.port, encode([dictionary, big, big]));
  assert.equal(batch.status, 8);
  refusedOnly(one.server, { too_large: 2 });
  await stillWorks(one);
});

const about = (seq: number) => ({ collector_id: 'c', host: 'h', seq, version: '0', messages: 1 });

test('gRPC frames with wrong contents are refused with a reason', async (t) => {
  const one = await rig(t);
  const { port } = one.server;
  const attempts: Record<string, Buffer> = {
    'not protobuf': framed(Buffer.alloc(40, 0xff)),
    'field past the end': framed(Buffer.from([0x12, 0x7f, 1, 2])),
    'not Arrow': encode([{ ...schemaOf('t'), data_header: Buffer.alloc(40, 7) }]),
    'batch before its schema': encode([record]),
    'no table': encode([{ ...schemaOf('t'), descriptor: undefined }, record]),
    'a name that is none': encode([schemaOf('a"; DROP TABLE b'), record]),
    'short body': encode([schemaOf('t'), { ...record, data_body: EMPTY }]),
  };
  for (const [name, body] of Object.entries(attempts)) {
    const answer = await call(port, body);
    assert.equal(answer.status, 3, `${name}: ${answer.details}`);
    assert.match(answer.details, /^malformed: /, name);
  }
  refusedOnly(one.server, { malformed: Object.keys(attempts).length });
  const tables = await call(port, encode(['a', 'b', 'c', 'd'].map((name) => schemaOf(name))));
  assert.match(tables.details, /^too_many_tables/);
  await stillWorks(one);
});

test('a frame that ends in the middle stores nothing', async (t) => {
  const one = await rig(t);
  const whole = encode(good);
  for (const length of [1, 4, 5, 30, whole.length - 1]) {
    await call(one.server.port, whole.subarray(0, length));
  }
  assert.deepEqual(one.stored, []);
  await stillWorks(one);
});

test('a wrong token is refused before any message is read', async (t) => {
  const one = await rig(t, { token: 'secret' });
  const { port } = one.server;
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  assert.equal((await call(port, encode(good))).status, 16);
  assert.equal((await call(port, encode(good), bearer('wrong'))).status, 16);
  assert.equal((await call(port, encode(good), bearer(''))).status, 16);
  const unary = { ...bearer('secret2'), path: LIST };
  assert.equal((await call(port, framed(EMPTY), unary)).status, 16);
  refusedOnly(one.server, { unauthenticated: 4 });
  assert.deepEqual(one.stored, []);
  await stillWorks(one, bearer('secret'));
  assert.equal(one.lines.length, 1, 'one line for a reason, not one for each refusal');
});

test('methods that are not offered and paths that are none answer UNIMPLEMENTED', async (t) => {
  const one = await rig(t);
  const service = '/arrow.flight.protocol.FlightService';
  for (const name of ['Handshake', 'DoExchange', 'PollFlightInfo', 'Nothing']) {
    const answer = await call(one.server.port, framed(EMPTY), { path: `${service}/${name}` });
    assert.equal(answer.status, 12, name);
  }
  // grpc-js answers an unknown path before it asks anybody.
  refusedOnly(one.server, { unimplemented: 3 });
});

test('connections and calls above the limit are turned away, and room comes back', async (t) => {
  const one = await rig(t, { limits: { ...limits, first_bytes_ms: 5000, idle_ms: 5000 } });
  const { port, stats } = one.server;
  const held: Socket[] = [];
  for (let count = 0; count < limits.connections_max; count++) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    held.push(socket);
  }
  await raw(port, Buffer.from('PRI'));
  refusedOnly(one.server, { too_many_connections: 1 });
  for (const socket of held) socket.destroy();
  while (stats.connections_open > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const open = Array.from({ length: 6 }, () => call(port, Buffer.alloc(0), { end: false }));
  const statuses = (await Promise.all(open)).map((answer) => answer.status);
  assert.deepEqual(statuses.sort(), [4, 4, 4, 4, 8, 8]);
  assert.equal(stats.refused.too_many_streams, 2);
  await stillWorks(one);
});

test('TLS to the plain port and plain text to the TLS port change only counters', async (t) => {
  const plain = await rig(t);
  const secure = connectTls({
    port: plain.server.port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
  });
  const [error] = await once(secure, 'error').catch((thrown) => [thrown]);
  assert.ok(error instanceof Error);
  refusedOnly(plain.server, { tls_to_plain: 1 });
  await stillWorks(plain);
});

test('mutated frames never reach the store as what they are not, and never end the server', async (t) => {
  const one = await rig(t);
  const whole = encode(good);
  let random = 7;
  const next = (below: number) => {
    random = (random * 1103515245 + 12345) % 2147483648;
    return random % below;
  };
  for (let round = 0; round < 150; round++) {
    const body = Buffer.from(whole);
    for (let flips = 1 + next(4); flips > 0; flips--) body[5 + next(body.length - 5)] = next(256);
    const answer = await call(one.server.port, body);
    assert.notEqual(answer.status, undefined, `round ${round} got no answer`);
  }
  assert.equal(one.server.stats.streams_open, 0);
  await stillWorks(one);
});
