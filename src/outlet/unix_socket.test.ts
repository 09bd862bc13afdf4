// The outlet against readers that come late, stop, and go: seen = sent + dropped + waiting at any time.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { UnixSocketOutlet } from './unix_socket.ts';

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'sonde-outlet-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

interface Reading {
  readonly server: Server;
  readonly sockets: Socket[];
  text: string;
}

async function listen(t: TestContext, path: string, paused = false): Promise<Reading> {
  const reading: Reading = { server: createServer(), sockets: [], text: '' };
  reading.server.on('connection', (socket) => {
    reading.sockets.push(socket);
    socket.on('data', (bytes) => {
      reading.text += bytes.toString();
    });
    socket.on('error', () => undefined);
    if (paused) socket.pause();
  });
  await new Promise<void>((done) => reading.server.listen(path, done));
  t.after(() => stop(reading));
  return reading;
}

async function stop({ server, sockets }: Reading): Promise<void> {
  for (const socket of sockets) socket.destroy();
  await new Promise<void>((done) => server.close(() => done()));
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await delay(5);
}

function balanced({ counts }: UnixSocketOutlet): void {
  const dropped = Object.values(counts.dropped).reduce((sum, one) => sum + one, 0);
  assert.equal(counts.sent + counts.waiting + dropped, counts.seen);
}

function open(t: TestContext, path: string, more: object = {}): UnixSocketOutlet {
  const outlet = new UnixSocketOutlet({
    ...{ path, lines_max: 100, bytes_max: 1 << 20, retry_ms: 10 },
    ...more,
  });
  t.after(() => outlet.close(0));
  return outlet;
}

test('lines wait for a reader that comes late, up to the limit', async (t) => {
  const path = join(folder(t), 's');
  const outlet = open(t, path);
  for (let i = 0; i < 150; i += 1) assert.equal(outlet.send(`line ${i}`), i < 100);
  balanced(outlet);
  assert.deepEqual([outlet.counts.waiting, outlet.counts.dropped.queue_full], [100, 50]);
  const reader = await listen(t, path);
  await until(() => outlet.counts.waiting === 0);
  await until(() => reader.text.split('\n').length === 101);
  assert.equal(reader.text.split('\n')[99], 'line 99');
  balanced(outlet);
});

test('a reader that stops, and reads on', async (t) => {
  const path = join(folder(t), 's');
  const reader = await listen(t, path, true);
  const outlet = open(t, path, { bytes_max: 10 << 20 });
  const line = 'x'.repeat(100_000);
  for (let i = 0; i < 300; i += 1) {
    outlet.send(`${i} ${line}`);
    balanced(outlet);
    if (i % 10 === 0) await delay(1);
  }
  const { dropped, sent, waiting } = outlet.counts;
  assert.ok(dropped.queue_full! > 100 && waiting <= 100, JSON.stringify(outlet.counts));
  for (const socket of reader.sockets) socket.resume();
  await until(() => outlet.counts.waiting === 0);
  const expected = sent + waiting;
  await until(() => reader.text.split('\n').length - 1 === expected);
  balanced(outlet);
  assert.equal(outlet.counts.dropped.queue_full, dropped.queue_full);
});

test('a limit in bytes, too', async (t) => {
  const outlet = open(t, join(folder(t), 's'), { bytes_max: 1000 });
  assert.equal(outlet.send('a'.repeat(600)), true);
  assert.equal(outlet.send('b'.repeat(600)), false);
  assert.equal(outlet.send('c'.repeat(300)), true);
  balanced(outlet);
});

test('a reader that goes: what was under way is counted, and the next one is found', async (t) => {
  const path = join(folder(t), 's');
  const first = await listen(t, path, true);
  const states: string[] = [];
  const outlet = open(t, path, {
    bytes_max: 10 << 20,
    on_state: (state: string) => states.push(state),
  });
  await until(() => first.sockets.length === 1);
  for (let i = 0; i < 20; i += 1) outlet.send('y'.repeat(200_000));
  await delay(20);
  await stop(first);
  rmSync(path, { force: true });
  await until(() => states.includes('disconnected'));
  balanced(outlet);
  const second = await listen(t, path);
  await until(() => states.filter((state) => state === 'connected').length === 2);
  outlet.send('after');
  await until(() => second.text.endsWith('after\n'));
  balanced(outlet);
  await outlet.close(1000);
  assert.equal(outlet.send('too late'), false);
  balanced(outlet);
});
