// Programs that others wrote: nginx serves, curl asks; Go serves and asks itself. What sonde says of either end equals the
// server's log.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Row, shown } from '../../test/h2.ts';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram } from '../../test/peer.ts';
import { portOf } from '../../test/traffic/h2.ts';

const run = promisify(execFile);
const NO_PEERS = NO_LIVE || lacksProgram('nginx', 'curl');

interface Nginx {
  readonly port: number;
  /** Lines of its log: method, path, status, bytes of the body. */
  log(): string[];
}

async function nginx(t: TestContext): Promise<Nginx> {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-nginx-'));
  const free = net.createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const port = portOf(free);
  free.close();
  await once(free, 'close');
  writeFileSync(join(dir, 'page'), 'p'.repeat(100_000));
  const text = `daemon off; pid ${dir}/pid; error_log ${dir}/error; events {}
    http {
      log_format own '$request_method $uri $status $body_bytes_sent';
      access_log ${dir}/access own; client_body_temp_path ${dir}/body;
      proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/fastcgi;
      uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
      server {
        listen 127.0.0.1:${port} http2; root ${dir};
        location /small { return 200 "hello"; }
        location /gone { return 410 "gone"; }
        location /moved { return 302 /small; }
      }
    }`;
  writeFileSync(join(dir, 'nginx.conf'), text);
  const child = spawn('nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')], { stdio: 'ignore' });
  t.after(async () => {
    await stop(child);
    rmSync(dir, { recursive: true, force: true });
  });
  await listens(port);
  const log = () => readFileSync(join(dir, 'access'), 'utf8').trim().split('\n');
  return { port, log };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill('SIGQUIT');
  await once(child, 'exit');
}

async function listens(port: number): Promise<void> {
  for (;;) {
    const socket = net.connect(port, '127.0.0.1');
    const open = await once(socket, 'connect').then(
      () => true,
      () => false, // refused: not yet
    );
    socket.destroy();
    if (open) return;
    await delay(20);
  }
}

/** Lines like nginx's log, counted. */
const counted = (lines: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const line of lines) counts[line] = (counts[line] ?? 0) + 1;
  return Object.fromEntries(Object.entries(counts).sort());
};

/** Rows as such lines; the bytes of rows that are alike are those of each. */
const lines = (rows: readonly Row[]): string[] =>
  rows.flatMap((row) => {
    const count = Number(row.requests);
    const bytes = Number(row.bytes_response) / count;
    const { method, path, status_code } = row;
    return Array.from({ length: count }, () => `${method} ${path} ${status_code} ${bytes}`);
  });

const sum = (counts: Record<string, number>): number =>
  Object.values(counts).reduce((a, b) => a + b);

test('nginx and curl', { skip: NO_PEERS }, async (t) => {
  const live = await startLive(t, { collector: { probes: { http2: { enabled: true } } } });
  const { port, log } = await nginx(t);
  // One request a call: curl 7.88 fails when it uses such a connection again.
  const curl = (path: string, ...words: string[]) =>
    run('curl', ['-sS', '--http2-prior-knowledge', '-o', '/dev/null', ...words, url(port, path)]);
  for (const path of ['small', 'gone', 'moved', 'page', 'missing', 'small?q=1']) {
    for (let i = 0; i < 8; i += 1) await curl(path, ...(i % 2 === 0 ? [] : ['-X', 'DELETE']));
    await curl(path, '--head');
  }
  const truth = counted(log());
  assert.equal(sum(truth), 54);
  await settles(
    () => live.collector.flush(),
    () => Object.values(shown(live, port)).map((rows) => counted(lines(rows))),
    [truth, truth],
  );
  const names = live.sink.rows({ src_port: port }, 'httpflow').map((row) => row.process_name);
  assert.deepEqual([...new Set(names)], ['nginx']);
});

const url = (port: number, path: string): string => `http://127.0.0.1:${port}/${path}`;

const NO_GO =
  NO_LIVE || (!hasGo(1, 24) && 'needs go 1.24: no earlier one serves HTTP/2 in clear text');

function hasGo(major: number, minor: number): boolean {
  const { stdout } = spawnSync('go', ['env', 'GOVERSION'], { encoding: 'utf8' });
  const [, first, second] = /^go(\d+)\.(\d+)/.exec(stdout ?? '') ?? [];
  return Number(first) > major || (Number(first) === major && Number(second) >= minor);
}

async function buildGo(t: TestContext): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-go-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const program = join(dir, 'h2');
  const source = join(import.meta.dirname, '../../test/traffic/h2/main.go');
  await run('go', ['build', '-o', program, source], {
    env: { ...process.env, GO111MODULE: 'off' },
  });
  return program;
}

/** Runs it by these words: 400 requests over each of 3 connections, many at once. */
async function exactGo(t: TestContext, live: Live, words: readonly string[]): Promise<void> {
  const [command = '', ...others] = [...words, '400', '3'];
  const child = spawn(command, others, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  const log = await printed(child, 1 + 1200);
  const truth: Record<string, readonly number[]> = {};
  for (const line of log.slice(1)) {
    const [method, path, status, request, response] = line.split(' ');
    const key = `${method} ${path} ${status}`;
    const [count = 0, asked = 0, answered = 0] = truth[key] ?? [];
    truth[key] = [count + 1, asked + Number(request), answered + Number(response)];
  }
  await settles(
    () => live.collector.flush(),
    () => Object.values(shown(live, Number(log[0]))).map(sums),
    [truth, truth],
  );
}

test('Go', { skip: NO_GO }, async (t) => {
  const program = await buildGo(t);
  const live = await startLive(t, { collector: { probes: { http2: { enabled: true } } } });
  await exactGo(t, live, [program]);
});

const sums = (rows: readonly Row[]): Record<string, readonly number[]> =>
  Object.fromEntries(
    rows.map((row) => [
      `${row.method} ${row.path} ${row.status_code}`,
      [row.requests, row.bytes_request, row.bytes_response].map(Number),
    ]),
  );

async function printed(child: ChildProcess, count: number): Promise<string[]> {
  let text = '';
  child.stdout?.setEncoding('utf8');
  for await (const part of child.stdout ?? []) {
    text += part;
    if (text.split('\n').length > count) break;
  }
  return text.trim().split('\n');
}
