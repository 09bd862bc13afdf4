// Python's requests as a client, with what programs do by it: sessions that keep their connections, redirects, uploads in
// chunks. What sonde has of both ends is what the server has answered, to the last request, and what its sockets have moved,
// to the last byte.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import test, { type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { Python } from '../../test/python.ts';

const python = new Python('requests', ['requests'], ['requests']);
const NO_REQUESTS = NO_LIVE || (python.missing() ?? false);

interface Counted {
  /** By method, path and status. */
  readonly requests: Readonly<Record<string, number>>;
  /** Of the server. */
  readonly bytes_read: number;
  readonly bytes_written: number;
}

/** What is asked of it says how it answers; it counts what it has answered, and what its sockets moved. */
class Truth {
  readonly #requests: Record<string, number> = {};
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => this.#sockets.add(socket));
    server.on('request', (asked: IncomingMessage, answer: ServerResponse) => {
      const [path = ''] = asked.url!.split('?');
      asked.resume();
      asked.once('end', () => {
        answers(path, asked, answer);
        const key = `${asked.method} ${path} ${answer.statusCode}`;
        this.#requests[key] = (this.#requests[key] ?? 0) + 1;
      });
    });
  }

  static async listen(t: TestContext): Promise<Truth> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    return new Truth(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port; // TCP
  }

  get counted(): Counted {
    let [bytes_read, bytes_written] = [0, 0];
    for (const socket of this.#sockets) {
      bytes_read += socket.bytesRead;
      bytes_written += socket.bytesWritten;
    }
    return { requests: ordered(this.#requests), bytes_read, bytes_written };
  }
}

const ordered = (counts: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));

/** `/to/301/3`: three redirects of this kind; `/stream/5`: so many chunks; `/text/9`: so many bytes; else the status. */
function answers(path: string, asked: IncomingMessage, answer: ServerResponse): void {
  const [, what = '', first = '', second = ''] = path.split('/');
  if (what === 'to' && Number(second) > 0) {
    answer.writeHead(Number(first), { location: `/to/${first}/${Number(second) - 1}` }).end();
  } else if (what === 'stream') {
    for (let i = 0; i < Number(first); i += 1) answer.write('a piece of it '.repeat(i * 50 + 1));
    answer.end();
  } else if (what === 'text') {
    answer.end('t'.repeat(Number(first)));
  } else if (what === 'gzip') {
    answer.setHeader('content-encoding', 'gzip').end(gzipSync('text '.repeat(5000)));
  } else if (what === 'secret' && asked.headers.authorization === undefined) {
    answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('who?');
  } else {
    const status = Number(what) || 200;
    answer.writeHead(status).end(status === 204 || status === 304 ? undefined : 'answer');
  }
}

/** Of one end, as the server counts. */
function seen(live: Live, port: number, direction: 'incoming' | 'outgoing'): Counted {
  const at = direction === 'incoming' ? { src_port: port } : { dst_port: port };
  const requests: Record<string, number> = {};
  const sum = { bytes_read: 0, bytes_written: 0 };
  for (const row of live.sink.rows({ direction, ...at }, 'httpflow')) {
    const key = `${row.method} ${row.path} ${row.status_code}`;
    requests[key] = (requests[key] ?? 0) + Number(row.count);
    sum.bytes_read += Number(row[direction === 'incoming' ? 'bytes_read' : 'bytes_written']);
    sum.bytes_written += Number(row[direction === 'incoming' ? 'bytes_written' : 'bytes_read']);
  }
  return { requests: ordered(requests), ...sum };
}

const SESSION = `
for i in range(100):
    assert s.get(at + '/keep', params={'i': i}).status_code == 200
for i in range(20):
    s.request(('GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS')[i % 5], at + '/%d' % (200, 404, 503)[i % 3])
for i in (1, 100, 5000, 300000):
    assert len(s.get(at + '/text/%d' % i).content) == i
s.head(at + '/text/70000')
s.get(at + '/204')
s.get(at + '/304')
assert s.get(at + '/gzip').text.startswith('text text')
assert s.get(at + '/secret').status_code == 401
assert s.get(at + '/secret', auth=('user', 'word')).status_code == 200
assert s.get(at + '/keep', headers={'Connection': 'close'}).status_code == 200
`;

const REDIRECTS = `
for code in (301, 302, 303, 307, 308):
    for method in ('GET', 'POST'):
        r = s.request(method, at + '/to/%d/3' % code, data='a body' * 500 if method == 'POST' else None)
        assert r.status_code == 200 and len(r.history) == 3
r = s.get(at + '/to/302/5', allow_redirects=False)
assert r.status_code == 302 and not r.history
try:
    s.get(at + '/to/302/40')
    assert False
except requests.TooManyRedirects:
    pass
`;

const CHUNKED = `
import io
def pieces(n, size):
    for i in range(n): yield b'x' * (size * i + 1)
def lines():
    yield b'GET /within HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'
    yield b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'
    yield b'POST /within HTTP/1.1\\r\\nContent-Length: 3\\r\\n\\r\\nabc'
for i in range(10):
    assert s.post(at + '/upload', data=pieces(i + 1, 700)).status_code == 200
    assert s.post(at + '/lines', data=lines()).status_code == 200
    assert s.get(at + '/stream/%d' % i).status_code == 200
s.put(at + '/large', data=pieces(20, 20000))
s.post(at + '/file', files={'f': ('name', io.BytesIO(b'z' * 200000))})
s.post(at + '/form', data={'a': 'b', 'c': 'd' * 4000})
s.post(at + '/json', json={'a': list(range(500))})
with s.get(at + '/stream/30', stream=True) as r:
    for piece in r.iter_content(512): pass
`;

const ALONE = `
for i in range(30):
    requests.get(at + '/alone')
    requests.post(at + '/alone/posted', data=b'y' * i * 100)
`;

const PARTS = [
  ['a session', SESSION],
  ['redirects', REDIRECTS],
  ['uploads and answers in chunks', CHUNKED],
  ['without a session, a connection each', ALONE],
] as const;

test('requests', { skip: NO_REQUESTS }, async (t) => {
  for (const [name, lines] of PARTS) {
    await t.test(name, async (t) => {
      const truth = await Truth.listen(t);
      const { port } = truth;
      const live = await startLive(t, { collector: { http: { raw_path: true } } });
      const begin = `import sys, requests\nat = 'http://127.0.0.1:${port}'\ns = requests.Session()`;
      const { status, stderr } = await python.run(`${begin}${lines}s.close()\n`, []);
      assert.equal(status, 0, stderr);
      await settles(
        () => live.collector.flush(),
        () => [seen(live, port, 'incoming'), seen(live, port, 'outgoing')],
        [truth.counted, truth.counted],
      );
      assert.ok(Object.keys(truth.counted.requests).length > 1);
      const [row] = live.sink.rows({ direction: 'outgoing', dst_port: port }, 'httpflow');
      assert.match(String(row?.process_name), /^python/);
      assert.deepEqual(live.collector.ledger.imbalance(), []);
    });
  }
});
