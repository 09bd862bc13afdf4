// HTTP/2 between a server and clients of Node's, over real sockets: what sonde says of either end equals what the server
// answered, exactly.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import test, { type TestContext } from 'node:test';
import { type FlowRow, type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { ask, h2Server, portOf, type Truth } from '../../test/traffic/h2.ts';
import { routeOf } from '../http/route.ts';
import { grpcName } from './connection.ts';
import { requests } from './table.ts';

type Row = Readonly<Record<string, string | number>>;

const SHOWN = [
  'method',
  'path',
  'status_code',
  'http_version',
  'rpc_system',
  'rpc_service',
  'rpc_method',
  'rpc_grpc_status_code',
  'pid',
] as const;

/** Rows by what they show, with the sums of those that are alike. */
function fold(rows: readonly Row[]): Row[] {
  const folded = new Map<string, Record<string, string | number>>();
  for (const row of rows) {
    const dims = Object.fromEntries(SHOWN.map((name) => [name, row[name]!]));
    const key = JSON.stringify(dims);
    const sums = folded.get(key) ?? { ...dims, requests: 0, bytes_request: 0, bytes_response: 0 };
    folded.set(key, sums);
    for (const name of ['requests', 'bytes_request', 'bytes_response']) {
      sums[name] = Number(sums[name]) + Number(row[name]);
    }
  }
  return [...folded.values()].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

function expected(truths: readonly Truth[]): Row[] {
  return fold(
    truths.map(({ method, path, status, request_bytes, response_bytes, grpc_status }) => {
      const grpc = grpc_status !== undefined;
      const name = grpc ? grpcName(path) : { service: '', method: '' };
      return {
        method,
        path: routeOf(path),
        status_code: status,
        http_version: '2',
        rpc_system: grpc ? 'grpc' : '',
        rpc_service: name.service,
        rpc_method: name.method,
        rpc_grpc_status_code: grpc ? `${grpc_status}` : '',
        pid: process.pid,
        requests: 1,
        bytes_request: request_bytes,
        bytes_response: response_bytes,
      };
    }),
  );
}

/** What both ends of the connections to this port show. */
function shown(live: Live, port: number): { server: Row[]; client: Row[] } {
  const rows = (match: Row): readonly FlowRow[] => live.sink.rows(match, requests.name);
  return {
    server: fold(rows({ direction: 'incoming', src_port: port })),
    client: fold(rows({ direction: 'outgoing', dst_port: port })),
  };
}

async function exact(live: Live, port: number, truths: readonly Truth[]): Promise<void> {
  const both = expected(truths);
  await settles(
    () => live.collector.flush(),
    () => shown(live, port),
    { server: both, client: both },
  );
}

const KINDS = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD'];

/** Many requests at once, of all kinds. */
async function round(session: http2.ClientHttp2Session, n: number, count: number): Promise<void> {
  const asked = Array.from({ length: count }, (_, i) => {
    const method = KINDS[(i + n) % KINDS.length]!;
    const body = method === 'POST' || method === 'PUT' ? Buffer.alloc(700 * i, 'q') : undefined;
    const status = [200, 201, 204, 404, 500][i % 5]!;
    const bytes = status === 204 ? 0 : i % 7 === 0 ? 70_000 : 100 + i;
    const kind = i % 6 === 1 ? 'early' : 's';
    return ask(session, method, `/${kind}/${status}/${bytes}/${n}`, body, { 'x-round': `${n}` });
  });
  const calls = [0, 5, 13].map((code) =>
    ask(session, 'POST', `/shop.v1.Cart/Add${n}?${code}`, Buffer.alloc(9), {
      'content-type': 'application/grpc',
      te: 'trailers',
    }),
  );
  await Promise.all([...asked, ...calls]);
}

async function serve(t: TestContext): Promise<{ port: number; truths: Truth[] }> {
  const truths: Truth[] = [];
  const server = await h2Server(truths);
  t.after(() => server.close());
  return { port: portOf(server), truths };
}

async function finish(session: http2.ClientHttp2Session): Promise<void> {
  session.close();
  await once(session, 'close');
}

test('HTTP/2 in clear text', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { probes: { http2: { enabled: true } } } });
  await t.test('several connections, multiplexed, of all kinds', async (s) => {
    const { port, truths } = await serve(s);
    const sessions = Array.from({ length: 4 }, () => http2.connect(`http://127.0.0.1:${port}`));
    for (let n = 0; n < 8; n += 1) {
      await Promise.all(sessions.map((session) => round(session, n, 30)));
    }
    await Promise.all(sessions.map(finish));
    assert.equal(truths.length, 4 * 8 * 33);
    await exact(live, port, truths);
  });
});
