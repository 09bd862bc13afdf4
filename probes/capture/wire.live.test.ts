// Capture where the wire is not kind: segments that are lost and sent again, a server that defers its accepts, and one that
// is client, too.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { liveFolders, NO_LIVE, settles } from '../../test/live.ts';
import { haveIp, makeNamespaces } from '../../test/traffic/traffic.ts';
import { asTruth, byN, exact, exchange, start } from './live/testing.ts';
import { CLIENT, SERVER, startWorker } from './testing.ts';

function have(program: string): boolean {
  return spawnSync(program, ['-v'], { stdio: 'pipe' }).error === undefined;
}

const NO_LOSS = NO_LIVE || (!(haveIp() && have('nft')) && 'needs ip and nft');
const NO_NGINX = NO_LIVE || (!have('nginx') && 'needs nginx');

/** Three of a hundred segments do not arrive, on either side. */
function loseSome(netns: string): void {
  const nft = (...words: string[]): void => {
    execFileSync('ip', ['netns', 'exec', netns, 'nft', words.join(' ')], { stdio: 'pipe' });
  };
  nft('add table inet lossy');
  nft('add chain inet lossy in { type filter hook prerouting priority 0 ; }');
  nft('add rule inet lossy in meta l4proto tcp numgen random mod 100 < 3 counter drop');
}

function lost(netns: string): number {
  const words = ['netns', 'exec', netns, 'nft', 'list', 'table', 'inet', 'lossy'];
  return Number(/packets (\d+)/.exec(execFileSync('ip', words, { encoding: 'utf8' }))?.[1]);
}

for (const mode of ['ingress', 'egress'] as const) {
  test(`segments lost and sent again, ${mode}`, { skip: NO_LOSS }, async (t) => {
    const wire = makeNamespaces(`capture-${process.pid}`);
    t.after(() => wire.remove());
    for (const name of wire.names) loseSome(name);
    const setting = await start(t);
    const server = await startWorker(t, SERVER, wire.names[1]);
    const client = await startWorker(t, CLIENT, wire.names[0]);
    const watched = mode === 'ingress' ? server : client;
    setting.live.collector.selection?.select({ tgid: watched.pid }, mode);
    const host = wire.addresses[1];
    const port = Number(await server.ask({ listen: 0, host }));
    await exact(setting, await exchange(client, port, { host, count: 200 }));
    assert.ok(lost(wire.names[0]) + lost(wire.names[1]) > 0, 'segments were lost');
  });
}

async function startNginx(t: TestContext, upstream: number): Promise<number[]> {
  const { data_dir } = liveFolders(t);
  mkdirSync(join(data_dir, 'tmp'));
  const pid_path = join(data_dir, 'pid');
  const port = 18_000 + (process.pid % 2000);
  writeFileSync(
    join(data_dir, 'nginx.conf'),
    `daemon off; worker_processes 2; user root; pid ${pid_path}; error_log stderr crit;
events { worker_connections 256; }
http { access_log off; client_max_body_size 10m;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${join(data_dir, 'tmp', name)};`)
    .join(' ')}
  server { listen 127.0.0.1:${port} deferred;
    location / { proxy_pass http://127.0.0.1:${upstream}; proxy_http_version 1.1; } } }`,
  );
  const nginx = spawn('nginx', ['-p', data_dir, '-c', join(data_dir, 'nginx.conf')], {
    stdio: 'inherit',
  });
  t.after(() => nginx.kill('SIGKILL'));
  const children = (): number[] =>
    readFileSync(`/proc/${nginx.pid}/task/${nginx.pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .map(Number);
  for (let i = 0; i < 500 && children().filter((pid) => pid > 0).length < 2; i += 1)
    await delay(10);
  const workers = children();
  t.after(() => {
    for (const pid of workers) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it went with its master
      }
    }
  });
  return [port, nginx.pid ?? 0, ...workers];
}

test('nginx, its accepts deferred, before a server of its own', { skip: NO_NGINX }, async (t) => {
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  const [port = 0, ...pids] = await startNginx(t, Number(await server.ask({ listen: 0 })));
  const setting = await start(t);
  const { selection } = setting.live.collector;
  for (const tgid of pids) selection?.select({ tgid }, 'ingress');
  const kept = await exchange(client, port, { count: 200 });
  const closed = await exchange(client, port, { first: 1000, count: 200, close: true });
  await exact(setting, [...kept, ...closed]);
  for (const tgid of pids) selection?.select({ tgid }, 'all');
  const both = await exchange(client, port, { first: 2000, count: 100 });
  await settles(
    () => setting.live.collector.flush(),
    () => setting.reader.count,
    kept.length + closed.length + 2 * both.length,
  );
  const later = setting.reader.lines.slice(kept.length + closed.length);
  for (const mode of ['ingress', 'egress']) {
    const own = later.filter((one) => one.mode === mode);
    assert.deepEqual(byN(own.map(asTruth)), byN(both));
  }
});
