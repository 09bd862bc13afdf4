// Strangers at the intake of a running sonde, while it works: what it counts stays exact, what they do stands in counters
// of refusals, and its memory stays bounded.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { asker } from '../../src/wire/ask.ts';
import { NO_LIVE } from '../live.ts';
import { command, makePlace, type Place, role, startRun, until } from './sonde.ts';
import { exact, Load } from './truth.ts';

const LOAD = { connections: 200 };
const TOKEN = 'the-right-one';
const ROUNDS = 20;
/** Far more than the intake may hold of strangers' bytes (16 MiB a batch), far less than what they send. */
const GROWTH_MAX = 256 << 20;
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
const PUT = '/arrow.flight.protocol.FlightService/DoPut';

type Attack = (port: number, sockets: Socket[]) => Promise<void>;

/** Opens a connection, writes, and does not wait for what comes of it. */
function raw(...pieces: readonly Buffer[]): Attack {
  return async (port, sockets) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined); // refusing is what the other side is for
    sockets.push(socket);
    for (const piece of pieces) socket.write(piece);
  };
}

function http2Frame(length: number, type: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length, 0, 3);
  head[3] = type;
  head.writeUInt32BE(type === 4 ? 0 : 1, 5);
  return Buffer.concat([head, payload]);
}

/** A gRPC call with the right token that says its message has so many bytes, and sends some of them. */
function grpc(claimed: number, sent: number, token: string): Attack {
  return async (port) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    session.on('error', () => undefined);
    const call = session.request({
      ':method': 'POST',
      ':path': PUT,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: `Bearer ${token}`,
    });
    call.on('error', () => undefined).resume();
    const head = Buffer.alloc(5);
    head.writeUInt32BE(claimed, 1);
    call.write(head);
    for (let left = sent; left > 0; left -= 1 << 16) call.write(Buffer.alloc(1 << 16, 7));
    setTimeout(() => session.destroy(), 500);
  };
}

const ATTACKS: Readonly<Record<string, Attack>> = {
  garbage: raw(Buffer.alloc(4096, 0xa5)),
  'HTTP/1.1': raw(Buffer.from('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello')),
  'a TLS hello': raw(Buffer.from('16030100c8010000c40303', 'hex'), Buffer.alloc(190, 1)),
  'half-open': raw(),
  'slow loris': raw(PREFACE.subarray(0, 5)),
  'a frame of 16 MiB': raw(
    PREFACE,
    http2Frame(0, 4, Buffer.alloc(0)),
    http2Frame(0xffffff, 0, Buffer.alloc(65536, 3)),
  ),
  'a message of 4 GiB': grpc(0xfffffff0, 1 << 20, TOKEN),
  'a long message that is no Flight': grpc(1 << 20, 1 << 20, TOKEN),
  'a wrong token': grpc(100, 0, 'the-wrong-one'),
};

async function numbers({ metrics_port }: Place): Promise<ReadonlyMap<string, number>> {
  const page = await (await fetch(`http://127.0.0.1:${metrics_port}/metrics`)).text();
  const lines = page.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      Number(line.slice(line.lastIndexOf(' '))),
    ]),
  );
}

function peakBytes(pid: number): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}

function refusals(all: ReadonlyMap<string, number>): Map<string, number> {
  return new Map(
    [...all]
      .filter(([name]) => name.startsWith('sonde_reducer_refused_total'))
      .map(([name, value]) => [/reason="([^"]+)"/.exec(name)?.[1] ?? '', value]),
  );
}

test('strangers at the intake change nothing but counters', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t, {
    SONDE_REDUCER_TOKEN: TOKEN,
    SONDE_COLLECTOR_TOKEN: TOKEN,
    SONDE_TOKEN: TOKEN,
    SONDE_REDUCER_LIMITS_HANDSHAKE_TIMEOUT: '1s',
    SONDE_REDUCER_LIMITS_CONNECTIONS_MAX: '100',
  });
  const run = await startRun(place);
  const reducer = role(run, 'reducer');
  const load = new Load(t, LOAD);
  await until(
    () => load.count > 3,
    () => 'the first talks',
  );
  const before = refusals(await numbers(place));
  const peak = peakBytes(reducer);
  const sockets: Socket[] = [];
  t.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const attack of Object.values(ATTACKS)) await attack(place.port, sockets);
    const stranger = asker({ host: '127.0.0.1', port: place.port, token: 'guessed' });
    await assert.rejects(stranger.action('query', { sql: 'SELECT 1', format: 'json' }, 10_000));
    stranger.close();
  }
  const talks = load.count;
  await until(
    () => load.count > talks + 3,
    () => 'talks after the attacks',
  );
  await exact(place, await load.end());
  const after = await numbers(place);
  const more = new Map([...refusals(after)].map(([why, n]) => [why, n - (before.get(why) ?? 0)]));
  t.diagnostic(JSON.stringify(Object.fromEntries([...more].filter(([, n]) => n > 0))));
  for (const why of ['unauthenticated', 'not_http2', 'timeout', 'too_large', 'malformed']) {
    assert.ok((more.get(why) ?? 0) > 0, `nothing was refused as ${why}`);
  }
  assert.equal(after.get('sonde_reducer_rejected_total'), 0);
  assert.equal(role(run, 'reducer'), reducer, 'the reducer was started again');
  const growth = peakBytes(reducer) - peak;
  t.diagnostic(`peak memory grew by ${Math.round(growth / (1 << 20))} MiB`);
  assert.ok(growth < GROWTH_MAX, `the reducer grew by ${growth} bytes`);
  const ledger = await command(place, ['ledger', '--json', '--reducer', `127.0.0.1:${place.port}`]);
  const { lost, differences } = JSON.parse(ledger.stdout.toString('utf8'));
  assert.deepEqual({ lost, differences }, { lost: [], differences: [] });
  await until(
    async () => ((await numbers(place)).get('sonde_reducer_connections') ?? 99) < 10,
    () => 'the end of the connections of strangers',
  );
  assert.equal((await run.end()).code, 0);
});
