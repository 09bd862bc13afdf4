// A collector that captures, with its reader; and what the client's word is compared with.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { loadConfig } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/schema.ts';
import { type Live, liveFolders, settles, startLive } from '../../../test/live.ts';
import { bodyOf, type Captured, headerOfSaid, Reader, type Worker } from '../testing.ts';

export const REQUESTS = 1000;

/** What a worker says of one request. */
export interface Truth {
  readonly n: number;
  readonly status: number;
  readonly body: string;
  readonly bytes: number;
  readonly answer: string;
  readonly answer_bytes: number;
}

type CaptureConfig = Config['collector']['capture'];

export interface Setting {
  readonly live: Live;
  readonly reader: Reader;
}

export async function start(
  t: TestContext,
  capture: Partial<CaptureConfig> = {},
): Promise<Setting> {
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
export function asTruth({ request, response }: Captured): Truth {
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

export function byN(list: readonly Truth[]): readonly Truth[] {
  return [...list].sort((a, b) => a.n - b.n);
}

export async function exchange(client: Worker, port: number, more: object = {}): Promise<Truth[]> {
  const words = { port, first: 0, count: REQUESTS, ...more };
  const said = await client.ask(words);
  assert.ok(Array.isArray(said), JSON.stringify(said).slice(0, 500));
  return said;
}

/** All of what the client told came to the reader, equal; and nothing else. */
export async function exact({ live, reader }: Setting, told: readonly Truth[]): Promise<void> {
  await settles(
    () => live.collector.flush(),
    () => reader.count,
    told.length,
  );
  assert.deepEqual(byN(reader.lines.map(asTruth)), byN(told));
}
