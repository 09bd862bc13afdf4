// Destination NAT by a router that neither end is in, as of a container by its host: the client's rows name the address that
// its program asked for and the one that the router led it to, with the program's own counts.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test, { type TestContext } from 'node:test';
import { lacks, settles, startLive } from '../../test/live.ts';
import { checkRequests, expected, NO_NAT, seen } from '../../test/nat.ts';
import { makeNamespaces, Traffic, type Words } from '../../test/traffic/traffic.ts';

const SERVICE = '10.96.0.10';
const SERVICE_PORT = 8080;
const HELD_PORT = 8081;
const CLIENT = '10.199.78.2';

interface Place {
  readonly client: string;
  readonly router: string;
  readonly server: string;
  readonly server_ip: string;
  /** From here on, the service leads to this port of the server. */
  lead(protocol: 'tcp' | 'udp', from: number, port: number): void;
}

/** client — router — server */
function makePlace(t: TestContext): Place {
  const wire = makeNamespaces(`routed-${process.pid}`);
  const [router, server] = wire.names;
  const client = `sonde-routed-${process.pid}-c`;
  const ip = (...words: string[]): void => void execFileSync('ip', words, { stdio: 'pipe' });
  ip('netns', 'add', client);
  t.after(() => {
    ip('netns', 'del', client);
    wire.remove();
  });
  ip('-n', client, 'link', 'add', 'c0', 'type', 'veth', 'peer', 'name', 'r0', 'netns', router);
  ip('-n', client, 'addr', 'add', `${CLIENT}/24`, 'dev', 'c0');
  ip('-n', router, 'addr', 'add', '10.199.78.1/24', 'dev', 'r0');
  for (const [netns, link] of [
    [client, 'c0'],
    [client, 'lo'],
    [router, 'r0'],
  ] as const) {
    ip('-n', netns, 'link', 'set', link, 'up');
  }
  ip('-n', client, 'route', 'add', 'default', 'via', '10.199.78.1');
  ip('-n', server, 'route', 'add', 'default', 'via', wire.addresses[0]);
  const forward = ['netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'];
  ip(...forward);
  const lead = (protocol: 'tcp' | 'udp', from: number, port: number): void => {
    const input = `table ip sonde_test { chain in { type nat hook prerouting priority -100;
      ip daddr ${SERVICE} ${protocol} dport ${from} dnat to ${wire.addresses[1]}:${port}
    }
    }`;
    const words = ['netns', 'exec', router, 'nft', '-f', '-'];
    execFileSync('ip', words, { input, stdio: 'pipe' });
  };
  return { client, router, server, server_ip: wire.addresses[1], lead };
}

const MODES = { tcp: ['server', 'client'], udp: ['udp-server', 'udp-client'] } as const;

test('destination NAT on the way', { skip: NO_NAT }, async (t) => {
  const place = makePlace(t);
  const held = await hold(t, place);
  const netns = [`/run/netns/${place.router}`];
  const live = await startLive(t, { collector: { nat: { conntrack: true, netns } } });
  const check = async (protocol: 'tcp' | 'udp', words: Words): Promise<void> => {
    const [serve, ask] = MODES[protocol];
    const there = await Traffic.start(
      t,
      serve,
      { ...words, host: place.server_ip },
      at(place.server),
    );
    const port = await there.port();
    place.lead(protocol, SERVICE_PORT, port);
    const to = { ...words, host: SERVICE, port: SERVICE_PORT };
    const here = await Traffic.start(t, ask, to, at(place.client));
    const [asked] = await Promise.all([here.counts(), there.counts()]);
    await settles(
      () => live.collector.flush(),
      () => seen(live, protocol, SERVICE, SERVICE_PORT),
      expected(asked[0]!, protocol, `${place.server_ip} ${port}`),
    );
    const incoming = live.sink.rows({ transport: protocol, direction: 'incoming', src_port: port });
    assert.ok(incoming.length > 0, 'the server was not seen');
    for (const row of incoming) assert.deepEqual([row.dst_ip, row.dst_nat_ip], [CLIENT, '']);
  };
  await t.test('TCP', async () => {
    await check('tcp', { connections: 1000 });
  });
  await t.test('UDP, connected', async () => {
    await check('udp', { datagrams: 500, reply: 1, connected: 1 });
  });
  await t.test('requests of HTTP/1.1 and HTTP/2', async (t) => {
    if (lacks(live, 'http') || lacks(live, 'http2')) return t.skip('needs http and http2');
    await checkRequests(live, place, SERVICE, SERVICE_PORT + 100);
  });
  await t.test('TCP, open before sonde was there', async () => {
    await held.client.end();
    const match = { transport: 'tcp', direction: 'outgoing', dst_ip: SERVICE };
    const closed = () => {
      const rows = live.sink.rows({ ...match, dst_nat_port: held.port });
      return rows.reduce((sum, row) => sum + Number(row.tcp_closed), 0);
    };
    await settles(() => live.collector.flush(), closed, HELD);
  });
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

const HELD = 20;

/** Connections that are open, and translated, when this returns. */
async function hold(t: TestContext, place: Place): Promise<{ client: Traffic; port: number }> {
  const words = { connections: HELD, as: 'hold' };
  const there = await Traffic.start(
    t,
    'server',
    { ...words, host: place.server_ip },
    at(place.server),
  );
  const port = await there.port();
  place.lead('tcp', HELD_PORT, port);
  const to = { ...words, host: SERVICE, port: HELD_PORT };
  const client = await Traffic.start(t, 'client', to, at(place.client));
  await client.opened();
  return { client, port };
}

const at = (netns: string): { netns: string } => ({ netns });
