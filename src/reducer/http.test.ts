// The small HTTP port: what its status says.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { alive, type Page, servePages } from './http.ts';

const host = '127.0.0.1';

async function serve(t: TestContext, pages: readonly [string, Page][]) {
  const http = await servePages({ host, port: 0 }, new Map(pages));
  t.after(() => http.close());
  return { url: `http://${host}:${http.port}` };
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
