// A real Prometheus scrapes a real page, hostile names and all, and answers with the sums that went in.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { netflow } from '../../probes/netflow.ts';
import { PrometheusOutlet } from '../outlet/prometheus.ts';
import { installPrometheus } from '../outlet/testing.ts';
import { bytesRead, flowArrow, flowBatch, temporaryDir } from '../store/testing.ts';
import { decodeBatch } from '../table/batch.ts';
import { servePages } from './http.ts';

const host = '127.0.0.1';
const HOSTILE = 'a"b\\c\nd';
const TRIES = 150;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

function filledOutlet(): PrometheusOutlet {
  const outlet = new PrometheusOutlet([netflow]);
  const row = { direction: 'outgoing', process_name: HOSTILE, bytes_read: 1 };
  for (const arrow of [flowBatch(5, 40, Date.now()).arrow, flowArrow([row], Date.now())]) {
    const decoded = decodeBatch(arrow, () => netflow);
    assert.ok(decoded.ok);
    outlet.add(decoded.batch, 'h', Date.now());
  }
  return outlet;
}

/** The values of a query, as soon as there are any. */
async function ask(port: number, query: string, prometheus: ChildProcess): Promise<unknown[]> {
  const url = `http://${host}:${port}/api/v1/query?query=${encodeURIComponent(query)}`;
  for (let i = 0; i < TRIES && prometheus.exitCode === null; i += 1) {
    const answer = await fetch(url)
      .then((response) => response.json())
      .catch(() => undefined);
    // The API of Prometheus: a vector of samples.
    const { result } = (answer as { data?: { result: { value: unknown[] }[] } })?.data ?? {};
    if (result !== undefined && result.length > 0) return result.map(({ value }) => value[1]);
    await sleep(200);
  }
  throw new Error(`Prometheus has no answer to ${query}`);
}

test('a real Prometheus scrapes the page', async (t) => {
  const missing = installPrometheus();
  if (missing !== undefined) return t.skip(missing);
  const dir = temporaryDir();
  const outlet = filledOutlet();
  const page = { content_type: outlet.content_type, text: () => outlet.text() };
  const http = await servePages({ host, port: 0 }, new Map([['/metrics', page]]));
  const port = await freePort();
  const config = join(dir.path, 'prometheus.yml');
  writeFileSync(
    config,
    `scrape_configs: [{job_name: sonde, scrape_interval: 1s, static_configs: [{targets: ['${host}:${http.port}']}]}]`,
  );
  const prometheus = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(dir.path, 'tsdb')}`,
      `--web.listen-address=${host}:${port}`,
    ],
    { stdio: 'ignore' },
  );
  try {
    const total = await ask(port, 'sum(sonde_netflow_bytes_read_total)', prometheus);
    assert.deepEqual(total, [String(bytesRead(5, 40) + 1)]);
    assert.deepEqual(await ask(port, 'up', prometheus), ['1']);
    const named = `sonde_netflow_bytes_read_total{process_name=${JSON.stringify(HOSTILE)}}`;
    assert.deepEqual(await ask(port, named, prometheus), ['1']);
    const quantile =
      'histogram_quantile(1, sum by (le) (sonde_netflow_connect_latency_seconds_bucket))';
    const [longest] = await ask(port, quantile, prometheus);
    assert.ok(Number(longest) > 1e-6 && Number(longest) < 2e-5, String(longest));
  } finally {
    prometheus.kill('SIGKILL');
    await once(prometheus, 'exit');
    await http.close();
    dir.remove();
  }
});
