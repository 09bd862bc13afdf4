// wrk, as fast as it can, against a server in Go and one in Node: sonde counts what the servers counted themselves, to the
// last request, and the time that clients waited is within what wrk says.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram } from '../../test/peer.ts';
import { answeredBy, webServer } from '../../test/traffic/web.ts';

const run = promisify(execFile);
const NO_WRK = NO_LIVE || lacksProgram('wrk');
const CONNECTIONS = 16;

/** Starts a server that says its port in its first line. */
async function serve(t: TestContext, command: string, words: readonly string[]): Promise<number> {
  const server = spawn(command, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => server.kill('SIGKILL'));
  for await (const line of createInterface({ input: server.stdout })) return Number(line);
  throw new Error(`${command} has ended`);
}

interface Counted {
  readonly requests: number;
  /** Of them, those that got a response. */
  readonly responses: number;
  readonly statuses: readonly number[];
  /** Mean, ms. */
  readonly latency: number;
}

function counted(live: Live, port: number, direction: string, path: string): Counted {
  const at = direction === 'incoming' ? { src_port: port } : { dst_port: port };
  const rows = live.sink.rows({ direction, ...at }, 'httpflow').filter((row) => row.path === path);
  const sum = (column: string): number => rows.reduce((all, row) => all + Number(row[column]), 0);
  const requests = sum('count');
  const broken_off = rows.filter((row) => row.status_code === 0);
  const responses = broken_off.reduce((all, row) => all - Number(row.count), requests);
  const statuses = [...new Set(rows.map(({ status_code }) => Number(status_code)))];
  return {
    requests,
    responses,
    statuses: statuses.sort(),
    latency: sum('latency_sum') / requests / 1e6,
  };
}

/** wrk's words for times: 1.25ms, 630.00us. */
function milliseconds(text: string): number {
  const [, value, unit] = /([\d.]+)(us|ms|s)/.exec(text) ?? [];
  return Number(value) * { us: 1e-3, ms: 1, s: 1e3 }[unit as 'us' | 'ms' | 's'];
}

function between(least: number, value: number, most: number): boolean {
  return least <= value && value <= most;
}

interface Load {
  /** Words for wrk. */
  readonly words?: readonly string[];
  /** The collector sweeps and reports all the time meanwhile. */
  readonly swept?: boolean;
}

async function saturated(
  live: Live,
  port: number,
  path: string,
  { words = [], swept = false }: Load = {},
): Promise<void> {
  const before = await answeredBy(port);
  const url = `http://127.0.0.1:${port}${path}`;
  const load = run('wrk', ['-t1', `-c${CONNECTIONS}`, '-d2', ...words, url]);
  let over = !swept;
  const ended = load.finally(() => {
    over = true;
  });
  while (!over) await live.collector.flush();
  const { stdout } = await ended;
  const truth = (await answeredBy(port)) - before;
  const said = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  // What is broken off as it arrives is never read by the server: it has no response, and is more than the truth.
  const exact = ({ requests, responses }: Counted): boolean =>
    between(truth - CONNECTIONS, responses, truth) && between(truth, requests, truth + CONNECTIONS);
  await settles(
    () => live.collector.flush(),
    () => exact(counted(live, port, 'incoming', path)),
    true,
  );
  const client = counted(live, port, 'outgoing', path);
  // wrk breaks off at its end: of each connection one request may be under way
  assert.ok(client.requests >= truth && client.requests <= said + CONNECTIONS, stdout);
  assert.ok(said <= truth && truth <= said + CONNECTIONS, stdout);
  const server = counted(live, port, 'incoming', path);
  const status = path.startsWith('/missing') ? 404 : 200;
  for (const { statuses } of [client, server]) {
    assert.deepEqual(
      statuses.filter((one) => one !== 0),
      [status],
    ); // 0: what was broken off
  }
  const waited = milliseconds(/Latency\s+(\S+)/.exec(stdout)?.[1] ?? '');
  assert.ok(server.latency <= client.latency, `${server.latency} ms, ${client.latency} ms`);
  assert.ok(client.latency <= waited, `sonde: ${client.latency} ms, wrk: ${waited} ms`);
}

async function saturatedBoth(t: TestContext, live: Live, port: number): Promise<void> {
  const words = ['-H', 'Connection: close'];
  const swept = true;
  await t.test('keep-alive', () => saturated(live, port, '/keep'));
  await t.test('keep-alive, missing', () => saturated(live, port, '/missing'));
  await t.test('keep-alive, swept meanwhile', () => saturated(live, port, '/kept', { swept }));
  await t.test('a connection each', () => saturated(live, port, '/close', { words }));
  await t.test('a connection each, swept meanwhile', () =>
    saturated(live, port, '/closed', { words, swept }),
  );
}

async function against(t: TestContext, kind: 'go' | 'node'): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-web-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [command, ...words] = await webServer(kind, folder);
  const live = await startLive(t);
  await saturatedBoth(t, live, await serve(t, command!, words));
}

test('a server in Node', { skip: NO_WRK }, (t) => against(t, 'node'));

test('a server in Go', { skip: NO_WRK || lacksProgram('go') }, (t) => against(t, 'go'));
