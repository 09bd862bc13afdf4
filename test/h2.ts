// For live tests of HTTP/2: what the servers of test/traffic/h2.ts noted, as rows, and the rows that a collector sent.

import { routeOf } from '../probes/http/route.ts';
import { grpcName } from '../probes/http2/connection.ts';
import { httpflow } from '../probes/httpflow.ts';
import { type Live, settles } from './live.ts';
import type { Truth } from './traffic/h2.ts';

export type Row = Readonly<Record<string, string | number>>;

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
export function fold(rows: readonly Row[]): Row[] {
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

export function expected(truths: readonly Truth[]): Row[] {
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
export function shown(live: Live, port: number): { server: Row[]; client: Row[] } {
  const rows = (match: Row, read: string, written: string): Row[] =>
    live.sink.rows(match, httpflow.name).map((row) => ({
      ...row,
      requests: row.count!,
      [read]: row.bytes_read!,
      [written]: row.bytes_written!,
    }));
  const [request, response] = ['bytes_request', 'bytes_response'];
  return {
    server: fold(rows({ direction: 'incoming', src_port: port }, request, response)),
    client: fold(rows({ direction: 'outgoing', dst_port: port }, response, request)),
  };
}

export async function exact(live: Live, port: number, truths: readonly Truth[]): Promise<void> {
  const both = expected(truths);
  await settles(
    () => live.collector.flush(),
    () => shown(live, port),
    { server: both, client: both },
  );
}
