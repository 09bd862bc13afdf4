// h2c by Upgrade: a request of HTTP/1 that is answered within HTTP/2 is one row at each end, with the status of that answer.

import { once } from 'node:events';
import net from 'node:net';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { shown } from '../../test/h2.ts';
import { type Live, lacks, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { portOf } from '../../test/traffic/h2.ts';

const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n';
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const SETTINGS = '\0\0\0\x04\0\0\0\0\0';
/** HEADERS of one indexed field, and DATA of so many bytes, which ends the stream. */
const answer = (stream: number, field: number, bytes: number): string =>
  `\0\0\x01\x01\x04\0\0\0${String.fromCharCode(stream, field)}` +
  `\0\0${String.fromCharCode(bytes)}\0\x01\0\0\0${String.fromCharCode(stream)}${'x'.repeat(bytes)}`;
const OK = 0x88;
const NOT_FOUND = 0x8d;
/** GET / as stream 3. */
const GET = '\0\0\x03\x01\x05\0\0\0\x03\x82\x86\x84';
const asks = (line: string, more = ''): string =>
  `${line} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n` +
  `Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n${more}\r\n`;

interface Talk {
  /** What the client sends, in turn; before all but the first it waits for what the server sends. */
  readonly client: readonly string[];
  /** What the server sends, in turn, each time that it got something. */
  readonly server: readonly string[];
}

/** A connection whose ends take turns; its port. */
async function talk(t: TestContext, { client, server }: Talk): Promise<number> {
  const listener = net.createServer({ noDelay: true }, async (socket) => {
    for (const bytes of server) {
      await once(socket, 'data');
      socket.write(bytes, 'latin1');
    }
    socket.resume();
    socket.once('end', () => socket.end());
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.after(() => listener.close());
  const socket = net.connect({ port: portOf(listener), host: '127.0.0.1', noDelay: true });
  for (const [i, bytes] of client.entries()) {
    if (i > 0) await once(socket, 'data');
    socket.write(bytes, 'latin1');
  }
  if (server.length >= client.length) await once(socket, 'data');
  await delay(20);
  socket.end();
  await once(socket.resume(), 'close');
  return portOf(listener);
}

type Told = readonly [method: string, path: string, status: number, version: string, sent: number];

/** Both ends tell these requests, and nothing else; the last of each is the length of the response, the one before of the request. */
async function told(live: Live, port: number, rows: readonly (readonly [...Told, number])[]) {
  const seen = (): unknown[] =>
    Object.values(shown(live, port)).map((end) =>
      end.map((row) => [
        row.method,
        row.path,
        row.status_code,
        row.http_version,
        row.bytes_request,
        row.bytes_response,
        ...(row.requests === 1 ? [] : [`${row.requests} requests`]),
      ]),
    );
  await settles(() => live.collector.flush(), seen, [rows, rows]);
}

test('h2c by Upgrade', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, {
    collector: { probes: { http: { enabled: true }, http2: { enabled: true } } },
  });
  const missing = lacks(live, 'http');
  if (missing !== false) return t.skip(missing);
  const first = asks('GET /first');
  await t.test('answered in the segment of the 101, before the preface', async (s) => {
    const port = await talk(s, {
      client: [first, PREFACE + SETTINGS + GET],
      server: [SWITCH + SETTINGS + answer(1, NOT_FOUND, 9), answer(3, OK, 5)],
    });
    await told(live, port, [
      ['GET', '/', 200, '2', 0, 5],
      ['GET', '/first', 404, '2', first.length, 9],
    ]);
  });
  await t.test('answered behind the preface, the 101 by itself', async (s) => {
    const port = await talk(s, {
      client: [first, PREFACE + SETTINGS, GET],
      server: [
        SWITCH.toLowerCase().replace('http', 'HTTP'),
        SETTINGS + answer(1, OK, 7),
        answer(3, OK, 5),
      ],
    });
    await told(live, port, [
      ['GET', '/', 200, '2', 0, 5],
      ['GET', '/first', 200, '2', first.length, 7],
    ]);
  });
  await t.test('behind other requests, with a body, part of it after the 101', async (s) => {
    const before = 'GET /before HTTP/1.1\r\nHost: x\r\n\r\n';
    const response = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi';
    const post = asks('POST /first', 'Content-Length: 30\r\n');
    const half = `\0\0\0\x04${'\0'.repeat(11)}`;
    const port = await talk(s, {
      client: [before, post + half, half, PREFACE + SETTINGS + GET],
      server: [response, SWITCH + SETTINGS, answer(1, OK, 3), answer(3, OK, 5)],
    });
    await told(live, port, [
      ['GET', '/', 200, '2', 0, 5],
      ['GET', '/before', 200, '1.1', before.length, response.length],
      ['POST', '/first', 200, '2', post.length + half.length, 3],
    ]);
  });
  await t.test('never answered', async (s) => {
    const port = await talk(s, { client: [first], server: [SWITCH + SETTINGS] });
    await told(live, port, [['GET', '/first', 0, '2', first.length, 0]]);
  });
  await t.test('not agreed to, and another protocol', async (s) => {
    const response = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi';
    let port = await talk(s, { client: [first], server: [response] });
    await told(live, port, [['GET', '/first', 200, '1.1', first.length, response.length]]);
    const other = SWITCH.replace('h2c', 'h2cc');
    port = await talk(s, { client: [first], server: [other] });
    await told(live, port, [['GET', '/first', 101, '1.1', first.length, other.length]]);
  });
});
