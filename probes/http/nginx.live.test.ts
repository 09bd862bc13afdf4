// nginx as a real server, and as a proxy: what sonde counts is what nginx logged, to the last request and byte.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type BpfMap, MapBuffer } from '../../src/bpf/map.ts';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram } from '../../test/peer.ts';
import { http_conn, http_life } from '../layout.gen.ts';

const run = promisify(execFile);
const NO_NGINX = NO_LIVE || lacksProgram('nginx');
const NO_WRK = NO_NGINX || lacksProgram('wrk');
const REQUESTS = 4000;
const CONNECTIONS = 8;
const PATIENCE_MS = 20_000;

interface Logged {
  readonly requests: number;
  readonly by_status: Readonly<Record<string, number>>;
  readonly bytes_read: number;
  readonly bytes_written: number;
}

interface Nginx {
  readonly port: number;
  readonly proxy_port: number;
  /** What its access log says of requests whose path begins so; it is flushed first. */
  logged(path: string): Promise<Logged>;
}

async function freePorts(): Promise<readonly [number, number]> {
  const servers = [createServer(), createServer()];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }
  const ports = servers.map((server) => (server.address() as AddressInfo).port); // TCP
  for (const server of servers) server.close();
  return [ports[0]!, ports[1]!];
}

function configuration(folder: string, [port, proxy_port]: readonly [number, number]): string {
  const temps = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `daemon off;
pid ${folder}/nginx.pid;
worker_processes 1;
events { worker_connections 1024; }
http {
  log_format exact '$request_uri $status $request_length $bytes_sent';
  access_log ${folder}/access.log exact;
  keepalive_requests 100000000;
  client_max_body_size 10m;
  ${temps.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  upstream hop { server 127.0.0.1:${port}; keepalive 4; }
  server {
    listen 127.0.0.1:${port} deferred;
    location /missing { return 404; }
    location /gone { return 204; }
    location / { return 200 "The quick brown fox"; }
  }
  server {
    listen 127.0.0.1:${proxy_port};
    location / { proxy_pass http://hop; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`;
}

async function startNginx(t: TestContext): Promise<Nginx> {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-nginx-'));
  const ports = await freePorts();
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, configuration(folder, ports));
  const words = ['-p', folder, '-e', join(folder, 'error.log'), '-c', file];
  const master = spawn('nginx', words, { stdio: 'ignore' });
  t.after(async () => {
    const gone = once(master, 'exit');
    master.kill('SIGTERM');
    await gone;
    rmSync(folder, { recursive: true, force: true });
  });
  const end = Date.now() + PATIENCE_MS;
  while (!(await answers(ports[1]))) {
    assert.ok(Date.now() < end, 'nginx does not listen');
    await delay(20);
  }
  return { port: ports[0], proxy_port: ports[1], logged: async (path) => readLog(folder, path) };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

function readLog(folder: string, path: string): Logged {
  const by_status: Record<string, number> = {};
  const sum = { requests: 0, bytes_read: 0, bytes_written: 0 };
  for (const line of readFileSync(join(folder, 'access.log'), 'utf8').split('\n')) {
    const [uri, status, read, written] = line.split(' ');
    if (uri?.startsWith(path) !== true) continue;
    sum.requests += 1;
    by_status[status!] = (by_status[status!] ?? 0) + 1;
    sum.bytes_read += Number(read);
    sum.bytes_written += Number(written);
  }
  return { ...sum, by_status };
}

/** What `httpflow` has of one end, in the words of the log. */
function counted(live: Live, port: number, direction: string, path: string): Logged {
  const at = direction === 'incoming' ? { src_port: port } : { dst_port: port };
  const by_status: Record<string, number> = {};
  const sum = { requests: 0, bytes_read: 0, bytes_written: 0 };
  for (const row of live.sink.rows({ direction, ...at }, 'httpflow')) {
    if (!String(row.path).startsWith(path)) continue;
    sum.requests += Number(row.count);
    by_status[String(row.status_code)] =
      (by_status[String(row.status_code)] ?? 0) + Number(row.count);
    sum.bytes_read += Number(row.bytes_read);
    sum.bytes_written += Number(row.bytes_written);
  }
  return { ...sum, by_status };
}

const turned = (one: Logged): Logged => ({
  ...one,
  bytes_read: one.bytes_written,
  bytes_written: one.bytes_read,
});

/** `bodies`: bytes of bodies that nginx throws away, and leaves out of its count. */
async function exact(live: Live, nginx: Nginx, path: string, bodies = 0): Promise<void> {
  const { port } = nginx;
  const logged = await nginx.logged(path);
  const truth = { ...logged, bytes_read: logged.bytes_read + bodies };
  await settles(
    () => live.collector.flush(),
    () => ['incoming', 'outgoing'].map((direction) => counted(live, port, direction, path)),
    [truth, turned(truth)],
  );
}

/** `times` requests on `CONNECTIONS` connections; the bytes of their bodies. */
async function ask(
  port: number,
  prefix: string,
  keepAlive: boolean,
  times: number,
): Promise<number> {
  let bodies = 0;
  const agent = new Agent({ keepAlive, maxSockets: CONNECTIONS });
  const one = (i: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const path = `${prefix}${['', '/x', '/y'][i % 3]}`;
      const method = i % 5 === 0 ? 'POST' : 'GET';
      const asked = request({ port, host: '127.0.0.1', path, method, agent }, (response) => {
        response.resume();
        response.once('end', resolve);
      });
      asked.once('error', reject);
      const body = method === 'POST' ? 'b'.repeat(i % 3000) : '';
      bodies += body.length;
      asked.end(body);
    });
  await Promise.all(Array.from({ length: times }, (_, i) => one(i)));
  agent.destroy();
  return bodies;
}

test('nginx', { skip: NO_NGINX }, async (t) => {
  const nginx = await startNginx(t);
  const older = await olderConnection(nginx.port);
  t.after(() => older.destroy());
  const live = await startLive(t);
  const { port, proxy_port } = nginx;
  for (const keep_alive of [true, false]) {
    for (const path of ['/found', '/missing', '/gone']) {
      const prefix = `${path}-${keep_alive ? 'keep' : 'close'}`;
      await t.test(`${REQUESTS / 4} requests of ${prefix}`, async () => {
        const bodies = await ask(port, prefix, keep_alive, REQUESTS / 4);
        await exact(live, nginx, prefix, bodies);
      });
    }
  }
  await t.test('a connection that is older than sonde', async () => {
    for (let i = 0; i < 10; i += 1) {
      older.write('GET /older HTTP/1.1\r\nHost: a\r\n\r\n');
      await once(older, 'data');
    }
    await exact(live, nginx, '/older');
  });
  await t.test('nginx as proxy: two hops, four rows', () => proxied(live, nginx));
  for (const [name, words] of [
    ['keep-alive', []],
    ['Connection: close', ['-H', 'Connection: close']],
  ] as const) {
    await t.test(`wrk at saturation, ${name}`, { skip: NO_WRK }, async () => {
      await saturated(live, nginx, `/wrk-${words.length}`, words);
    });
  }
  await t.test('curl and python', { skip: lacksProgram('curl') }, async () => {
    const url = (path: string): string => `http://127.0.0.1:${port}/tool-${path}`;
    await run('curl', ['-s', '-o', '/dev/null', url('a'), '-o', '/dev/null', url('b')]);
    await run('curl', ['-s', '-I', url('head')]);
    let bodies = 100_000;
    await run('curl', ['-s', '-d', 'x'.repeat(bodies), '-o', '/dev/null', url('post')]);
    if (lacksProgram('python3') === false) {
      const lines = [
        'import http.client',
        `c = http.client.HTTPConnection("127.0.0.1", ${port})`,
        'for i in range(20):',
        '  c.request("POST", "/tool-python", body="a" * i * 1000); c.getresponse().read()',
      ];
      await run('python3', ['-c', lines.join('\n')]);
      bodies += 190_000;
    }
    await exact(live, nginx, '/tool-', bodies);
  });
  await t.test('nothing is left of connections that ended', async () => {
    older.destroy();
    // the proxy keeps up to four connections open, which have two ends here
    await settles(
      () => live.collector.flush(),
      () => stateAt(live, [port, proxy_port]) <= 8,
      true,
    );
  });
});

/** Live entries of connections at these ports that the kernel side holds. */
function stateAt(live: Live, ports: readonly number[]): number {
  return ['http_slots', 'http_conns']
    .map((name) => stateIn(live.collector.kernel.map(name), ports))
    .reduce((a, b) => a + b);
}

function stateIn(map: BpfMap, ports: readonly number[]): number {
  const buffer = new MapBuffer(map);
  const count = buffer.read();
  const view = new DataView(buffer.values.buffer, buffer.values.byteOffset);
  return Array.from({ length: count }, (_, i) => i * map.valueStride).filter(
    (at) =>
      view.getUint32(at + http_conn.life, true) === http_life.HTTP_LIVE &&
      [http_conn.rec_local_port, http_conn.rec_peer_port].some((field) =>
        ports.includes(view.getUint16(at + field, true)),
      ),
  ).length;
}

async function olderConnection(port: number): Promise<ReturnType<typeof connect>> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.write('GET /before HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(socket, 'data');
  return socket;
}

async function proxied(live: Live, nginx: Nginx): Promise<void> {
  await ask(nginx.proxy_port, '/hop', true, 300);
  await settles(
    () => live.collector.flush(),
    () =>
      [nginx.proxy_port, nginx.port].map((port) =>
        ['incoming', 'outgoing'].map((side) => counted(live, port, side, '/hop').requests),
      ),
    [
      [300, 300],
      [300, 300],
    ],
  );
  const names = live.sink
    .rows({ direction: 'outgoing', dst_port: nginx.port }, 'httpflow')
    .filter(({ path }) => String(path).startsWith('/hop'))
    .map(({ process_name }) => process_name);
  assert.deepEqual([...new Set(names)], ['nginx']);
}

/** wrk breaks off at its end: of each connection one request may be under way, which no log has. */
async function saturated(
  live: Live,
  nginx: Nginx,
  path: string,
  words: readonly string[],
): Promise<void> {
  const url = `http://127.0.0.1:${nginx.port}${path}`;
  const { stdout } = await run('wrk', ['-t1', `-c${CONNECTIONS}`, '-d1', ...words, url]);
  const done = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  await delay(200);
  await live.collector.flush();
  await live.collector.flush();
  const { requests } = await nginx.logged(path);
  for (const direction of ['incoming', 'outgoing']) {
    const all = counted(live, nginx.port, direction, path).requests;
    const most = done + CONNECTIONS;
    assert.ok(all >= done && all <= most, `${direction}: ${all}, wrk says ${done}`);
    assert.ok(all >= requests && all <= requests + CONNECTIONS, `${all}, log: ${requests}`);
  }
}
