// Captured exchanges against what the programs themselves say that they sent and received, byte for byte.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { hostPaths } from '../../src/collector/host.ts';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { asTruth, byN, exact, exchange, REQUESTS, start } from './live/testing.ts';
import { bodyOf, type Captured, CLIENT, headerOfSaid, SERVER, startWorker } from './testing.ts';

test('a server that is selected before it listens', { skip: NO_LIVE }, async (t) => {
  const setting = await start(t);
  const { live, reader } = setting;
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  live.collector.selection?.select({ tgid: server.pid }, 'ingress');
  const port = Number(await server.ask({ listen: 0 }));
  await exact(setting, await exchange(client, port));
  const text = reader.raw.toString('latin1');
  for (const secret of ['client-secret', 'server-secret', 'query-secret']) {
    assert.ok(!text.includes(secret), `${secret} left the collector`);
  }
  for (const one of reader.lines) {
    assert.deepEqual(
      [one.complete, one.mode, one.process.pid, one.server.port],
      [true, 'ingress', server.pid, port],
    );
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
  await t.test('the catalogue has its operation', () => catalogued(live, port));
});

function catalogued(live: Live, port: number): void {
  const rows = live.sink.rows({ place: '' }, 'api_catalog');
  const [row] = rows;
  assert.equal(rows.length, 1);
  assert.deepEqual(
    [row?.method, row?.route, row?.auth, row?.role, row?.requests],
    ['POST', '/things/{id}', 'bearer', 'server', REQUESTS],
  );
  assert.equal(row?.status_2xx, REQUESTS);
  assert.ok(String(row?.service).endsWith(`:${port}`));
  const parameters = live.sink
    .rows({}, 'api_catalog')
    .filter(({ place }) => place !== '')
    .map(({ place, parameter, kind, requests }) => [place, parameter, kind, requests]);
  assert.deepEqual(parameters.sort(), [
    ['path', 'id', 'integer', REQUESTS],
    ['query', 'n', 'integer', REQUESTS],
    ['query', 'token', 'string', REQUESTS],
  ]);
}

test('connections that are older than their selection', { skip: NO_LIVE }, async (t) => {
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  const port = Number(await server.ask({ listen: 0 }));
  await exchange(client, port, { first: 5000, count: 40 });
  const setting = await start(t);
  setting.live.collector.selection?.select({ tgid: server.pid }, 'ingress');
  await exact(setting, await exchange(client, port, { count: 200 }));
  setting.live.collector.selection?.unselect({ tgid: server.pid });
  await exchange(client, port, { first: 6000, count: 40 });
  await exchange(client, port, { first: 7000, count: 40, close: true });
  await setting.live.collector.flush();
  assert.equal(setting.reader.count, 200);
});

test('a connection for each request', { skip: NO_LIVE }, async (t) => {
  const setting = await start(t);
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  const port = Number(await server.ask({ listen: 0, host: '::' }));
  setting.live.collector.selection?.select({ tgid: server.pid }, 'ingress');
  await exact(setting, await exchange(client, port, { count: 300, close: true }));
});

test('only the client, in mode egress', { skip: NO_LIVE }, async (t) => {
  const setting = await start(t);
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  const port = Number(await server.ask({ listen: 0 }));
  setting.live.collector.selection?.select({ tgid: client.pid }, 'egress');
  await exact(setting, await exchange(client, port, { count: 300 }));
  for (const one of setting.reader.lines) {
    assert.deepEqual([one.mode, one.process.pid], ['egress', client.pid]);
  }
});

test('nobody, and who is not selected', { skip: NO_LIVE }, async (t) => {
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  const other = await startWorker(t, SERVER);
  const port = Number(await server.ask({ listen: 0 }));
  await t.test('off by default: not even the maps are there', async (s) => {
    const live = await startLive(s);
    assert.equal(live.collector.selection, undefined);
    assert.throws(() => live.collector.kernel.map('capture_conns'), /no map/);
    await live.collector.stop(1000);
  });
  const setting = await start(t);
  const { selection } = setting.live.collector;
  await exchange(client, port, { count: 100 });
  selection?.select({ tgid: other.pid }, 'all');
  selection?.select({ tgid: server.pid }, 'egress'); // it asks nobody
  await exchange(client, port, { count: 100 });
  await setting.live.collector.flush();
  assert.equal(setting.reader.count, 0);
  const [stats] = setting.live.sink.rows({}, 'capture_stats');
  assert.deepEqual([stats?.control_events, stats?.data_events], [0, 0]);
});

test('everybody', { skip: NO_LIVE }, async (t) => {
  const setting = await start(t, { capture_all_namespaces: true });
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  const port = Number(await server.ask({ listen: 0 }));
  const told = await exchange(client, port, { count: 100 });
  const own = (): readonly Captured[] =>
    setting.reader.lines.filter(({ server: end }) => end.port === port);
  await settles(
    () => setting.live.collector.flush(),
    () => own().length,
    told.length,
  );
  assert.deepEqual(byN(own().map(asTruth)), byN(told));
});

test('messages beyond the limit', { skip: NO_LIVE }, async (t) => {
  const setting = await start(t, { message_bytes_max: 20_000 });
  const { live, reader } = setting;
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  live.collector.selection?.select({ tgid: server.pid }, 'ingress');
  const port = Number(await server.ask({ listen: 0 }));
  const told = await exchange(client, port, { count: 300, length: true });
  await settles(
    () => live.collector.flush(),
    () => reader.count,
    told.length,
  );
  const by_n = new Map(told.map((one) => [one.n, one]));
  let cut = 0;
  for (const one of reader.lines) {
    const is = asTruth(one);
    const truth = by_n.get(is.n);
    // what was cut has its length all the same, where the message tells it
    assert.deepEqual([is.bytes, is.status], [truth?.bytes, truth?.status]);
    if (one.request.complete) assert.equal(is.body, truth?.body);
    else {
      cut += 1;
      assert.equal(one.request.cut, 'limit');
    }
    assert.ok(bodyOf(one.request).length <= 20_000);
    assert.equal(one.request.complete, is.bytes < 20_000);
  }
  assert.ok(cut > 20);
});

test('a reader that stops', { skip: NO_LIVE }, async (t) => {
  const setting = await start(t, { uds_event_queue_size: 50 });
  const { live, reader } = setting;
  const server = await startWorker(t, SERVER);
  const client = await startWorker(t, CLIENT);
  live.collector.selection?.select({ tgid: server.pid }, 'ingress');
  const port = Number(await server.ask({ listen: 0 }));
  const counts = () => live.collector.outlet!.counts;
  await exact(setting, await exchange(client, port, { count: 20 }));
  reader.pause();
  const told = await exchange(client, port, { first: 1000, count: REQUESTS });
  assert.equal(told.length, REQUESTS); // the programs did not wait
  await settles(
    () => live.collector.flush(),
    () => counts().seen,
    20 + REQUESTS,
  );
  const { seen, sent, dropped, waiting } = counts();
  assert.ok((dropped.queue_full ?? 0) > 500, `${dropped.queue_full} dropped`);
  assert.equal(sent + waiting + (dropped.queue_full ?? 0), seen);
  assert.ok(waiting <= 50);
  reader.resume();
  await settles(
    () => live.collector.flush(),
    () => counts().waiting,
    0,
  );
  await settles(
    () => live.collector.flush(),
    () => reader.count,
    seen - (dropped.queue_full ?? 0),
  );
  const ledger = live.collector.ledger.rows().filter(({ table }) => table === 'capture_exchanges');
  const of = (outcome: string, reason = ''): number =>
    ledger.find((row) => row.outcome === outcome && row.reason === reason)?.count ?? 0;
  assert.deepEqual(
    [of('seen'), of('kept'), of('dropped', 'queue_full')],
    [seen, reader.count, dropped.queue_full],
  );
  const next = await reader.again();
  await settles(
    () => live.collector.flush(),
    () => next.connections,
    1,
  ); // what is sent before is counted as `reader_gone`
  const lines = live.collector.ledger.rows().filter(({ table }) => table === 'capture_lines');
  assert.equal(lines.find(({ outcome }) => outcome === 'kept')?.count, reader.count);
  await exact({ live, reader: next }, await exchange(client, port, { first: 4000, count: 20 }));
});

const UID = '1b4e28ba-2fa1-11d2-883f-0016d3cca427';

test('a pod, by its cgroup, and a cgroup by its path', { skip: NO_LIVE }, async (t) => {
  const setting = await start(t);
  const { selection } = setting.live.collector;
  const { cgroup_root } = hostPaths('/hostfs');
  const pods = join(cgroup_root, 'kubepods-test.slice');
  const name = `kubepods-test-pod${UID.replaceAll('-', '_')}.slice`;
  const container = join(pods, name, 'container');
  mkdirSync(container, { recursive: true });
  t.after(() => {
    const still = readFileSync(join(container, 'cgroup.procs'), 'utf8').trim();
    if (still !== '') writeFileSync(join(cgroup_root, 'cgroup.procs'), still);
    for (const folder of [container, join(pods, name), pods]) rmdirSync(folder);
  });
  const server = await startWorker(t, SERVER);
  writeFileSync(join(container, 'cgroup.procs'), String(server.pid));
  const client = await startWorker(t, CLIENT);
  selection?.select({ pod: UID.replace('1', '2') }, 'ingress'); // another
  const port = Number(await server.ask({ listen: 0 }));
  await exchange(client, port, { first: 5000, count: 40, close: true });
  selection?.select({ pod: UID }, 'ingress');
  await exact(setting, await exchange(client, port, { count: 200, close: true }));
  selection?.unselect({ pod: UID });
  await exchange(client, port, { first: 6000, count: 40, close: true });
  selection?.select({ cgroup: `/kubepods-test.slice/${name}` }, 'ingress');
  const told = await exchange(client, port, { first: 7000, count: 40, close: true });
  await settles(
    () => setting.live.collector.flush(),
    () => setting.reader.count,
    200 + told.length,
  );
});
