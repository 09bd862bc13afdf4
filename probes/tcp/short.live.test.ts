// Short connections at full speed between two programs: what sonde says equals what the programs counted, exactly, and
// belongs to the process that did it.

import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { type FlowRow, type Live, NO_LIVE, settles, sorted, startLive } from '../../test/live.ts';
import {
  type Counts,
  haveIp,
  makeNamespaces,
  nameTraffic,
  talk,
  type Words,
} from '../../test/traffic/traffic.ts';

const MANY = 10_000;

/** Where the server listens, what the client connects to, and what the flow is then. */
const FAMILIES = [
  ['127.0.0.1', '127.0.0.1', 'IPv4', '127.0.0.1'],
  ['::1', '::1', 'IPv6', '::1'],
  ['::', '127.0.0.1', 'IPv4', '127.0.0.1'],
  ['::', '::ffff:127.0.0.1', 'IPv4', '127.0.0.1'],
] as const;

interface Talk {
  readonly server: readonly Counts[];
  readonly client: readonly Counts[];
  readonly port: number;
}

/** The rows that a talk must have left: one for each process that had connections. */
function expected(
  { server, client, port }: Talk,
  names: readonly string[] = [],
): readonly FlowRow[] {
  const view = (side: object, { pid, connections, bytes_read, bytes_written }: Counts, i = 9) => ({
    ...side,
    pid,
    process_name: names[i] ?? 'traffic',
    tcp_established: connections,
    tcp_closed: connections,
    bytes_read,
    bytes_written,
  });
  const incoming = { direction: 'incoming', src_port: port, dst_port: 0 };
  const outgoing = { direction: 'outgoing', src_port: 0, dst_port: port };
  return sorted([
    ...server.filter((one) => one.connections > 0).map((one, i) => view(incoming, one, i)),
    ...client.filter((one) => one.connections > 0).map((one) => view(outgoing, one)),
  ]);
}

async function exact(live: Live, done: Talk, names?: readonly string[]): Promise<void> {
  await settles(
    () => live.collector.flush(),
    () => live.sink.views('tcp', done.port),
    expected(done, names),
  );
}

test('short connections', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const check = async (both: Words, server: Words, client: Words): Promise<number> => {
    const words = { connections: 1000, ...both };
    const done = await talk(t, 'tcp', { ...words, ...server }, { ...words, ...client });
    await exact(live, done);
    return done.port;
  };
  await t.test(`${MANY} in one network namespace`, async () => {
    await check({ connections: MANY, close: 'server' }, {}, { threads: 2 });
  });
  await t.test(`${MANY} between two network namespaces`, { skip: !haveIp() && 'needs ip' }, (s) =>
    acrossNamespaces(s, live),
  );
  await t.test('a server of threads', async () => {
    await check({}, { as: 'threads', workers: 3 }, { threads: 4 });
  });
  await t.test('a server that forks before it accepts', async () => {
    await check({ connections: MANY }, { as: 'prefork', workers: 4 }, { threads: 4 });
  });
  await t.test('a server that hands its sockets to children', async () => {
    await check({ connections: 2000 }, { as: 'pass', workers: 3 }, { threads: 2 });
  });
  await t.test('a server that calls exec', (s) => execs(s, live));
  await t.test('connected by a child', async () => {
    await check({}, {}, { as: 'child', children: 4 });
  });
  await t.test('sockets of the parent, connected by a child', async () => {
    await check({}, {}, { as: 'inherit' });
  });
  await t.test('connects that do not block', async () => {
    await check({}, {}, { as: 'nonblocking' });
  });
  for (const by of ['splice', 'sendfile']) {
    await t.test(`bytes by ${by}`, async () => {
      await check({ by, connections: 300, request: 100_000, response: 200_000 }, {}, {});
    });
  }
  await t.test('half-closed by the client', async () => {
    await check({ half_close: 1 }, {}, {});
  });
  await t.test('a request without a response', async () => {
    await check({ request: 1, response: 0 }, {}, {});
  });
  for (const [server, client, family, ip] of FAMILIES) {
    await t.test(`from ${client} to a server at ${server}: ${family}`, async () => {
      const port = await check({}, { host: server }, { host: client });
      const rows = [...live.sink.rows({ src_port: port }), ...live.sink.rows({ dst_port: port })];
      assert.ok(rows.length >= 2);
      for (const row of rows) {
        assert.deepEqual([row.family, row.src_ip, row.dst_ip], [family, ip, ip]);
        assert.deepEqual([row.src_ip_type, row.dst_ip_type], ['private', 'private']);
      }
    });
  }
});

async function acrossNamespaces(t: TestContext, live: Live): Promise<void> {
  const wire = makeNamespaces(`short-${process.pid}`);
  t.after(() => wire.remove());
  const done = await talk(
    t,
    'tcp',
    { connections: MANY, close: 'server', host: wire.addresses[1] },
    { connections: MANY, close: 'server', host: wire.addresses[1], threads: 2 },
    { server: wire.names[1], client: wire.names[0] },
  );
  await exact(live, done);
}

/** The same process under two names: half of its connections under each. */
async function execs(t: TestContext, live: Live): Promise<void> {
  const { path: heir, remove } = await nameTraffic('traffic-heir');
  t.after(remove);
  const done = await talk(t, 'tcp', { as: 'exec', connections: 1000, heir }, { connections: 1000 });
  await exact(live, done, ['traffic', 'traffic-heir']);
}
