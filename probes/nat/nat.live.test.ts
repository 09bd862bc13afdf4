// Destination NAT by nftables in a network namespace: the client's rows name the address that its program asked for and the
// one that its packets went to, with the program's own counts.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test, { type TestContext } from 'node:test';
import { type Live, lacks, settles, startLive } from '../../test/live.ts';
import { checkRequests, expected, NO_NAT, seen } from '../../test/nat.ts';
import { makeNamespaces, Traffic, type Words } from '../../test/traffic/traffic.ts';

/** Where nobody is: packets to there are translated. */
const SERVICE4 = '10.96.0.10';
const SERVICE6 = 'fd96::10';
const SERVICE_PORT = 8080; // of the first test; the next have the next ports
const SERVER6 = 'fd77::2';

interface Place {
  readonly client: string;
  readonly server: string;
  readonly server_ip: string;
  /** From here on, the service leads to this port of the server. */
  lead(protocol: 'tcp' | 'udp', from: number, port: number): void;
}

function makePlace(t: TestContext): Place {
  const wire = makeNamespaces(`nat-${process.pid}`);
  t.after(() => wire.remove());
  const [client, server] = wire.names;
  const ip = (...words: string[]): void => void execFileSync('ip', words, { stdio: 'pipe' });
  ip('-n', client, 'route', 'add', '10.96.0.0/16', 'dev', 'w0');
  ip('-n', client, 'addr', 'add', 'fd77::1/64', 'dev', 'w0', 'nodad');
  ip('-n', server, 'addr', 'add', `${SERVER6}/64`, 'dev', 'w1', 'nodad');
  ip('-n', client, 'route', 'add', 'fd96::/64', 'dev', 'w0', 'src', 'fd77::1');
  const nft = (input: string): void => {
    execFileSync('ip', ['netns', 'exec', client, 'nft', '-f', '-'], { input, stdio: 'pipe' });
  };
  const lead = (protocol: 'tcp' | 'udp', from: number, port: number): void => {
    const match = `${protocol} dport ${from} counter dnat`;
    nft(`table inet sonde_test { chain out { type nat hook output priority -100;
      ip daddr ${SERVICE4} ${match} ip to ${wire.addresses[1]}:${port}
      ip6 daddr ${SERVICE6} ${match} ip6 to [${SERVER6}]:${port}
    }
    }`);
  };
  return { client, server, server_ip: wire.addresses[1], lead };
}

test('destination NAT', { skip: NO_NAT }, async (t) => {
  const live = await startLive(t);
  const place = makePlace(t);
  let tests = 0;
  const check = async (
    protocol: 'tcp' | 'udp',
    words: Words,
    service: string,
    server: string,
  ): Promise<void> => {
    const { mapped = service, ...rest } = words;
    const mode = protocol === 'tcp' ? (['server', 'client'] as const) : UDP;
    const there = await Traffic.start(t, mode[0], { ...rest, host: server }, at(place.server));
    const port = await there.port();
    const service_port = SERVICE_PORT + tests;
    tests += 1;
    place.lead(protocol, service_port, port);
    const to = { ...rest, host: mapped, port: service_port };
    const here = await Traffic.start(t, mode[1], to, at(place.client));
    const [asked] = await Promise.all([here.counts(), there.counts()]);
    await settles(
      () => live.collector.flush(),
      () => seen(live, protocol, service, service_port),
      expected(asked[0]!, protocol, `${server} ${port}`),
    );
    const incoming = live.sink.rows({ transport: protocol, direction: 'incoming', src_port: port });
    assert.ok(incoming.length > 0, 'the server was not seen');
    for (const row of incoming) assert.deepEqual([row.src_ip, row.dst_nat_ip], [server, '']);
    const cut = (output: string) => output.match(/packets \d+/g);
    assert.ok(
      cut(rules(place))?.some((one) => one !== 'packets 0'),
      'nothing was translated',
    );
    execFileSync('ip', ['netns', 'exec', place.client, 'nft', 'flush', 'ruleset']);
  };
  await t.test('TCP over IPv4', async () => {
    await check('tcp', { connections: 500 }, SERVICE4, place.server_ip);
  });
  await t.test('TCP over IPv6', async () => {
    await check('tcp', { connections: 500 }, SERVICE6, SERVER6);
  });
  const skip = countsPackets(live) && 'UDP is counted by its packets here, after NAT';
  for (const connected of [1, 0]) {
    const words = { datagrams: 500, reply: 1, ...(connected === 1 && { connected }) };
    const kind = connected === 1 ? 'connected' : 'unconnected';
    await t.test(`UDP over IPv4, ${kind}`, { skip }, async () => {
      await check('udp', words, SERVICE4, place.server_ip);
    });
    await t.test(`UDP over IPv6, ${kind}`, { skip }, async () => {
      await check('udp', words, SERVICE6, SERVER6);
    });
  }
  await t.test('an IPv6 socket that connects to IPv4', async () => {
    const mapped = { mapped: `::ffff:${SERVICE4}` };
    await check('tcp', { connections: 100, ...mapped }, SERVICE4, place.server_ip);
  });
  await t.test('requests of HTTP/1.1 and HTTP/2', async (t) => {
    if (lacks(live, 'http') || lacks(live, 'http2')) return t.skip('needs http and http2');
    await checkRequests(live, place, SERVICE4, SERVICE_PORT + 100);
    execFileSync('ip', ['netns', 'exec', place.client, 'nft', 'flush', 'ruleset']);
  });
  await t.test('none', async () => {
    const words = { connections: 300, host: place.server_ip };
    const there = await Traffic.start(t, 'server', words, at(place.server));
    const port = await there.port();
    const here = await Traffic.start(t, 'client', { ...words, port }, at(place.client));
    const [asked] = await Promise.all([here.counts(), there.counts()]);
    await settles(
      () => live.collector.flush(),
      () => seen(live, 'tcp', place.server_ip, port),
      expected(asked[0]!, 'tcp', ' 0'),
    );
  });
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

/** Before 6.3 no call tells what a UDP socket sends. */
function countsPackets({ collector }: Live): boolean {
  const udp = collector.kernel.plan.sources.find(({ source }) => source === 'udp');
  return udp?.parts.find(({ part }) => part === 'datagrams')?.variant !== 'socket calls';
}

const UDP = ['udp-server', 'udp-client'] as const;
const at = (netns: string): { netns: string } => ({ netns });

function rules({ client }: Place): string {
  const words = ['netns', 'exec', client, 'nft', 'list', 'ruleset'];
  return execFileSync('ip', words, { encoding: 'utf8' });
}
