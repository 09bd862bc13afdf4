// A real Redis with its own programs as clients: what sonde says of both ends is what the server says of itself
// (INFO commandstats and errorstats, asked for over a Unix socket, which is not looked at).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  bothEnds,
  type Counts,
  freePort,
  output,
  rowsAt,
  sums,
  turnedAway,
} from '../../test/db.ts';
import { type Live, lacks, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram } from '../../test/peer.ts';

const NO_REDIS = NO_LIVE || lacksProgram('redis-server', 'redis-benchmark');
const PATIENCE_MS = 20_000;
const RING_BYTES = 64 << 20;
const PIPELINED = 200;

interface Redis {
  readonly port: number;
  readonly pid: number;
  /** Calls by command, rejected ones too; and errors by their first word. */
  truth(): Promise<{ calls: Counts; errors: Counts }>;
}

async function startRedis(t: TestContext): Promise<Redis> {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-redis-'));
  const port = await freePort();
  const socket = join(folder, 'socket');
  const words = ['--port', `${port}`, '--unixsocket', socket, '--save', '', '--dir', folder];
  const child = spawn('redis-server', words, { stdio: 'ignore' });
  t.after(async () => {
    child.kill('SIGKILL');
    await once(child, 'close');
    rmSync(folder, { recursive: true });
  });
  const end = Date.now() + PATIENCE_MS;
  while (!existsSync(socket) && Date.now() < end) await delay(20);
  const ask = (...words: string[]) => output('redis-cli', ['-s', socket, ...words]);
  await ask('CONFIG', 'RESETSTAT');
  return {
    port,
    pid: child.pid!,
    truth: async () => {
      const calls: Counts = {};
      for (const line of (await ask('INFO', 'commandstats')).split('\n')) {
        const found = /^cmdstat_([^:|]+)[^:]*:calls=(\d+).*rejected_calls=(\d+)/.exec(line);
        if (found === null) continue;
        const name = found[1]!.toUpperCase();
        calls[name] = (calls[name] ?? 0) + Number(found[2]) + Number(found[3]);
      }
      const errors: Counts = {};
      for (const line of (await ask('INFO', 'errorstats')).split('\n')) {
        const found = /^errorstat_([^:]+):count=(\d+)/.exec(line);
        if (found !== null) errors[found[1]!] = Number(found[2]);
      }
      return { calls, errors };
    },
  };
}

function start(t: TestContext, port: number, ring_bytes = RING_BYTES): Promise<Live> {
  const collector = {
    redis: { ports: [port] },
    probes: { redis: { enabled: true } },
    ring_bytes,
  };
  return startLive(t, { collector });
}

/** Of one end, by command whatever came of it. */
function byCommand(live: Live, port: number, direction: string): Counts {
  const all: Counts = {};
  for (const [key, count] of Object.entries(sums(rowsAt(live, port, direction)))) {
    const [name = ''] = key.split(' ');
    all[name] = (all[name] ?? 0) + count;
  }
  return all;
}

/** The commands by which the test itself asks are not over TCP. */
async function asServer(live: Live, { port, truth }: Redis, ignored: readonly string[] = []) {
  const { calls, errors } = await truth();
  for (const name of ignored) delete calls[name];
  const seen = (direction: string): Counts => {
    const all = byCommand(live, port, direction);
    for (const name of ignored) delete all[name];
    return all;
  };
  await settles(
    () => live.collector.flush(),
    () => ({ incoming: sorted(seen('incoming')), outgoing: sorted(seen('outgoing')) }),
    { incoming: sorted(calls), outgoing: sorted(calls) },
  );
  return errors;
}

const sorted = (counts: Counts): Counts =>
  Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));

test('redis-benchmark, pipelined: the server says the same', { skip: NO_REDIS }, async (t) => {
  const redis = await startRedis(t);
  const live = await start(t, redis.port);
  const why = lacks(live, 'redis');
  if (why !== false) return t.skip(why);
  for (const pipeline of ['1', '16']) {
    const kinds = 'ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,mset';
    const words = ['-p', `${redis.port}`, '-n', '2000', '-c', '8', '-q', '-P', pipeline];
    await output('redis-benchmark', [...words, '-r', '1000', '-t', kinds]);
  }
  await asServer(live, redis, ['INFO', 'CONFIG']);
  assert.deepEqual(turnedAway(live), {});
  for (const direction of ['incoming', 'outgoing']) {
    const rows = rowsAt(live, redis.port, direction);
    const count = rows.reduce((sum, row) => sum + Number(row.count), 0);
    const timed = rows.reduce((sum, row) => sum + Number(row.latency_count), 0);
    assert.equal(timed, count);
    for (const row of rows) {
      assert.equal(row.db_system_name, 'redis');
      assert.ok(Number(row.duration) >= Number(row.latency_max));
      if (direction === 'incoming') assert.equal(row.pid, redis.pid);
      else assert.equal(row.process_name, 'redis-benchmark');
    }
  }
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

test('large values, in both versions of the protocol', { skip: NO_REDIS }, async (t) => {
  const redis = await startRedis(t);
  const live = await start(t, redis.port);
  for (const [bytes, times] of [
    ['1', '40'],
    ['5000', '40'],
    ['300000', '8'],
  ] as const) {
    const words = ['-p', `${redis.port}`, '-n', times, '-c', '4', '-q', '-d', bytes];
    await output('redis-benchmark', [...words, '-t', 'set,get', '-3']);
    await output('redis-benchmark', [...words, '-t', 'set,get', '-P', '4']);
  }
  await asServer(live, redis, ['INFO', 'CONFIG']);
  assert.deepEqual(turnedAway(live), {});
  const written = sums(rowsAt(live, redis.port, 'outgoing'), 'bytes_written').SET ?? 0;
  assert.ok(written > 16 * 300_000, `SET has ${written} bytes`);
});

test('a value larger than the ring is counted exactly', { skip: NO_REDIS }, larger);

async function larger(t: TestContext): Promise<void> {
  const redis = await startRedis(t);
  const live = await start(t, redis.port, 8 << 20);
  const words = ['-p', `${redis.port}`, '-n', '6', '-c', '1', '-q', '-d', String(20 << 20)];
  await output('redis-benchmark', [...words, '-t', 'set,get']);
  await asServer(live, redis, ['INFO', 'CONFIG']);
  const { 'db_bytes_passed_over kept': passed = 0, ...others } = turnedAway(live);
  assert.deepEqual(others, {});
  assert.ok(passed > 20 << 20);
  for (const direction of ['incoming', 'outgoing']) {
    const rows = rowsAt(live, redis.port, direction);
    const [read, written] = direction === 'incoming' ? ['SET', 'GET'] : ['GET', 'SET'];
    assert.ok((sums(rows, 'bytes_read')[read] ?? 0) > 6 * (20 << 20));
    assert.ok((sums(rows, 'bytes_written')[written] ?? 0) > 6 * (20 << 20));
  }
}

const ERRORS = ['SET s text', 'LPUSH s 1', 'INCR s', 'GET', 'NOSUCH 1', 'HGET s f', 'GET s'];

test('errors have their first word', { skip: NO_REDIS }, async (t) => {
  const redis = await startRedis(t);
  const live = await start(t, redis.port);
  const socket = await open(redis.port);
  await say(socket, `${ERRORS.join('\r\n')}\r\n`, 'text\r\n');
  socket.end();
  await bothEnds(live, redis.port, {
    SET: 1,
    GET: 1,
    'GET ERR': 1,
    'INCR ERR': 1,
    'LPUSH WRONGTYPE': 1,
    'HGET WRONGTYPE': 1,
    'NOSUCH ERR': 1,
  });
  const { errors } = await redis.truth();
  assert.deepEqual(errors, { ERR: 3, WRONGTYPE: 2 });
});

/** A client of the test's own: what it sends, and all that comes until it has read `until`. */
async function say(socket: Socket, text: string, until: string): Promise<string> {
  let said = '';
  const take = (bytes: Buffer): void => {
    said += bytes.toString('latin1');
  };
  socket.on('data', take);
  socket.write(text);
  while (!said.endsWith(until)) await once(socket, 'data', { signal: patience() });
  socket.off('data', take);
  return said;
}

const patience = (): AbortSignal => AbortSignal.timeout(PATIENCE_MS);

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1').setNoDelay(true);
  await once(socket, 'connect', { signal: patience() });
  return socket;
}

test('channels, transactions, silence, pieces', { skip: NO_REDIS }, async (t) => {
  const redis = await startRedis(t);
  const live = await start(t, redis.port);
  const one = await open(redis.port);
  const two = await open(redis.port);
  await say(one, 'SUBSCRIBE a b c\r\n', '$1\r\nc\r\n:3\r\n');
  for (let i = 0; i < 5; i += 1) await say(two, 'PUBLISH a text\r\n', ':1\r\n');
  await say(one, 'PING\r\n', '$4\r\npong\r\n$0\r\n\r\n');
  await say(one, 'UNSUBSCRIBE\r\n', ':0\r\n');
  await say(one, 'MULTI\r\nSET k v\r\nGET k\r\nEXEC\r\n', '$1\r\nv\r\n');
  await say(two, 'HELLO 3\r\nSUBSCRIBE x y\r\nGET k\r\n', '$1\r\nv\r\n');
  await say(one, 'CLIENT REPLY OFF\r\nSET k w\r\nSET k x\r\nCLIENT REPLY ON\r\n', '+OK\r\n');
  await say(one, 'CLIENT REPLY SKIP\r\nSET k y\r\nGET k\r\n', '$1\r\ny\r\n');
  for (const piece of '*3\r\n$3\r\nset\r\n$1\r\nk\r\n$3\r\na\r\n\r') {
    one.write(piece);
    await delay(1);
  }
  await say(one, '\n', '+OK\r\n');
  one.end();
  two.end();
  const keep = (key: string): boolean => key !== 'INFO';
  const expected = {
    ...{ SUBSCRIBE: 2, PUBLISH: 5, PING: 1, UNSUBSCRIBE: 1, MULTI: 1, EXEC: 1, HELLO: 1 },
    ...{ SET: 5, GET: 3, CLIENT: 3 },
  };
  await bothEnds(live, redis.port, expected, keep);
  await asServer(live, redis, ['INFO', 'CONFIG']);
  assert.deepEqual(turnedAway(live), {});
});

test('a connection that is older is counted from its first pause on', { skip: NO_REDIS }, older);

async function older(t: TestContext): Promise<void> {
  const redis = await startRedis(t);
  const socket = await open(redis.port);
  await say(socket, 'SET k v\r\n', '+OK\r\n');
  const live = await start(t, redis.port);
  await delay(200);
  const get = '*2\r\n$3\r\nGET\r\n$1\r\nk\r\n';
  await say(socket, get.repeat(PIPELINED), '$1\r\nv\r\n'.repeat(PIPELINED));
  await delay(200);
  await say(socket, get, '$1\r\nv\r\n');
  socket.end();
  await bothEnds(live, redis.port, { GET: PIPELINED + 1 });
  assert.deepEqual(turnedAway(live), { 'db_place_found kept': 2 });
}
