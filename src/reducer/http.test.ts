// The small HTTP port: what its status says, and that those who say nothing do not keep others out.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { alive, type Page, servePages } from './http.ts';

const host = '127.0.0.1';

async function serve(t: TestContext, pages: readonly [string, Page][], timeout_ms?: number) {
  const http = await servePages({ host, port: 0 }, new Map(pages), timeout_ms);
  t.after(() => http.close());
  return { port: http.port, url: `http://${host}:${http.port}` };
}

test('a page of what is not well has status 503, and its text', async (t) => {
  let well = true;
  const health = { content_type: 'text/plain', text: async () => `${well}`, isWell: () => well };
  const { url } = await serve(t, [
    ['/healthz', health],
    ['/livez', alive],
  ]);
  const statusOf = async (path: string) => {
    const answer = await fetch(`${url}${path}`);
    return [answer.status, await answer.text()];
  };
  assert.deepEqual(await statusOf('/healthz'), [200, 'true']);
  well = false;
  assert.deepEqual(await statusOf('/healthz'), [503, 'false']);
  assert.deepEqual(await statusOf('/livez'), [200, 'ok\n']);
});

test('connections that say nothing are closed in time', async (t) => {
  const timeout_ms = 500;
  const { port, url } = await serve(t, [['/livez', alive]], timeout_ms);
  const silent = Array.from({ length: 64 }, () => connect(port, host).resume());
  for (const socket of silent) socket.on('error', () => undefined);
  await Promise.all(silent.map((socket) => once(socket, 'connect')));
  await assert.rejects(fetch(`${url}/livez`), 'all places are taken');
  const begin_ms = performance.now();
  await Promise.all(silent.map((socket) => once(socket, 'close')));
  assert.ok(performance.now() - begin_ms < 10 * timeout_ms);
  assert.equal((await fetch(`${url}/livez`)).status, 200);
});
