// The door in front of gRPC: a listener of our own that counts connections, looks at their first bytes, and gives
// only what begins like HTTP/2 to grpc-js, which by itself tells nobody about bad connections. It never copies: the
// bytes looked at are put back and node's HTTP/2 takes the socket over.
import {
  type AddressInfo,
  createServer as createNetServer,
  type Server,
  type Socket,
} from 'node:net';
import { createServer as createTlsServer, type TlsOptions, Server as TlsServer } from 'node:tls';
import type { Counters } from './stats.ts';

export interface GateLimits {
  readonly connections_max: number;
  /** From the connection to the first bytes of HTTP/2, the TLS handshake included. */
  readonly first_bytes_ms: number;
  /** A connection without an open call. */
  readonly idle_ms: number;
}

interface Connection {
  readonly socket: Socket;
  calls: number;
  idle_since_ms: number;
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
const TLS_HANDSHAKE = 0x16;

export class Gate {
  private readonly limits: GateLimits;
  private readonly counters: Counters;
  private readonly inject: (socket: Socket) => void;
  private readonly server: Server;
  private readonly connections = new Map<string, Connection>();
  private readonly sockets = new Set<Socket>();
  private readonly sweeper: NodeJS.Timeout;

  constructor(
    limits: GateLimits,
    counters: Counters,
    inject: (socket: Socket) => void,
    tls: TlsOptions | undefined,
  ) {
    this.limits = limits;
    this.counters = counters;
    this.inject = inject;
    this.server = tls ? this.listenTls(tls) : createNetServer((socket) => this.greet(socket));
    // Counted on the raw connection, before a handshake can take its time.
    this.server.prependListener('connection', (socket: Socket) => this.arrive(socket));
    const period_ms = Math.max(20, Math.min(limits.idle_ms / 4, 5000));
    this.sweeper = setInterval(() => this.sweep(), period_ms).unref();
  }

  private listenTls(tls: TlsOptions): Server {
    const handshakeTimeout = this.limits.first_bytes_ms;
    const server = createTlsServer({ ...tls, handshakeTimeout, ALPNProtocols: ['h2'] });
    server.on('secureConnection', (socket) => this.greet(socket));
    server.on('tlsClientError', (_error, socket) => {
      this.counters.refuse('tls_failed', peerOf(socket));
      socket.destroy();
    });
    return server;
  }

  /** What is connected goes on as it is. Throws what node:tls throws; then all stays as it was. */
  renewTls(tls: TlsOptions): void {
    if (this.server instanceof TlsServer) this.server.setSecureContext(tls);
  }

  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen({ host, port, backlog: 512 }, () => {
        this.server.removeListener('error', reject);
        // Errors of accept (no more file descriptors): the listener goes on, the peer sees a reset.
        this.server.on('error', () => this.counters.refuse('failed', 'accept'));
        // A TCP listener's address is never a path.
        resolve((this.server.address() as AddressInfo).port);
      });
    });
  }

  private arrive(socket: Socket): void {
    const { stats } = this.counters;
    stats.connections++;
    // A reset by the peer is no event for us; 'close' follows.
    socket.on('error', () => undefined);
    if (this.sockets.size >= this.limits.connections_max) {
      this.counters.refuse('too_many_connections', peerOf(socket));
      socket.destroy();
      return;
    }
    this.sockets.add(socket);
    stats.connections_open = this.sockets.size;
    socket.once('close', () => {
      this.sockets.delete(socket);
      stats.connections_open = this.sockets.size;
    });
  }

  /** Waits for the bytes that every HTTP/2 client sends first. */
  private greet(socket: Socket): void {
    if (socket.destroyed) return;
    socket.on('error', () => undefined);
    const timer = setTimeout(() => {
      this.counters.refuse('timeout', peerOf(socket));
      socket.destroy();
    }, this.limits.first_bytes_ms);
    let seen = Buffer.alloc(0);
    const stop = () => {
      clearTimeout(timer);
      socket.removeListener('readable', look);
      socket.removeListener('close', stop);
    };
    const look = () => {
      const chunk: Buffer | null = socket.read();
      if (chunk === null) return;
      seen = Buffer.concat([seen, chunk]);
      const length = Math.min(seen.length, PREFACE.length);
      if (seen.compare(PREFACE, 0, length, 0, length) !== 0) {
        this.counters.refuse(kindOf(seen), peerOf(socket));
        stop();
        socket.destroy();
      } else if (length === PREFACE.length) {
        stop();
        socket.unshift(seen);
        this.admit(socket);
      }
    };
    socket.on('readable', look);
    socket.once('close', stop);
    look();
  }

  private admit(socket: Socket): void {
    const peer = peerOf(socket);
    const connection = { socket, calls: 0, idle_since_ms: performance.now() };
    this.connections.set(peer, connection);
    socket.once('close', () => {
      if (this.connections.get(peer) === connection) this.connections.delete(peer);
    });
    this.inject(socket);
  }

  /** `peer` as grpc-js names it: address:port. */
  callStarted(peer: string): void {
    const connection = this.connections.get(peer);
    if (connection) connection.calls++;
  }

  callEnded(peer: string): void {
    const connection = this.connections.get(peer);
    if (!connection) return;
    connection.calls--;
    connection.idle_since_ms = performance.now();
  }

  private sweep(): void {
    const limit = performance.now() - this.limits.idle_ms;
    for (const [peer, connection] of this.connections) {
      if (connection.calls > 0 || connection.idle_since_ms > limit) continue;
      this.counters.refuse('timeout', peer);
      connection.socket.destroy();
    }
  }

  /** No new connections; the open ones go on. */
  close(): void {
    clearInterval(this.sweeper);
    this.server.close();
  }

  destroyAll(): void {
    for (const socket of this.sockets) socket.destroy();
  }
}

function kindOf(bytes: Buffer): 'tls_to_plain' | 'not_http2' {
  return bytes[0] === TLS_HANDSHAKE ? 'tls_to_plain' : 'not_http2';
}

export function peerOf(socket: Socket): string {
  return `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
}
