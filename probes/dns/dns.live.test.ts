// Queries between a server and clients that count themselves: what sonde says of both ends equals what they counted, each
// query once, with its response code.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type FlowRow, type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { type Cleanup, haveIp, makeNamespaces } from '../../test/traffic/traffic.ts';

const PEER = join(import.meta.dirname, 'peer.ts');
const TIMEOUT_MS = 300;
const A = 1;
const AAAA = 28;

type Spec = readonly (readonly [name: string, type: number, times: number])[];
type Counts = Readonly<Record<string, number>>;
interface Line {
  readonly port?: number;
  readonly pid: number;
  readonly counts?: Counts;
}

class Peer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(t: Cleanup, words: readonly string[], netns?: string) {
    const inside = netns === undefined ? [] : ['ip', 'netns', 'exec', netns];
    const [file, ...args] = [...inside, process.execPath, PEER, ...words];
    this.#child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    t.after(() => this.#child.kill('SIGKILL'));
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  async line(): Promise<Line> {
    const { value, done } = await this.#lines.next();
    assert.ok(done !== true, 'the peer ended without a word');
    return JSON.parse(value);
  }

  end(): Promise<Line> {
    this.#child.stdin!.end();
    return this.line();
  }
}

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

test(
  'between network namespaces, at the port 53 of its own',
  { skip: NO_LIVE || !haveIp() },
  between,
);

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

const NS = '/proc/self/ns/net';

function inNamespace(netns: string, ...words: string[]): string {
  return execFileSync('ip', ['netns', 'exec', netns, ...words], { encoding: 'utf8' }).trim();
}
