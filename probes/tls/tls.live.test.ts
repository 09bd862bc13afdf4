// HTTPS between real programs: every request counted once at each end that is on this host, under the right process and addresses.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';
import { type AddressInfo, connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { settles, startLive } from '../../test/live.ts';
import { lacksProgram, Peer } from '../../test/peer.ts';
import {
  type Certificate,
  exact,
  makeCertificate,
  NO_TLS,
  probed,
  type Side,
  seen,
} from '../../test/tls_peers.ts';

const PEER = join(import.meta.dirname, 'peer.py');
const COLLECTOR = { probes: { tls: { enabled: true } } };

for (const [name, words] of [
  ['blocking sockets', []],
  ['memory BIOs', ['memory']],
] as const) {
  test(`Python with ${name}, at both ends`, { skip: NO_TLS }, async (t) => {
    const { cert, key } = makeCertificate(t);
    const server = new Peer(t, 'python3', [PEER, 'server', cert, key, ...words]);
    const port = Number(await server.line());
    const live = await startLive(t, { collector: COLLECTOR });
    const client = new Peer(t, 'python3', [PEER, 'client', `${port}`, '8', '250', '4', ...words]);
    await probed(live, /libssl/);
    client.go();
    assert.deepEqual(JSON.parse(await client.line()), { requests: 2000 });
    await client.ended();
    const counts = JSON.parse(await server.finish());
    await exact(live, port, [
      { direction: 'incoming', pid: server.pid, counts },
      { direction: 'outgoing', pid: client.pid, counts },
    ]);
  });
}

test('Node, whose TLS library is its own, at both ends', { skip: NO_TLS }, async (t) => {
  const { cert, key } = makeCertificate(t);
  const script = join(import.meta.dirname, 'node_peer.mjs');
  const server = new Peer(t, process.execPath, [script, 'server', cert, key]);
  const port = Number(await server.line());
  const live = await startLive(t, { collector: COLLECTOR });
  const client = new Peer(t, process.execPath, [script, 'client', `${port}`, '8', '100']);
  await probed(live, /node/);
  client.go();
  assert.deepEqual(JSON.parse(await client.line()), { requests: 800 });
  await client.ended();
  const counts = JSON.parse(await server.finish());
  await exact(live, port, [
    { direction: 'incoming', pid: server.pid, counts },
    { direction: 'outgoing', pid: client.pid, counts },
  ]);
});

// What the thread received last is the only sign of a session's socket there: each request has its own connection's ports.
for (const [name, program, words] of [
  ['Node', process.execPath, [join(import.meta.dirname, 'node_peer.mjs')]],
  ['Python with memory BIOs', 'python3', [PEER, 'memory']],
] as const) {
  test(`${name}: one thread on connections to two servers`, { skip: NO_TLS }, async (t) => {
    const { cert, key } = makeCertificate(t);
    const [script, ...more] = words;
    const servers = [0, 1].map(() => new Peer(t, program, [script, 'server', cert, key, ...more]));
    const ports = await Promise.all(servers.map(async (server) => Number(await server.line())));
    const live = await startLive(t, { collector: COLLECTOR });
    const client = new Peer(t, program, [script, 'client', `${ports}`, '16', '50', '1', ...more]);
    await probed(live, program === 'python3' ? /libssl/ : /node/);
    client.go();
    assert.deepEqual(JSON.parse(await client.line()), { requests: 800 });
    await client.ended();
    for (const [i, server] of servers.entries()) {
      const counts: Side['counts'] = JSON.parse(await server.finish());
      assert.equal(
        Object.values(counts).reduce((a, b) => a + b),
        400,
      );
      await exact(live, ports[i]!, [
        { direction: 'incoming', pid: server.pid, counts },
        { direction: 'outgoing', pid: client.pid, counts },
      ]);
    }
  });
}

test('a thread that receives for two sessions before it reads: no request at the other', {
  skip: NO_TLS,
}, async (t) => {
  const { cert, key } = makeCertificate(t);
  const servers = [0, 1].map(() => new Peer(t, 'python3', [PEER, 'server', cert, key]));
  const ports = await Promise.all(servers.map(async (server) => Number(await server.line())));
  const live = await startLive(t, { collector: COLLECTOR });
  const client = new Peer(t, 'python3', [PEER, 'late', `${ports}`, '50']);
  await probed(live, /libssl/);
  client.go();
  assert.deepEqual(JSON.parse(await client.line()), { requests: 100 });
  await client.ended();
  const sent = () => live.sink.rows({ tls: 1, pid: client.pid }, 'httpflow');
  await settles(
    () => live.collector.flush(),
    () => sent().reduce((sum, { count }) => sum + Number(count), 0),
    100,
  );
  const at = new Set(sent().map(({ path, dst_port }) => `${path} ${dst_port}`));
  const right = ['red', 'green'].flatMap((name, i) => [
    `/late/${name} ${ports[i]}`,
    `/late/${name} 0`,
  ]);
  for (const one of at) assert.ok(right.includes(one), `${one}, of ports ${ports}`);
  for (const row of sent()) assert.equal(row.status_code, 200);
});

/** Programs for clusters are mostly built without symbols. */
const GO_BUILDS = {
  'Go, at both ends': [],
  'Go without symbols, at both ends': ['-ldflags=-s -w', '-buildmode=pie'],
};

for (const [name, flags] of Object.entries(GO_BUILDS))
  test(name, { skip: NO_TLS || lacksProgram('go') }, (t) => goPeers(t, flags));

async function goPeers(t: TestContext, flags: readonly string[]): Promise<void> {
  const { folder, cert, key } = makeCertificate(t);
  const program = join(folder, 'go-peer');
  const source = join(import.meta.dirname, 'peer.go');
  execFileSync('go', ['build', ...flags, '-o', program, source]);
  const server = new Peer(t, program, ['server', cert, key]);
  const port = Number(await server.line());
  const live = await startLive(t, { collector: COLLECTOR });
  const client = new Peer(t, program, ['client', `${port}`, '8', '250']);
  await probed(live, /go-peer/);
  client.go();
  assert.deepEqual(JSON.parse(await client.line()), { requests: 2000 });
  await client.ended();
  const counts = JSON.parse(await server.finish());
  await exact(live, port, [
    { direction: 'incoming', pid: server.pid, counts },
    { direction: 'outgoing', pid: client.pid, counts },
  ]);
}

test('requests while programs are placed: none is without a response', {
  skip: NO_TLS || lacksProgram('go'),
}, async (t) => {
  const { folder, cert, key } = makeCertificate(t);
  const program = join(folder, 'go-peer');
  execFileSync('go', ['build', '-o', program, join(import.meta.dirname, 'peer.go')]);
  const server = new Peer(t, program, ['server', cert, key]);
  const port = Number(await server.line());
  const client = new Peer(t, program, ['client', `${port}`, '4', '0']);
  client.go();
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /go-peer/);
  const rows = (pid: number) => live.sink.rows({ tls: 1, pid }, 'httpflow');
  const sum = (pid: number) => rows(pid).reduce((total, { count }) => total + Number(count), 0);
  await settles(
    () => live.collector.flush(),
    () => sum(client.pid) > 1000 && sum(server.pid) > 1000,
    true,
  );
  await client.finish();
  await client.ended();
  await server.finish();
  await server.ended();
  await live.collector.flush();
  const of_peers = [...rows(client.pid), ...rows(server.pid)];
  assert.deepEqual(
    of_peers.filter(({ status_code }) => status_code !== 200 && status_code !== 404),
    [],
  );
});

test('Go with HTTP/2, at both ends', { skip: NO_TLS || lacksProgram('go') }, async (t) => {
  const { folder, cert, key } = makeCertificate(t);
  const program = join(folder, 'go-peer');
  execFileSync('go', ['build', '-o', program, join(import.meta.dirname, 'peer.go')]);
  const server = new Peer(t, program, ['server', cert, key, 'h2']);
  const port = Number(await server.line());
  const live = await startLive(t, { collector: COLLECTOR });
  const client = new Peer(t, program, ['client', `${port}`, '4', '250', 'h2']);
  await probed(live, /go-peer/);
  client.go();
  assert.deepEqual(JSON.parse(await client.line()), { requests: 1000 });
  await client.ended();
  const counts = JSON.parse(await server.finish());
  await exact(live, port, [
    { direction: 'incoming', pid: server.pid, counts },
    { direction: 'outgoing', pid: client.pid, counts },
  ]);
  assert.deepEqual(live.sink.total({ tls: 1, http_version: '2' }, ['count'], 'httpflow'), {
    count: 2000,
  });
});

// One call of the library has the frames of all requests.
test('Node with HTTP/2, 1500 requests at once, at both ends', { skip: NO_TLS }, async (t) => {
  const { cert, key } = makeCertificate(t);
  const script = join(import.meta.dirname, 'node_peer.mjs');
  const server = new Peer(t, process.execPath, [script, 'h2-server', cert, key]);
  const port = Number(await server.line());
  const live = await startLive(t, { collector: COLLECTOR });
  const client = new Peer(t, process.execPath, [script, 'h2-client', `${port}`, '1500']);
  await probed(live, /node/);
  client.go();
  assert.deepEqual(JSON.parse(await client.line()), { requests: 1500 });
  await client.ended();
  const counts = JSON.parse(await server.finish());
  await exact(live, port, [
    { direction: 'incoming', pid: server.pid, counts },
    { direction: 'outgoing', pid: client.pid, counts },
  ]);
});

test('HTTP/2 with a call of too many frames: that direction goes on behind it', {
  skip: NO_TLS,
}, async (t) => {
  const { cert, key } = makeCertificate(t);
  const script = join(import.meta.dirname, 'node_peer.mjs');
  const server = new Peer(t, process.execPath, [script, 'h2-server', cert, key]);
  const port = Number(await server.line());
  const live = await startLive(t, { collector: COLLECTOR });
  const flood = join(import.meta.dirname, 'h2_flood_peer.py');
  const client = new Peer(t, 'python3', [flood, `${port}`]);
  await probed(live, /node/, /libssl/);
  client.go();
  await client.ended();
  const counts = JSON.parse(await server.finish());
  assert.deepEqual(counts, { '/page/before': 1, '/page/behind': 20 });
  await exact(live, port, [
    { direction: 'incoming', pid: server.pid, counts },
    { direction: 'outgoing', pid: client.pid, counts },
  ]);
});

const PAGES = 20;

function nginxConfig({ folder, cert, key }: Certificate, port: number): string {
  const path = join(folder, 'nginx.conf');
  writeFileSync(
    path,
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
    events { worker_connections 256; }
    http { access_log ${folder}/access.log; keepalive_requests 100000;
      server { listen 127.0.0.1:${port} ssl; ssl_certificate ${cert}; ssl_certificate_key ${key};
        ssl_protocols TLSv1.2 TLSv1.3;
        location /page { return 200 "hello"; } location /missing { return 404; } } }`,
  );
  return path;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

async function nginx(t: TestContext): Promise<{ port: number; pid: number; log: () => string[] }> {
  const certificate = makeCertificate(t);
  const port = await freePort();
  const server = new Peer(t, 'nginx', ['-c', nginxConfig(certificate, port)]);
  for (let open = false; !open; open = await canConnect(port)) await delay(50);
  const log = () => readFileSync(join(certificate.folder, 'access.log'), 'utf8').trim().split('\n');
  return { port, pid: server.pid, log };
}

async function canConnect(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

test('nginx and curl', { skip: NO_TLS || lacksProgram('nginx', 'curl') }, async (t) => {
  const server = await nginx(t);
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /libssl/);
  const urls = Array.from({ length: PAGES }, () => `https://127.0.0.1:${server.port}/page/red`);
  const sides: Side[] = [];
  for (const words of [['--tls-max', '1.2'], [], ['--no-keepalive', '-H', 'Connection: close']]) {
    const client = new Peer(t, 'curl', ['-sk', '--http1.1', ...words, ...urls]);
    await client.ended();
    sides.push({ direction: 'outgoing', pid: client.pid, counts: { '/page/red': PAGES } });
  }
  const counts = { '/page/red': 3 * PAGES };
  await exact(live, server.port, [{ direction: 'incoming', pid: server.pid, counts }, ...sides]);
});

test('nginx and wrk: as many as the access log has', {
  skip: NO_TLS || lacksProgram('nginx', 'wrk'),
}, async (t) => {
  const server = await nginx(t);
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /libssl/);
  const url = `https://127.0.0.1:${server.port}/page/red`;
  const client = new Peer(t, 'wrk', ['-t1', '-c16', '-d2s', url]);
  await client.ended();
  await delay(500);
  const logged = server.log().length;
  const sum = (direction: string) =>
    seen(live, server.port)
      .filter((row) => row.direction === direction && row.path === '/page/red')
      .reduce((total, { count }) => total + Number(count), 0);
  await settles(
    () => live.collector.flush(),
    () => sum('incoming'),
    logged,
  );
  const sent = sum('outgoing');
  assert.ok(sent >= logged && sent <= logged + 16, `${sent} sent, ${logged} logged`);
});

test('wget, which uses GnuTLS', { skip: NO_TLS || lacksProgram('nginx', 'wget') }, async (t) => {
  const server = await nginx(t);
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /libgnutls/);
  const urls = Array.from({ length: PAGES }, () => `https://127.0.0.1:${server.port}/page/red`);
  const client = new Peer(t, 'wget', ['-q', '--no-check-certificate', '-O', '/dev/null', ...urls]);
  await client.ended();
  const counts = { '/page/red': PAGES };
  await exact(live, server.port, [
    { direction: 'incoming', pid: server.pid, counts },
    { direction: 'outgoing', pid: client.pid, counts },
  ]);
});

/** A root directory with a copy of these files and of the libraries that they load, as a container has it. */
function makeRoot(folder: string, paths: readonly string[]): string {
  const root = join(folder, 'root');
  const libraries = paths.flatMap(
    (path) => execFileSync('ldd', [path], { encoding: 'utf8' }).match(/\/\S+/g) ?? [],
  );
  for (const path of new Set([...paths, ...libraries])) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    copyFileSync(path, join(root, path));
  }
  return root;
}

test('a client in a root of its own, with its own library', {
  skip: NO_TLS || lacksProgram('nginx', 'curl'),
}, async (t) => {
  const server = await nginx(t);
  const { folder } = makeCertificate(t);
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /libssl/);
  const before = live.collector.uprobes.placed.length;
  const root = makeRoot(folder, ['/usr/bin/curl']);
  const url = `https://127.0.0.1:${server.port}/page/red`;
  // One that stays while the library of this root is found, as the first process of a container does.
  const first = new Peer(
    t,
    '/usr/bin/curl',
    ['-sk', '--http1.1', '--rate', '20/m', url, url],
    root,
  );
  for (const end = Date.now() + 30_000; live.collector.uprobes.placed.length === before; ) {
    assert.ok(Date.now() < end, 'the library is not found');
    await delay(50);
  }
  const urls = Array.from({ length: PAGES }, () => url);
  const client = new Peer(t, '/usr/bin/curl', ['-sk', '--http1.1', ...urls], root);
  await client.ended();
  await settles(
    () => live.collector.flush(),
    () => seen(live, server.port).find(({ pid }) => pid === client.pid)?.count,
    PAGES,
  );
  first.child.kill();
});

test('a body that the kernel encrypts is counted, and the next response found behind it', {
  skip: NO_TLS || lacksProgram('cc'),
}, async (t) => {
  const { folder } = makeCertificate(t);
  const program = join(folder, 'sendfile-peer');
  execFileSync('cc', ['-O1', '-o', program, join(import.meta.dirname, 'sendfile_peer.c')]);
  const server = new Peer(t, program, []);
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /sendfile-peer/);
  server.child.stdin!.write('50\n');
  await server.line();
  const served = { tls: 1, pid: server.pid, path: '/file/red', status_code: 200 };
  await settles(
    () => live.collector.flush(),
    () => live.sink.total(served, ['count', 'bytes_written'], 'httpflow'),
    {
      count: 50,
      bytes_written: 50 * ('HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n'.length + 100_000),
    },
  );
});

test('a server whose handshake alone uses the socket', {
  skip: NO_TLS || lacksProgram('cc'),
}, async (t) => {
  const { folder } = makeCertificate(t);
  const program = join(folder, 'handshake-peer');
  execFileSync('cc', ['-O1', '-o', program, join(import.meta.dirname, 'handshake_peer.c')]);
  const server = new Peer(t, program, []);
  const port = Number(await server.line());
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /handshake-peer/);
  for (let i = 0; i < 20; i += 1) {
    const client = connect(port, '127.0.0.1');
    client.write('hello');
    await once(client, 'data');
    client.write('GET /page/red HTTP/1.1\r\nHost: stand-in\r\n\r\n');
    await once(client, 'data');
    client.destroy();
  }
  await exact(live, port, [
    { direction: 'incoming', pid: server.pid, counts: { '/page/red': 20 } },
  ]);
});

test('a client that is killed in mid response: its request ends with the last bytes', {
  skip: NO_TLS || lacksProgram('curl'),
}, async (t) => {
  const { cert, key } = makeCertificate(t);
  const tls = { cert: readFileSync(cert), key: readFileSync(key) };
  const server = createSecureServer(tls).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // TCP
  const live = await startLive(t, { collector: COLLECTOR });
  await probed(live, /libssl/);
  const words = ['-sk', '--http2', '-N', `https://127.0.0.1:${port}/page/red`];
  const client = spawn('curl', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [stream] = await once(server, 'stream');
  stream.on('error', () => undefined); // the client goes
  stream.respond({ ':status': 200 });
  stream.write('the begin');
  await once(client.stdout, 'data');
  client.kill('SIGKILL');
  await once(client, 'exit');
  await delay(2000);
  const asked = { tls: 1, pid: client.pid!, status_code: 200 };
  const at_client = () => live.sink.rows(asked, 'httpflow');
  await settles(
    () => live.collector.flush(),
    () => at_client().map(({ count }) => count),
    [1],
  );
  const [{ duration }] = at_client() as [{ duration: number }];
  assert.ok(duration < 1e9, `it took ${duration} ns`);
});
