// What servers accept and clients send at the edges of RFC 9112, and other protocols that look like HTTP for a while.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test from 'node:test';
import { NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram, Peer } from '../../test/peer.ts';
import { both, type Case, converse, seen } from './live/testing.ts';
import { GET, OK, repeat } from './testing.ts';

const POST = 'POST /post HTTP/1.1\r\n';
const EMPTY = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';
/** Two chunks, one of which holds what looks like a message, and one with an extension. */
const CHUNKS = `5\r\nHTTP/\r\n24 \r\n${GET('/within').padEnd(36)}\r\n2a;a=b\r\n${OK.padEnd(42)}\r\n0\r\n\r\n`;
const CHUNKED_POST = `${POST}Transfer-Encoding: chunked\r\n\r\n${CHUNKS}`;
const CHUNKED_OK = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`;
/** Of a request line, up to where it must be cut: 128 bytes with its CR. */
const WHOLE_LINE = `/${'w'.repeat(112)}`;

const CASES: readonly Case[] = [
  {
    name: 'a hundred requests in one segment, and others after it',
    steps: [
      ['>', GET('/many').repeat(100)],
      ['<', OK.repeat(100)],
      ['>', GET('/after')],
      ['<', OK],
    ],
    rows: [
      ['GET', '/after', 200, 1],
      ['GET', '/many', 200, 100],
    ],
  },
  {
    name: 'a hundred requests ahead of a connection that ends',
    steps: [['>', GET('/lost').repeat(100)]],
    rows: [['GET', '/lost', 0, 100]],
  },
  {
    name: 'empty lines before requests',
    steps: [
      ['>', `\r\n${GET('/first')}`],
      ['<', OK],
      ['>', `${POST}Content-Length: 2\r\n\r\nok\r\n`],
      ['<', EMPTY],
      ['>', `\r\n${GET('/next')}`],
      ['<', OK],
    ],
    rows: [
      ['GET', '/first', 200, 1],
      ['GET', '/next', 200, 1],
      ['POST', '/post', 200, 1],
    ],
    tunnel: { client: 2, server: 0 }, // those before any request are nobody's
  },
  {
    name: 'chunked, whatever a Content-Length beside it says',
    steps: [
      ['>', `${POST}Content-Length: 1000\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
      ['<', EMPTY],
      ['>', `${POST}transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n`],
      ['<', EMPTY],
      ['>', GET('/next')],
      ['<', 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
      ['>', GET('/next')],
      ['<', OK],
    ],
    rows: [
      ['GET', '/next', 200, 2],
      ['POST', '/post', 200, 2],
    ],
  },
  {
    name: 'chunked, several in one segment',
    steps: [
      ['>', CHUNKED_POST.repeat(3) + GET('/behind').repeat(2)],
      ['<', CHUNKED_OK.repeat(4) + OK],
      ['>', GET('/begun') + CHUNKED_POST.slice(0, -4)],
      ['<', OK],
      ['>', CHUNKED_POST.slice(-4)],
      ['<', `${CHUNKED_OK}`],
      ['>', GET('/last')],
      ['<', OK],
    ],
    rows: [
      ['GET', '/begun', 200, 1],
      ['GET', '/behind', 200, 2],
      ['GET', '/last', 200, 1],
      ['POST', '/post', 200, 4],
    ],
  },
  {
    name: 'requests that name no length have no body',
    steps: [
      ['>', `${POST}Host: a\r\n\r\n`.repeat(3)],
      ['<', EMPTY.repeat(3)],
    ],
    rows: [['POST', '/post', 200, 3]],
  },
  {
    name: 'a refused request whose body is never sent',
    steps: [
      ['>', `${POST}Content-Length: 30\r\nExpect: 100-continue\r\n\r\n`],
      ['<', 'HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n'],
      ['>', `${POST}Content-Length: 30\r\n\r\n${'b'.repeat(30)}`],
      ['<', EMPTY],
      ['>', `${POST}expect: 100-continue\r\nContent-Length: 50000\r\n\r\n`],
      ['<', 'HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n'],
      ['>', GET('/next')],
      ['<', OK],
    ],
    rows: [
      ['GET', '/next', 200, 1],
      ['POST', '/post', 200, 1],
      ['POST', '/post', 401, 1],
      ['POST', '/post', 417, 1],
    ],
  },
  {
    name: 'a tunnel',
    steps: [
      ['>', 'CONNECT far:443 HTTP/1.1\r\nHost: far\r\n\r\n'],
      ['<', 'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n'],
      ['>', 'CONNECT far:443 HTTP/1.1\r\nHost: far\r\nProxy-Authorization: x\r\n\r\n'],
      ['<', 'HTTP/1.1 200 Connection established\r\n\r\n'],
      ['>', GET('/within')],
      ['<', OK],
    ],
    rows: [
      ['CONNECT', '', 200, 1],
      ['CONNECT', '', 407, 1],
    ],
    tunnel: { client: GET('/within').length, server: OK.length },
  },
  {
    name: 'a line as long as is kept',
    steps: repeat(
      [
        ['>', GET(WHOLE_LINE)],
        ['<', OK],
      ],
      2,
    ),
    rows: [['GET', WHOLE_LINE, 200, 2]],
  },
  {
    name: 'letters that are not ASCII',
    steps: [
      ['>', Buffer.from(GET('/café'))],
      ['<', OK],
      ['>', Buffer.from(GET('/caf\xe9'), 'latin1')],
      ['<', OK],
    ],
    rows: [['GET', '/café', 200, 2]],
  },
];

/** None of these has a row. */
const OTHERS: Readonly<Record<string, Case['steps']>> = {
  'SQL in pieces': [
    ['>', 'hello'],
    ['>', 'SELECT /* x */ 1'],
    ['<', 'ok'],
  ],
  'the begin of TLS behind a letter': [
    ['>', 'S'],
    ['>', Buffer.from('16030300580200005403037f20', 'hex')],
    ['>', '/session name with letters HTTP'],
    ['<', 'S'],
    ['<', Buffer.from('1603030058020000540303207f', 'hex')],
  ],
  'lines in pieces': [
    ['<', '220 mail\r\n'],
    ['>', 'EHLO'],
    ['>', ' me\r\n'],
    ['<', '250 mail\r\n'],
    ['>', 'QUIT'],
    ['>', '\r\n'],
    ['>', 'GET'],
    ['>', ' /\r\n'],
  ],
  'long lines': [
    ['<', `INFO {"server_id":"N","version":"2.10",${'"headers":true,'.repeat(10)}"a":1} \r\n`],
    ['>', `ERROR [main] /var/log ${'a message that goes on '.repeat(10)}\n`],
    ['>', `ERROR /var/log ${'a message that goes on '.repeat(200)}\n`],
    ['>', `INVITE sip:${'a'.repeat(140)}@b SIP/2.0\r\nVia: x\r\n\r\n`],
  ],
};

test('at the edges', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { http: { raw_path: true } } });
  await converse(t, live, CASES);
  const none = { rows: [], tunnel: { client: 0, server: 0 } };
  const others = Object.entries(OTHERS).map(([name, steps]) => ({ name, steps, ...none }));
  await converse(t, live, others);
});

test('requests that are sent with the SYN', {
  skip: NO_LIVE || lacksProgram('python3', 'unshare', 'ip'),
}, async (t) => {
  const live = await startLive(t);
  const script = join(import.meta.dirname, 'fast_open.py');
  const shell = `ip link set lo up && exec python3 ${script}`;
  const peer = new Peer(t, 'unshare', ['-n', 'sh', '-c', shell]);
  const [port = 0, times = 0] = (await peer.line()).split(' ').map(Number);
  await settles(
    () => live.collector.flush(),
    () => seen(live, port),
    both(
      [
        ['GET', '/fast', 200, times],
        ['GET', '/later', 200, 2 * times],
      ],
      (GET('/fast').length + 2 * GET('/later').length) * times,
      3 * OK.length * times,
    ),
  );
});

const PART = Buffer.alloc(1 << 20, 'p');
const PARTS = 2200;

/** More than sequence numbers can count. */
async function upload(client: Socket, server: Socket): Promise<{ sent: number; answered: number }> {
  const head = `PUT /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const answer = new Promise<number>((done) => client.on('data', (bytes) => done(bytes.length)));
  let got = 0;
  const chunk = Buffer.concat([Buffer.from('100000\r\n'), PART, Buffer.from('\r\n')]);
  const sent = head.length + PARTS * chunk.length + '0\r\n\r\n'.length;
  server.on('data', (bytes) => {
    got += bytes.length;
    if (got === sent) server.write(OK);
  });
  client.write(head);
  for (let i = 0; i < PARTS; i += 1) if (!client.write(chunk)) await once(client, 'drain');
  client.write('0\r\n\r\n');
  return { sent, answered: await answer };
}

test('an upload of more than 2 GiB', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const listener = createServer().listen(0, '127.0.0.1');
  t.after(() => listener.close());
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo; // a TCP server's is none of the other kinds
  const accepted = once(listener, 'connection');
  const client = connect(port, '127.0.0.1');
  const [server]: Socket[] = await accepted;
  const { sent, answered } = await upload(client, server!);
  client.end();
  server!.end();
  await settles(
    () => live.collector.flush(),
    () => seen(live, port),
    both([['PUT', '/upload', 200, 1]], sent, answered),
  );
});
