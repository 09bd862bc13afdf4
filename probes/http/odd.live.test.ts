// Conversations as they are on real networks, and as an adversary would have them: each is played between two sockets, and
// both ends' rows must be what was said, byte for byte.

import assert from 'node:assert/strict';
import test from 'node:test';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { type Case, converse, type Row, rowsOf } from './live/testing.ts';
import { bytewise, GET, OK, play, repeat, type Step } from './testing.ts';

const MANY = 100;

const CASES: readonly Case[] = [
  {
    name: 'keep-alive',
    steps: repeat(
      [
        ['>', GET('/keep')],
        ['<', OK],
      ],
      MANY,
    ),
    rows: [['GET', '/keep', 200, MANY]],
  },
  {
    name: 'two paths in turn',
    steps: repeat(
      [
        ['>', GET('/one')],
        ['<', OK],
        ['>', GET('/two')],
        ['<', 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'],
      ],
      30,
    ),
    rows: [
      ['GET', '/one', 200, 30],
      ['GET', '/two', 404, 30],
    ],
  },
  {
    name: 'one path with changing statuses',
    steps: repeat(
      [
        ['>', GET('/status')],
        ['<', OK],
        ['>', GET('/status')],
        ['<', 'HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n'],
      ],
      10,
    ),
    rows: [
      ['GET', '/status', 200, 10],
      ['GET', '/status', 503, 10],
    ],
  },
  {
    name: 'HTTP/1.0',
    steps: [
      ['>', 'GET /old HTTP/1.0\r\n\r\n'],
      ['<', 'HTTP/1.0 200 OK\r\n\r\nuntil the end'],
    ],
    rows: [['GET', '/old', 200, 1]],
  },
  {
    name: 'odd methods',
    steps: ['PROPFIND', 'M-SEARCH', 'DELETE', 'OPTIONS', 'PATCH', 'BREW'].flatMap(
      (method): Step[] => [
        ['>', `${method} /odd HTTP/1.1\r\nContent-Length: 0\r\n\r\n`],
        ['<', OK],
      ],
    ),
    rows: ['BREW', 'DELETE', 'M-SEARCH', 'OPTIONS', 'PATCH', 'PROPFIND'].map(
      (method): Row => [method, '/odd', 200, 1],
    ),
  },
  {
    name: 'a request of one byte each segment',
    steps: repeat([...bytewise('>', GET('/bytewise')), ['<', OK]], 3),
    rows: [['GET', '/bytewise', 200, 3]],
  },
  {
    name: 'a response of one byte each segment',
    steps: repeat([['>', GET('/slowly')], ...bytewise('<', OK)], 3),
    rows: [['GET', '/slowly', 200, 3]],
  },
  {
    name: 'a split request line',
    steps: [
      ['>', 'GET /spl'],
      ['>', 'it HTTP/1.1\r\nHo'],
      ['>', 'st: a\r\n\r\n'],
      ['<', OK],
    ],
    rows: [['GET', '/split', 200, 1]],
  },
  {
    name: 'a split status line',
    steps: [
      ['>', GET('/half')],
      ['<', 'HTTP/1.'],
      ['<', '1 404 Not Found\r\n\r\n'],
    ],
    rows: [['GET', '/half', 404, 1]],
  },
  {
    name: 'headers in many segments',
    steps: [
      ['>', 'GET /headers HTTP/1.1\r\n'],
      ...Array.from({ length: 20 }, (_, i): Step => ['>', `X-${i}: ${'v'.repeat(450)}\r\n`]),
      ['>', '\r\n'],
      ['<', OK],
      ['>', GET('/headers')],
      ['<', OK],
    ],
    rows: [['GET', '/headers', 200, 2]],
  },
  {
    name: '100 Continue',
    steps: repeat(
      [
        ['>', 'POST /c HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n'],
        ['<', 'HTTP/1.1 100 Continue\r\n\r\n'],
        ['>', 'hello'],
        ['<', 'HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n'],
      ],
      3,
    ),
    rows: [['POST', '/c', 201, 3]],
  },
  {
    name: '103 and the response in one segment',
    steps: [
      ['>', GET('/hints')],
      ['<', `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${OK}`],
      ['>', GET('/hints')],
      ['<', OK],
    ],
    rows: [['GET', '/hints', 200, 2]],
  },
  {
    name: 'HEAD, 204 and 304',
    steps: [
      ['>', 'HEAD /h HTTP/1.1\r\n\r\n'],
      ['<', 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n'],
      ['>', GET('/h')],
      ['<', 'HTTP/1.1 204 No Content\r\n\r\n'],
      ['>', GET('/h')],
      ['<', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n'],
    ],
    rows: [
      ['GET', '/h', 204, 1],
      ['GET', '/h', 304, 1],
      ['HEAD', '/h', 200, 1],
    ],
  },
  {
    name: 'chunked, both ways',
    steps: repeat(
      [
        ['>', 'POST /chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'],
        ['>', '5\r\nhello\r\n'],
        ['>', '0\r\n\r\n'],
        ['<', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'],
        ['<', '3\r\nabc\r\n'],
        ['<', '0\r\n\r\n'],
      ],
      3,
    ),
    rows: [['POST', '/chunks', 200, 3]],
  },
  {
    name: 'bodies that begin like messages',
    steps: repeat(
      [
        ['>', `POST /like HTTP/1.1\r\nContent-Length: ${GET('/false').length}\r\n\r\n`],
        ['>', GET('/false')],
        ['<', 'HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n'],
        ['<', 'HTTP/1.1 500 This Is A Body\r\n\r\nabcd'],
      ],
      5,
    ),
    rows: [['POST', '/like', 200, 5]],
  },
  {
    name: 'a body after an early response',
    steps: [
      ['>', `POST /early HTTP/1.1\r\nContent-Length: ${GET('/false').length + 3}\r\n\r\n`],
      ['<', 'HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n'],
      ['>', GET('/false')],
      ['>', 'end'],
      ['>', GET('/early')],
      ['<', OK],
    ],
    rows: [
      ['GET', '/early', 200, 1],
      ['POST', '/early', 413, 1],
    ],
  },
  {
    name: 'pipelining from the first segment on',
    steps: [
      ['>', GET('/ahead').repeat(5)],
      ['<', OK.repeat(5)],
      ['>', GET('/ahead').repeat(3)],
      ['<', OK],
      ['<', OK + OK],
    ],
    rows: [['GET', '/ahead', 200, 8]],
  },
  {
    name: 'pipelining of two paths',
    steps: [
      ['>', GET('/a') + GET('/b')],
      ['<', `${OK}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n`],
      ['>', GET('/b')],
      ['>', GET('/a')],
      ['<', OK],
      ['<', OK],
    ],
    rows: [
      ['GET', '/a', 200, 2],
      ['GET', '/b', 200, 1],
      ['GET', '/b', 404, 1],
    ],
  },
  {
    name: 'upgrade',
    steps: [
      ['>', 'GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n'],
      ['<', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
      ['>', GET('/false')],
      ['<', 'HTTP/1.1 500 No\r\n\r\n'],
    ],
    rows: [['GET', '/ws', 101, 1]],
    tunnel: { client: GET('/false').length, server: 'HTTP/1.1 500 No\r\n\r\n'.length },
  },
  {
    name: 'aborted before the response',
    steps: [['>', GET('/abort')]],
    rows: [['GET', '/abort', 0, 1]],
    options: { abort: true },
  },
  {
    name: 'aborted within the response',
    steps: [
      ['>', GET('/part')],
      ['<', 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this'],
    ],
    rows: [['GET', '/part', 200, 1]],
    options: { abort: true },
  },
  {
    name: 'large bodies',
    steps: [
      ['>', 'PUT /large HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n'],
      ['>', 'GET / HTTP/1.1\r\n'.repeat(187_500)],
      [
        '<',
        `HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n${'HTTP/1.1 500 \n'.repeat(200_000)}`,
      ],
      ['<', 'x'.repeat(200_000)],
    ],
    rows: [['PUT', '/large', 200, 1]],
  },
  {
    name: 'IPv6',
    steps: [
      ['>', GET('/six')],
      ['<', OK],
    ],
    rows: [['GET', '/six', 200, 1]],
    options: { host: '::1' },
  },
  {
    name: 'IPv4 on an IPv6 socket',
    steps: [
      ['>', GET('/mapped')],
      ['<', OK],
    ],
    rows: [['GET', '/mapped', 200, 1]],
    options: { host: '::', connect_host: '127.0.0.1' },
  },
  {
    name: 'what is no HTTP',
    steps: [
      ['>', 'HELO there\r\n'],
      ['<', '220 hello\r\n'],
      ['>', 'GET key\r\n'],
      ['<', 'HTTP is not spoken here\r\n'],
      ['>', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
      ['>', Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 73 + (i >> 3)) & 0xff))],
    ],
    rows: [],
    tunnel: { client: 0, server: 0 },
  },
];

test('conversations', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  await converse(t, live, CASES);
  await t.test('a long path is cut, and says so', () => longPath(live));
  await t.test('each end has its owner and its times', () => owners(live));
});

async function longPath(live: Live): Promise<void> {
  const { port } = await play([
    ['>', GET(`/${'seg/'.repeat(100)}`)],
    ['<', OK],
  ]);
  await settles(
    () => live.collector.flush(),
    () => rowsOf(live, port, 'incoming').map((row) => [row.method, row.truncated, row.count]),
    [['GET', 1, 1]],
  );
}

async function owners(live: Live): Promise<void> {
  const { port } = await play([
    ['>', GET('/mine')],
    ['<', OK],
  ]);
  await live.collector.flush();
  const rows = [...rowsOf(live, port, 'incoming'), ...rowsOf(live, port, 'outgoing')];
  assert.equal(rows.length, 2);
  for (const row of rows) {
    assert.deepEqual([row.pid, row.http_version, row.tls], [process.pid, '1.1', 0]);
    assert.ok(Number(row.latency_count) === 1 && Number(row.latency_sum) > 0);
    assert.ok(Number(row.duration) >= Number(row.latency_sum));
  }
}
