// Queries between a server and clients that count themselves: what sonde says of both ends equals what they counted, each
// query once, with its response code.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type FlowRow, type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { haveIp, makeNamespaces } from '../../test/traffic/traffic.ts';
import { type Counts, type Line, PEER, Peer } from './peers.ts';
import { joined, message, pointer, RESPONSE, record, u16 } from './testing.ts';

const NO_IP = !haveIp() && 'needs ip';
const TIMEOUT_MS = 1500; // a slow machine answers, too
const A = 1;
const AAAA = 28;

type Spec = readonly (readonly [name: string, type: number, times: number])[];
const config = (port: number) => ({
  dns: { ports: [port, 53], timeout: TIMEOUT_MS, domains_max: 1000 },
});

/** Queries by side, transport, code and name, from the rows at a server's port. */
function seen(live: Live, port: number, ip: string): Counts {
  const rows = [
    ...live.sink.rows({ direction: 'outgoing', dst_port: port, dst_ip: ip }, 'dnsflow'),
    ...live.sink.rows({ direction: 'incoming', src_port: port, src_ip: ip }, 'dnsflow'),
  ];
  const sums: Record<string, number> = {};
  for (const row of rows) {
    const what = String(row.domain).split(/[-.]/)[0];
    const key = `${row.direction} ${row.transport} ${what} ${row.rcode} ${row.pid}`;
    sums[key] = (sums[key] ?? 0) + Number(row.count);
  }
  return sums;
}

/** What both ends must show for what the server counted by transport and name. */
function expected(server: Line, client: Line): Counts {
  const rcodes: Counts = { nx: 3, fail: 2, drop: -1 };
  const sums: Record<string, number> = {};
  for (const [what, count] of Object.entries(server.counts!)) {
    const rcode = rcodes[what.split(' ')[1]!] ?? 0;
    sums[`outgoing ${what} ${rcode} ${client.pid}`] = count;
    sums[`incoming ${what} ${rcode} ${what.includes('drop') ? 0 : server.pid}`] = count;
  }
  return sums;
}

async function exact(live: Live, port: number, ip: string, server: Line, client: Line) {
  await delay(TIMEOUT_MS); // the last query has timed out then
  await settles(
    () => live.collector.flush(),
    () => seen(live, port, ip),
    expected(server, client),
  );
}

const MANY: Spec = [
  ['ok.example', A, 300],
  ['ok-#.example', A, 200],
  ['ok.example', AAAA, 100],
  ['nx-#.example', A, 100],
  ['fail.example', A, 50],
  ['drop-#.example', A, 20],
  ['big.example', A, 30],
  ['alias.example', A, 10],
];

for (const host of ['127.0.0.1', '::1']) {
  test(`queries at ${host}`, { skip: NO_LIVE }, async (t) => {
    const server = new Peer(t, ['server', host, '0']);
    const { port = 0 } = await server.line();
    const live = await startLive(t, { collector: config(port) });
    const client = new Peer(t, ['client', host, String(port), JSON.stringify(MANY)]);
    const asked = await client.line();
    const served = await server.end();
    assert.equal(served.counts?.['udp ok'], 600);
    assert.equal(served.counts?.['tcp big'], 30, 'no query came back over TCP');
    await exact(live, port, host, served, asked);
    const rows = live.sink.rows({ dst_port: port }, 'dnsflow');
    const sum = (rows: readonly FlowRow[], what: string) =>
      rows.reduce((total, row) => total + Number(row[what] ?? 0), 0);
    assert.equal(sum(rows, 'truncated'), 30);
    assert.equal(sum(rows, 'unmatched'), 0);
    assert.equal(sum(rows, 'latency_samples'), sum(rows, 'count') - 20);
    assert.equal(sum(rows, 'latency_distribution_count'), sum(rows, 'latency_samples'));
    for (const row of rows) {
      assert.equal(row.family, host === '::1' ? 'IPv6' : 'IPv4');
      assert.deepEqual([row.src_port, row.src_ip], [0, host]);
      if (row.rcode !== -1) assert.ok(Number(row.latency_max) > 0);
    }
    assert.deepEqual(live.collector.ledger.imbalance(), []);
  });
}

test('between network namespaces, at the port 53', { skip: NO_LIVE || NO_IP }, between);

async function between(t: TestContext): Promise<void> {
  const wire = makeNamespaces(`dns-${process.pid}`);
  t.after(() => wire.remove());
  const [, host] = wire.addresses;
  const server = new Peer(t, ['server', host, '53'], wire.names[1]);
  await server.line();
  const live = await startLive(t, { collector: config(53) });
  const words = ['client', host, '53', JSON.stringify(MANY)];
  const client = new Peer(t, words, wire.names[0]);
  const asked = await client.line();
  const served = await server.end();
  await exact(live, 53, host, served, asked);
  const rows = [
    ...live.sink.rows({ dst_ip: host, direction: 'outgoing' }, 'dnsflow'),
    ...live.sink.rows({ src_ip: host, direction: 'incoming' }, 'dnsflow'),
  ];
  const inodes = wire.names.map((name) => Number(inNamespace(name, 'stat', '-Lc', '%i', NS)));
  for (const row of rows) assert.equal(row.netns, inodes[row.direction === 'outgoing' ? 0 : 1]);
}

/**
 * A name looked up by the C library of a program, which then connects: its flow has that name. In a network namespace of its
 * own, where the resolver is at the address that resolv.conf of that namespace gives.
 */
test('a flow has the name that its program looked up', { skip: NO_LIVE || NO_IP }, async (t) => {
  const wire = makeNamespaces(`name-${process.pid}`);
  t.after(() => wire.remove());
  const [client, there] = wire.names;
  const [, host] = wire.addresses;
  const folder = join('/etc/netns', client);
  mkdirSync(folder, { recursive: true });
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'resolv.conf'), `nameserver ${host}\noptions timeout:1 attempts:1\n`);
  const server = new Peer(t, ['server', host, '53'], there);
  await server.line();
  const live = await startLive(t, { collector: config(53) });
  for (const words of [
    ['alias.example', '1'],
    ['ok.example', '3'],
  ] as const) {
    const run = spawn('ip', ['netns', 'exec', client, process.execPath, PEER, 'fetch', ...words]);
    await once(run, 'close');
  }
  const domains = (): Counts => {
    const rows = live.sink.rows({ direction: 'outgoing', dst_ip: '127.0.0.77', transport: 'tcp' });
    const sums: Record<string, number> = {};
    for (const row of rows) {
      const key = `${row.dst_domain} ${row.error_type}`;
      sums[key] = (sums[key] ?? 0) + Number(row.connect_failures);
    }
    return sums;
  };
  // Nobody listens there: each connect fails, and says to where it was.
  await settles(() => live.collector.flush(), domains, {
    'alias.example ECONNREFUSED': 1,
    'ok.example ECONNREFUSED': 3,
  });
});

/** Two questions wait at once under one identifier, and three answers come: the first to neither. */
test('an answer is of its question, whatever the identifier says', { skip: NO_LIVE }, async (t) => {
  const server = createSocket('udp4').bind(0, '127.0.0.1');
  const client = createSocket('udp4');
  t.after(() => {
    server.close();
    client.close();
  });
  await once(server, 'listening');
  const { port } = server.address();
  const dns = { ports: [port], timeout: 60_000, domains_max: 1000 };
  const live = await startLive(t, { collector: { dns } });
  const heard = (socket: Datagrams) => once(socket, 'message');
  const tell = async (name: string, address: number, flags = RESPONSE) => {
    const own = record(pointer(12), A, 300, Uint8Array.of(127, 0, 0, address));
    const bytes = message({ id: 7, flags, questions: [[name, A]], answers: [own] });
    const came = heard(client);
    server.send(bytes, client.address().port, '127.0.0.1');
    await came;
  };
  for (const name of ['slow.example', 'quick.example']) {
    const came = heard(server);
    client.send(message({ id: 7, questions: [[name, A]] }), port, '127.0.0.1');
    await came;
  }
  await tell('evil.example', 78);
  await tell('quick.example', 79);
  await tell('slow.example', 79, RESPONSE | 3);
  const found = () =>
    Object.fromEntries(
      live.sink.rows({ pid: process.pid }, 'dnsflow').map((row) => {
        const { direction, domain, rcode, count, unmatched, retransmits } = row;
        return [`${direction} ${domain} ${rcode}`, [count, unmatched, retransmits].join(' ')];
      }),
    );
  await settles(() => live.collector.flush(), found, {
    ...{ 'outgoing quick.example 0': '1 0 0', 'incoming quick.example 0': '1 0 0' },
    ...{ 'outgoing slow.example 3': '1 0 0', 'incoming slow.example 3': '1 0 0' },
    'incoming evil.example 0': '1 1 0',
  });
});

test('a query over TCP without an answer is its server’s', { skip: NO_LIVE }, async (t) => {
  const server = new Peer(t, ['server', '127.0.0.1', '0']);
  const { port = 0, pid } = await server.line();
  const live = await startLive(t, { collector: config(port) });
  const socket = connect(port, '127.0.0.1').setNoDelay(true);
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  for (const [id, name] of [
    [1, 'drop.example'],
    [2, 'ok.example'],
  ] as const) {
    const query = message({ id, questions: [[name, A]] });
    socket.write(joined([u16(query.length), query]));
  }
  await once(socket, 'data');
  await settles(
    () => live.collector.flush(),
    () => seen(live, port, '127.0.0.1'),
    {
      [`outgoing tcp drop -1 ${process.pid}`]: 1,
      [`incoming tcp drop -1 ${pid}`]: 1,
      [`outgoing tcp ok 0 ${process.pid}`]: 1,
      [`incoming tcp ok 0 ${pid}`]: 1,
    },
  );
});

test('of two names of one address, a connection has that of its begin', { skip: NO_LIVE }, twice);

async function twice(t: TestContext): Promise<void> {
  const names = createSocket('udp4').bind(0, '127.0.0.1');
  const pages = createServer((socket) => socket.resume()).listen(0, '127.0.0.90');
  const client = createSocket('udp4');
  t.after(() => [names, pages, client].map((socket) => socket.close()));
  await Promise.all([once(names, 'listening'), once(pages, 'listening')]);
  const { port: peer_port } = pages.address() as AddressInfo; // TCP
  names.on('message', (query, { address, port }) => {
    const [id, name] = [query.readUInt16BE(0), query.toString('latin1', 13, 13 + query[12]!)];
    const own = record(pointer(12), A, 2, Uint8Array.of(127, 0, 0, 90));
    const questions = [[`${name}.example`, A]] as const;
    names.send(message({ id, flags: RESPONSE, questions, answers: [own] }), port, address);
  });
  const { port } = names.address();
  const live = await startLive(t, { collector: config(port) });
  const ask = async (id: number, name: string): Promise<void> => {
    client.send(message({ id, questions: [[`${name}.example`, A]] }), port, '127.0.0.1');
    await once(client, 'message');
  };
  const open = async (): Promise<Socket> => {
    const socket = connect(peer_port, '127.0.0.90');
    await once(socket, 'connect');
    return socket;
  };
  await ask(1, 'first');
  const one = await open();
  await ask(2, 'second');
  one.destroy();
  (await open()).destroy();
  await delay(3100); // its time, and a moment
  (await open()).destroy();
  const found = (): Counts => {
    const sums: Record<string, number> = {};
    const rows = live.sink.rows({ direction: 'outgoing', dst_port: peer_port });
    for (const { dst_domain, tcp_established } of rows)
      sums[String(dst_domain)] = (sums[String(dst_domain)] ?? 0) + Number(tcp_established);
    return sums;
  };
  await settles(() => live.collector.flush(), found, {
    ...{ 'first.example': 1, 'second.example': 1, '': 1 },
  });
}

const NS = '/proc/self/ns/net';

function inNamespace(netns: string, ...words: string[]): string {
  return execFileSync('ip', ['netns', 'exec', netns, ...words], { encoding: 'utf8' }).trim();
}
