// HTTP/2 between a server and clients of Node's, over real sockets: what sonde says of either end equals what the server
// answered, exactly.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import test, { type TestContext } from 'node:test';
import { exact, type Row, shown } from '../../test/h2.ts';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import {
  ask,
  finish,
  h2Server,
  portOf,
  relayTo,
  round,
  type Truth,
} from '../../test/traffic/h2.ts';

async function serve(t: TestContext): Promise<{ port: number; truths: Truth[] }> {
  const truths: Truth[] = [];
  const server = await h2Server(truths);
  t.after(() => server.close());
  return { port: portOf(server), truths };
}

/** Sums over what both ends of a port show: for connections whose rows are not all alike. */
function total(live: Live, port: number): { server: number; client: number } {
  const { server, client } = shown(live, port);
  const sum = (rows: readonly Row[]) => rows.reduce((n, row) => n + Number(row.requests), 0);
  return { server: sum(server), client: sum(client) };
}

test('HTTP/2 in clear text', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { probes: { http2: { enabled: true } } } });
  await t.test('several connections, multiplexed, of all kinds', async (s) => {
    const { port, truths } = await serve(s);
    const sessions = Array.from({ length: 4 }, () => http2.connect(`http://127.0.0.1:${port}`));
    for (let n = 0; n < 8; n += 1) {
      await Promise.all(sessions.map((session) => round(session, n, 30)));
    }
    await Promise.all(sessions.map(finish));
    assert.equal(truths.length, 4 * 8 * 33);
    await exact(live, port, truths);
  });
  for (const piece of [1, 5, 9, 700]) {
    await t.test(`in segments of ${piece} bytes`, async (s) => {
      const { port, truths } = await serve(s);
      const relay = await relayTo(port, piece);
      s.after(() => relay.close());
      const session = http2.connect(`http://127.0.0.1:${relay.port}`);
      for (let n = 0; n < 3; n += 1) await round(session, n, 6);
      await finish(session);
      await exact(live, port, truths);
      await exact(live, relay.port, truths);
    });
  }
  await t.test('large bodies, both ways', async (s) => {
    const { port, truths } = await serve(s);
    const session = http2.connect(`http://127.0.0.1:${port}`);
    await Promise.all(
      [3, 5, 8].map((n) =>
        ask(session, 'POST', `/s/200/${n * 1_000_003}/x`, Buffer.alloc(n * 700_001, 'q')),
      ),
    );
    await finish(session);
    await exact(live, port, truths);
  });
  await t.test('a thousand short connections', async (s) => {
    const { port, truths } = await serve(s);
    for (let n = 0; n < 50; n += 1) {
      const sessions = Array.from({ length: 20 }, () => http2.connect(`http://127.0.0.1:${port}`));
      await Promise.all(sessions.map((one) => ask(one, 'GET', `/s/200/5/short`, undefined)));
      await Promise.all(sessions.map(finish));
    }
    assert.equal(truths.length, 1000);
    await exact(live, port, truths);
  });
  await t.test('a client that goes in the middle of a response', async (s) => {
    const server = http2.createServer((request, response) => {
      response.writeHead(206);
      response.write('some');
      request.stream.on('error', () => request.stream.destroy());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    s.after(() => server.close());
    const socket = net.connect(portOf(server), '127.0.0.1');
    const session = http2.connect('http://127.0.0.1', { createConnection: () => socket });
    session.on('error', () => session.destroy());
    const request = session.request({ ':path': '/never-ends' });
    request.on('error', () => request.destroy());
    await once(request, 'data');
    socket.resetAndDestroy();
    const row = { method: 'GET', path: '/never-ends', status_code: 206, requests: 1 };
    await settles(
      () => live.collector.flush(),
      () => Object.values(shown(live, portOf(server))).map((rows) => rows.map(named)),
      [[row], [row]],
    );
  });
  await t.test('other protocols, and bytes at random, are not taken for HTTP/2', async (s) => {
    await others(s, live);
  });
});

const named = ({ method, path, status_code, requests: count }: Row): Row => ({
  method: method!,
  path: path!,
  status_code: status_code!,
  requests: count!,
});

/** Deterministic noise. */
function noise(seed: number, length: number): Buffer {
  let state = seed * 2654435761 + 1;
  return Buffer.from(
    Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    }),
  );
}

async function others(t: TestContext, live: Live): Promise<void> {
  let received = 0;
  const server = net.createServer((socket) => {
    socket.on('data', (bytes) => {
      received += bytes.length;
      socket.write(bytes);
    });
    socket.on('error', () => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const port = portOf(server);
  let sent = 0;
  for (let n = 0; n < 100; n += 1) {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    for (let i = 0; i < 20; i += 1) {
      // Also with what a frame's head begins with: a length of less than 64 KB, and a type.
      const bytes = noise(n * 20 + i, 9 + ((n * 37 + i * 101) % 900));
      if (i % 2 === 0) bytes.set([0, i, n, i % 10], 0);
      sent += bytes.length;
      socket.write(bytes);
      await once(socket, 'data');
    }
    socket.end();
    await once(socket, 'close');
  }
  assert.equal(received, sent);
  await live.collector.flush();
  assert.deepEqual(total(live, port), { server: 0, client: 0 });
}
