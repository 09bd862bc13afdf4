// For tests: an HTTP/2 server and client of Node's, with a relay between them that keeps what each side sent, in order.

import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import type { Side } from '../../probes/http2/connection.ts';

/** What one side sent in one piece: 0 the client, 1 the server. */
export interface Piece {
  readonly side: Side;
  readonly bytes: Buffer;
}

const PREFACE_BYTES = 24;

export interface Relay {
  readonly port: number;
  /** By connection. */
  readonly pieces: readonly Piece[][];
  close(): Promise<void>;
}

/** `piece`: bytes that it passes on in one segment, if the kernel will; the preface stays whole. */
export async function relayTo(port: number, piece = Infinity): Promise<Relay> {
  const pieces: Piece[][] = [];
  const sockets = new Set<net.Socket>();
  const server = net.createServer((client) => {
    const own: Piece[] = [];
    pieces.push(own);
    const upstream = net.connect({ port, host: '127.0.0.1', noDelay: true });
    client.setNoDelay();
    for (const [from, to, side] of [
      [client, upstream, 0],
      [upstream, client, 1],
    ] as const) {
      sockets.add(from);
      from.on('data', (bytes) => {
        const is_first = !own.some((one) => one.side === side);
        own.push({ side, bytes: Buffer.from(bytes) });
        for (let at = 0, end = 0; at < bytes.length; at = end) {
          end = at + (is_first && at === 0 ? Math.max(piece, PREFACE_BYTES) : piece);
          to.write(bytes.subarray(at, end));
        }
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => sockets.delete(from));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: portOf(server),
    pieces,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

export function portOf(server: net.Server | http2.Http2Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return address.port;
}

/** What the server of the tests did, by path: the truth that exchanges are held against. */
export interface Truth {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly request_bytes: number;
  readonly response_bytes: number;
  readonly grpc_status: number | undefined;
}

/**
 * Answers `/s/STATUS/BYTES/…` with that status and so many bytes, `/package.Service/Method?STATUS` as gRPC, `/early/…`
 * with a 103 before, `/padded/…` like `/s/`; it notes what it answered.
 */
export async function h2Server(
  truths: Truth[],
  options: http2.ServerOptions = {},
): Promise<http2.Http2Server> {
  const server = http2.createServer({ peerMaxConcurrentStreams: 1000, ...options });
  server.on('stream', (stream, headers) => {
    const method = headers[':method'] ?? '';
    const path = headers[':path'] ?? '';
    const plan = planOf(path);
    let request_bytes = 0;
    stream.on('error', () => stream.destroy());
    stream.on('data', (bytes: Buffer) => {
      request_bytes += bytes.length;
    });
    stream.on('end', () => {
      const { status, grpc_status } = plan;
      const response_bytes = method === 'HEAD' ? 0 : plan.response_bytes;
      truths.push({ method, path, status, request_bytes, response_bytes, grpc_status });
      if (path.startsWith('/early/')) stream.additionalHeaders({ ':status': 103, link: '</x>' });
      const type = grpc_status === undefined ? 'text/plain' : 'application/grpc+proto';
      const head = { ':status': status, 'content-type': type, 'x-path': path };
      const waitForTrailers = grpc_status !== undefined;
      stream.respond(head, { waitForTrailers });
      if (waitForTrailers) {
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': `${grpc_status}` }));
      }
      stream.end(method === 'HEAD' ? undefined : Buffer.alloc(response_bytes, 'r'));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

function planOf(path: string): { status: number; response_bytes: number; grpc_status?: number } {
  const [, kind = '', status = '', bytes = ''] = path.split('/');
  if (!kind.includes('.')) return { status: Number(status), response_bytes: Number(bytes) };
  return { status: 200, response_bytes: 17, grpc_status: Number(path.split('?')[1]) };
}

/** Sends one request and reads the answer. Resolves with its status. */
export function ask(
  session: http2.ClientHttp2Session,
  method: string,
  path: string,
  body: Buffer | undefined,
  headers: http2.OutgoingHttpHeaders = {},
): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = session.request({ ':method': method, ':path': path, ...headers });
    let status = 0;
    request.on('response', (head) => {
      status = Number(head[':status']);
    });
    request.on('error', reject);
    request.on('end', () => resolve(status));
    request.resume();
    request.end(body);
  });
}

const KINDS = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD'];

/** Many requests at once, of all kinds. */
export async function round(
  session: http2.ClientHttp2Session,
  n: number,
  count: number,
): Promise<void> {
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

export async function finish(session: http2.ClientHttp2Session): Promise<void> {
  session.close();
  await once(session, 'close');
}
