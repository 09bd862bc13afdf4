// The small HTTP port: GET /metrics for Prometheus; GET /livez for who starts the process again when it no longer answers,
// GET /healthz for who wants to know whether it can do its work.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { authority } from '../wire/address.ts';
import { listenCure, OperatorError, reasonOf } from '../wire/error.ts';

export interface Page {
  readonly content_type: string;
  readonly text: () => Promise<string>;
  /** False: the status is 503. */
  readonly isWell?: () => boolean;
}

export interface HttpPort {
  readonly port: number;
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 64;
const TIMEOUT_MS = 10_000;

/** Serves `pages` by path. Rejects with an OperatorError where it cannot listen. */
export async function servePages(
  at: { readonly host: string; readonly port: number },
  pages: ReadonlyMap<string, Page>,
  timeout_ms = TIMEOUT_MS,
): Promise<HttpPort> {
  // Pages are made one at a time: who asks meanwhile gets the same text.
  const making = new Map<string, Promise<string>>();
  const server = createServer(
    {
      requestTimeout: timeout_ms,
      headersTimeout: timeout_ms,
      keepAliveTimeout: timeout_ms,
      connectionsCheckingInterval: timeout_ms / 10, // by default half a minute
    },
    (request, response) => void answer(request, response, pages, making),
  );
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(at, error)));
    server.listen(at.port, at.host, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
  // Listening on TCP, so this is an object.
  const { port } = server.address() as AddressInfo;
  return { port, close: () => close(server) };
}

function cannotListen({ host, port }: { host: string; port: number }, error: Error): OperatorError {
  const message = `Cannot listen on ${authority(host, port)} for /metrics: ${reasonOf(error)}`;
  return new OperatorError('metrics_address', message, listenCure(error, '--metrics'));
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  pages: ReadonlyMap<string, Page>,
  making: Map<string, Promise<string>>,
): Promise<void> {
  request.resume();
  const path = (request.url ?? '').split('?')[0]!;
  const page = pages.get(path);
  if (page === undefined) return end(response, 404, 'text/plain', 'No such page\n');
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return end(response, 405, 'text/plain', 'Only GET\n');
  }
  try {
    const text = making.get(path) ?? page.text();
    making.set(path, text);
    const body = await text;
    end(response, page.isWell?.() === false ? 503 : 200, page.content_type, body);
  } catch (error) {
    end(response, 500, 'text/plain', `${error instanceof Error ? error.message : error}\n`);
  } finally {
    making.delete(path);
  }
}

function end(response: ServerResponse, status: number, content_type: string, text: string): void {
  response.writeHead(status, {
    'content-type': content_type,
    'content-length': Buffer.byteLength(text),
    'x-content-type-options': 'nosniff',
  });
  response.end(text);
}

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}

/** Says no more than that the process answers. */
export const alive: Page = { content_type: 'text/plain', text: async () => 'ok\n' };
