// The reducer's end of the wire: an Arrow Flight server on TCP, for our collectors and for any Arrow client. What
// strangers send is bounded at each step and counted when it is refused (stats.ts).
import type { TlsOptions } from 'node:tls';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import { authority, checkAddress, checkPlaintext } from './address.ts';
import { admission, detailsOf } from './admission.ts';
import { type ReadHandlers, readingService } from './answers.ts';
import type { Dedup } from './dedup.ts';
import { listenCure, OperatorError, reasonOf } from './error.ts';
import { flight_service } from './flight.ts';
import { Gate } from './gate.ts';
import { answerPut, type PutCall, type PutContext, type PutHandler } from './put.ts';
import { Counters, type Refusal, type ServerStats } from './stats.ts';
import { readPem, unusableTls } from './tls.ts';

export interface ServerTls {
  /** Paths of PEM files. */
  readonly cert: string;
  readonly key: string;
  /** Set for mTLS: only clients with a certificate signed by it are let in. */
  readonly client_ca?: string;
}

export interface ServerLimits {
  readonly connections_max: number;
  /** Calls at a time, over all connections, and on one. */
  readonly streams_max: number;
  readonly streams_per_connection_max: number;
  readonly tables_max: number;
  readonly message_bytes_max: number;
  /** All messages of one batch, and the dictionaries that a foreign stream keeps. */
  readonly batch_bytes_max: number;
  readonly first_bytes_ms: number;
  readonly first_message_ms: number;
  readonly stream_idle_ms: number;
  readonly idle_ms: number;
  readonly keepalive_ms: number;
  readonly keepalive_timeout_ms: number;
}

export interface ServerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly tls?: ServerTls;
  readonly token?: string;
  readonly allow_plaintext?: boolean;
  readonly limits?: Partial<ServerLimits>;
  /** At most one line a minute for each reason. */
  readonly log?: (line: string) => void;
}

export interface ServerHandlers extends ReadHandlers {
  /** Called in order for each collector. A throw is an `unavailable` that the client may retry. */
  readonly put: PutHandler;
  readonly dedup?: Dedup;
}

const MEBIBYTE = 1024 * 1024;

export const server_limits: ServerLimits = {
  connections_max: 1024,
  streams_max: 1024,
  streams_per_connection_max: 32,
  tables_max: 64,
  message_bytes_max: 16 * MEBIBYTE,
  batch_bytes_max: 64 * MEBIBYTE,
  first_bytes_ms: 5000,
  first_message_ms: 10_000,
  stream_idle_ms: 600_000,
  idle_ms: 60_000,
  keepalive_ms: 30_000,
  keepalive_timeout_ms: 10_000,
};

/** A Flight status for what was refused by us. */
const codes: Partial<Record<Refusal, number>> = {
  malformed: status.INVALID_ARGUMENT,
  too_large: status.RESOURCE_EXHAUSTED,
  too_many_tables: status.RESOURCE_EXHAUSTED,
  timeout: status.DEADLINE_EXCEEDED,
  unavailable: status.UNAVAILABLE,
};

function failPut(call: PutCall, reason: Refusal, details: string): void {
  call.emit('error', {
    code: codes[reason] ?? status.UNKNOWN,
    details: detailsOf(reason, details),
  });
}

export class FlightServer {
  readonly port: number;
  readonly host: string;
  /** Live numbers. */
  readonly stats: ServerStats;
  private readonly gate: Gate;
  private readonly grpc: Server;
  private readonly queues: Map<string, Promise<unknown>>;
  private readonly tls: ServerTls | undefined;

  private constructor(parts: {
    port: number;
    host: string;
    stats: ServerStats;
    gate: Gate;
    grpc: Server;
    queues: Map<string, Promise<unknown>>;
    tls: ServerTls | undefined;
  }) {
    this.tls = parts.tls;
    this.port = parts.port;
    this.host = parts.host;
    this.stats = parts.stats;
    this.gate = parts.gate;
    this.grpc = parts.grpc;
    this.queues = parts.queues;
  }

  /** Throws OperatorError when the address, the certificates or plain text cannot be used as asked. */
  static async listen(options: ServerOptions, handlers: ServerHandlers): Promise<FlightServer> {
    const { host, token } = options;
    checkAddress(host, options.port);
    if (!options.tls) checkPlaintext('listen on', host, options.allow_plaintext ?? false);
    const limits = { ...server_limits, ...options.limits };
    const counters = new Counters(options.log);
    const queues = new Map<string, Promise<unknown>>();
    let gate: Gate | undefined;
    const { streams_max, first_message_ms } = limits;
    const interceptor = admission({ token, streams_max, first_message_ms }, counters, () => gate);
    const grpc = new Server({
      interceptors: [interceptor],
      'grpc.max_receive_message_length': limits.message_bytes_max,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': limits.streams_per_connection_max,
      'grpc.keepalive_time_ms': limits.keepalive_ms,
      'grpc.keepalive_timeout_ms': limits.keepalive_timeout_ms,
      'grpc.enable_channelz': 0,
    });
    const context: PutContext = {
      put: handlers.put,
      dedup: handlers.dedup,
      counters,
      limits,
      queues,
      fail: failPut,
    };
    const reading = readingService(handlers, (reason, peer) => counters.refuse(reason, peer));
    grpc.addService(flight_service, {
      ...reading,
      DoPut: (call: PutCall) => void answerPut(call, context),
    });
    // TLS ends in the gate, where its failures can be counted; grpc-js sees the decrypted socket.
    const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
    countSessionErrors(grpc, counters);
    const open = (tls?: TlsOptions) =>
      new Gate(limits, counters, (socket) => injector.injectConnection(socket), tls);
    gate = options.tls ? withTlsFiles(options.tls, open) : open();
    const port = await listenOrExplain(gate, host, options.port);
    const { tls } = options;
    return new FlightServer({ port, host, stats: counters.stats, gate, grpc, queues, tls });
  }

  /** Reads the TLS files again, for connections that come. @throws {OperatorError}; then the former serve. */
  renewTls(): void {
    if (this.tls !== undefined) withTlsFiles(this.tls, (tls) => this.gate.renewTls(tls));
  }

  /** Stops to listen, lets batches that are being stored finish, then ends all streams. */
  async close(): Promise<void> {
    this.gate.close();
    await Promise.allSettled(this.queues.values());
    // Gives the last acknowledgements a turn to leave.
    await new Promise((resolve) => setImmediate(resolve));
    this.grpc.forceShutdown();
    this.gate.destroyAll();
  }
}

/**
 * grpc-js keeps its HTTP/2 servers to itself and says nothing of their broken sessions. The field is private: should
 * it go away, these errors are no longer counted, and a test says so.
 */
function countSessionErrors(grpc: Server, counters: Counters): void {
  const servers: unknown = Reflect.get(grpc, 'http2Servers');
  if (!(servers instanceof Map)) return;
  for (const server of servers.keys()) {
    server.on('sessionError', () => counters.refuse('malformed', 'an HTTP/2 session'));
  }
}

function withTlsFiles<Made>(files: ServerTls, make: (tls: TlsOptions) => Made): Made {
  const options = readTls(files);
  try {
    return make(options);
  } catch (error) {
    throw unusableTls(Object.values(files), error);
  }
}

async function listenOrExplain(gate: Gate, host: string, port: number): Promise<number> {
  try {
    return await gate.listen(host, port);
  } catch (error) {
    gate.close();
    const message = `Cannot listen on ${authority(host, port)}: ${reasonOf(error)}`;
    const cure = listenCure(error, 'reducer.listen, --listen');
    throw new OperatorError('wire_address', message, cure);
  }
}

function readTls(files: ServerTls): TlsOptions {
  const own = {
    cert: readPem(files.cert),
    key: readPem(files.key),
    minVersion: 'TLSv1.2',
  } as const;
  if (files.client_ca === undefined) return own;
  return { ...own, ca: readPem(files.client_ca), requestCert: true, rejectUnauthorized: true };
}
