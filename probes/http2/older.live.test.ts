// HTTP/2 connections that are older than sonde: every request is counted, and nothing is told that is not so.

import assert from 'node:assert/strict';
import http2 from 'node:http2';
import test from 'node:test';
import { type Row, shown } from '../../test/h2.ts';
import { NO_LIVE, settles, startLive } from '../../test/live.ts';
import { ask, finish, h2Server, portOf, type Truth } from '../../test/traffic/h2.ts';
import { routeOf } from '../http/route.ts';

const METHODS = ['GET', 'POST', 'DELETE'];

/** One after the other, so that each end of a request is seen before the next begins. */
async function calls(session: http2.ClientHttp2Session, words: readonly string[]): Promise<void> {
  for (const [i, word] of words.entries()) {
    const method = METHODS[i % METHODS.length]!;
    const body = method === 'POST' ? Buffer.alloc(10 + i, 'q') : undefined;
    await ask(session, method, `/s/${[200, 404, 201][i % 3]}/${i}/${word}`, body, {
      'x-word': word,
    });
  }
}

/** 201 is not in HPACK's static table: once sent, it is referred to, and who was not there cannot know it. */
const byStatus = (rows: readonly Row[]): Row => {
  const counts: Record<string, number> = {};
  for (const row of rows) {
    const name = row.status_code === 0 || row.status_code === 201 ? 'other' : `${row.status_code}`;
    counts[name] = (counts[name] ?? 0) + Number(row.requests);
  }
  return counts;
};

test('connections that are older than sonde', { skip: NO_LIVE }, async (t) => {
  const truths: Truth[] = [];
  const server = await h2Server(truths);
  const port = portOf(server);
  const sessions = Array.from({ length: 3 }, () => http2.connect(`http://127.0.0.1:${port}`));
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  await Promise.all(sessions.map((session) => calls(session, ['old', 'older', 'oldest'])));
  const live = await startLive(t, { collector: { probes: { http2: { enabled: true } } } });
  truths.length = 0;
  const words = Array.from({ length: 90 }, (_, i) => (i % 2 === 0 ? 'old' : `new${i}`));
  await Promise.all(sessions.map((session) => calls(session, words)));
  await Promise.all(sessions.map(finish));
  const expected = { 200: 90, 404: 90, other: 90 };
  assert.equal(truths.length, 270);
  await settles(
    () => live.collector.flush(),
    () => Object.values(shown(live, port)).map(byStatus),
    [expected, expected],
  );
  const true_methods = new Set(truths.map(({ method, path }) => `${method} ${routeOf(path)}`));
  const { server: at_server, client: at_client } = shown(live, port);
  for (const row of [...at_server, ...at_client]) {
    const { method, path } = row;
    assert.ok(method === 'unknown' || METHODS.includes(String(method)), `method ${method}`);
    const known = method !== 'unknown' && path !== 'unknown';
    assert.ok(!known || true_methods.has(`${method} ${path}`), `${method} ${path}`);
  }
  const unknown = at_server.filter(({ path }) => path === 'unknown');
  const count = unknown.reduce((sum, { requests }) => sum + Number(requests), 0);
  t.diagnostic(`${count} of 270 requests of an unknown path`);
  assert.equal(count, 3); // the request by which each connection was known
});
