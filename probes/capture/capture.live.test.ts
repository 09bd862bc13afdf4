// Captured exchanges against what the programs themselves say that they sent and received, byte for byte.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';
import { type Live, liveFolders, NO_LIVE, settles, startLive } from '../../test/live.ts';
import {
  bodyOf,
  type Captured,
  CLIENT,
  headerOfSaid,
  Reader,
  SERVER,
  startWorker,
  type Worker,
} from './testing.ts';

const REQUESTS = 1000;

/** What a worker says of one request. */
interface Truth {
  readonly n: number;
  readonly status: number;
  readonly body: string;
  readonly bytes: number;
  readonly answer: string;
  readonly answer_bytes: number;
}

type CaptureConfig = Config['collector']['capture'];

interface Setting {
  readonly live: Live;
  readonly reader: Reader;
}

async function start(t: TestContext, capture: Partial<CaptureConfig> = {}): Promise<Setting> {
  const { data_dir } = liveFolders(t);
  const reader = await Reader.listen(t, join(data_dir, 'reader.sock'));
  const { config } = loadConfig({ role: 'run', flags: { '--data-dir': data_dir }, sources: [] });
  const live = await startLive(t, {
    collector: {
      probes: { capture: { enabled: true } },
      ring_bytes: 64 << 20, // the traffic comes at full speed, and this process checks it meanwhile
      capture: {
        ...config.collector.capture,
        perfmap_queue_size: 12_000,
        unix_domain_socket_addr: reader.path,
        ...capture,
      },
    },
  });
  return { live, reader };
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** What the reader got, in the form in which the client told it. */
function asTruth({ request, response }: Captured): Truth {
  assert.ok(response !== null);
  return {
    n: Number(headerOfSaid(request, 'x-n')),
    status: response.status ?? 0,
    body: hash(bodyOf(request)),
    bytes: request.body_bytes,
    answer: hash(bodyOf(response)),
    answer_bytes: response.body_bytes,
  };
}

function byN(list: readonly Truth[]): readonly Truth[] {
  return [...list].sort((a, b) => a.n - b.n);
}

async function exchange(client: Worker, port: number, more: object = {}): Promise<Truth[]> {
  const words = { port, first: 0, count: REQUESTS, ...more };
  const said = await client.ask(words);
  assert.ok(Array.isArray(said), JSON.stringify(said).slice(0, 500));
  return said;
}

test('a server that is selected before it listens', { skip: NO_LIVE }, async (t) => {
  const { live, reader } = await start(t);
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  live.collector.selection?.select({ tgid: server.pid }, 'ingress');
  const port = Number(await server.ask({ listen: 0 }));
  const told = await exchange(client, port);
  await settles(
    () => live.collector.flush(),
    () => reader.lines.length,
    told.length,
  );
  assert.deepEqual(byN(reader.lines.map(asTruth)), byN(told));
  const text = reader.raw.toString('latin1');
  for (const secret of ['client-secret', 'server-secret', 'query-secret']) {
    assert.ok(!text.includes(secret), `${secret} left the collector`);
  }
  for (const one of reader.lines) {
    assert.equal(one.complete, true);
    assert.equal(one.mode, 'ingress');
    assert.equal(one.process.pid, server.pid);
    assert.equal(one.server.port, port);
    assert.equal(headerOfSaid(one.request, 'authorization'), '<redacted>');
  }
  const [stats] = live.sink.rows({}, 'capture_stats');
  assert.deepEqual(
    [stats?.exchanges_seen, stats?.requests_sent, stats?.requests_parsed, stats?.events_lost],
    [REQUESTS, REQUESTS, REQUESTS, 0],
  );
  assert.deepEqual(
    [stats?.request_errors, stats?.response_errors, stats?.exchanges_incomplete],
    [0, 0, 0],
  );
  await delay(0);
});
