// The other end of the reducer's actions: commands ask with it, and a collector listens with it for wishes.

import { Client, Metadata, status } from '@grpc/grpc-js';
import { authority } from './address.ts';
import { flight_service } from './flight.ts';
import { reachWords } from './reach.ts';
import { type ClientTls, channelTo } from './tls.ts';

export interface FlushedCollector {
  readonly collector_id: string;
  readonly host: string;
  /** False: it did not answer in time; its newest rows may be missing. */
  readonly flushed: boolean;
  readonly waited_ms: number;
}

export interface FlushReport {
  /** True when every connected collector answered. */
  readonly complete: boolean;
  readonly collectors: readonly FlushedCollector[];
  readonly message: string;
}

/** What a collector is told: a number to answer with, or nothing to do for now. */
export interface ControlReply {
  readonly flush?: number;
}

export interface AskOptions {
  readonly host: string;
  readonly port: number;
  readonly token?: string;
  readonly tls?: ClientTls;
  readonly timeout_ms?: number;
}

export interface Asker {
  /** Runs one action. Rejects with the reducer's words, or with why it cannot be reached. */
  action(type: string, body: unknown, timeout_ms?: number): Promise<Buffer>;
  /** Ends what is under way, too. */
  close(): void;
}

const TIMEOUT_MS_DEFAULT = 60_000;
const RETRY_MS = 1000;
/** More than the reducer keeps a call open. */
const CONTROL_TIMEOUT_MS = 30_000;
/** A collector that ends waits no longer for a reducer that is away. */
const LEAVE_MS = 1000;

export function asker(options: AskOptions): Asker {
  const { token, tls } = options;
  let client = clientOf(options);
  /** With the certificates that are in the files by now. */
  const connectAnew = () => {
    try {
      const next = clientOf(options);
      client.close();
      client = next;
    } catch {
      // a file is being written: what there was serves until the next try
    }
  };
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const { path, requestSerialize, responseDeserialize } = flight_service.DoAction;
  const open = new Set<{ cancel(): void }>();
  return {
    action: (type, body, timeout_ms = options.timeout_ms ?? TIMEOUT_MS_DEFAULT) =>
      new Promise((resolve, reject) => {
        const request = { type, body: Buffer.from(JSON.stringify(body), 'utf8') };
        const deadline = Date.now() + timeout_ms;
        const call = client.makeServerStreamRequest(
          path,
          requestSerialize,
          responseDeserialize,
          request,
          metadata,
          { deadline },
        );
        open.add(call);
        call.on('status', () => open.delete(call));
        const pieces: Uint8Array[] = [];
        call.on('data', (piece) => pieces.push(bytesOf(piece)));
        call.on('end', () => resolve(Buffer.concat(pieces)));
        call.on('error', (error) => {
          const is_away = 'code' in error && error.code === status.UNAVAILABLE;
          if (is_away && tls !== undefined) connectAnew();
          reject(new Error(reachWords(error, tls !== undefined), { cause: error }));
        });
      }),
    close: () => {
      // an open call would keep the connection, and with it the process
      for (const call of open) call.cancel();
      client.close();
    },
  };
}

/** @throws {OperatorError} for TLS files that cannot be used. */
function clientOf({ host, port, tls }: AskOptions): Client {
  const channel = channelTo(host, tls);
  return new Client(authority(host, port), channel.creds, {
    'grpc.max_receive_message_length': -1,
    'grpc.enable_channelz': 0,
    ...channel.options,
  });
}

/** What the codec of the wire yields: a value, or why the bytes were none. */
function bytesOf(piece: unknown): Uint8Array {
  if (piece instanceof Uint8Array) return piece;
  if (typeof piece === 'object' && piece !== null && 'value' in piece) return bytesOf(piece.value);
  throw new Error('The reducer answered with bytes that are no Flight result');
}

/** Asks all collectors to deliver. */
export async function askFlush(asking: Asker, timeout_ms: number): Promise<FlushReport> {
  const answer = await asking.action('flush', { timeout_ms }, timeout_ms + TIMEOUT_MS_DEFAULT);
  // Our own reducer's JSON, of the same version or one that keeps these fields.
  return JSON.parse(answer.toString('utf8')) as FlushReport;
}

export interface ControlOptions {
  readonly collector_id: string;
  readonly host: string;
  /** Drains the kernel and resolves when everything drained is acknowledged. */
  readonly on_flush: () => Promise<void>;
  readonly signal: AbortSignal;
}

/** A collector's ear: runs until `signal`, through restarts of the reducer; never throws. */
export async function listenForControl(asking: Asker, options: ControlOptions): Promise<void> {
  const { collector_id, host, on_flush, signal } = options;
  let flushed = 0;
  while (!signal.aborted) {
    try {
      const body = { collector_id, host, flushed };
      const answer = await asking.action('control', body, CONTROL_TIMEOUT_MS);
      // Our own reducer's JSON.
      const { flush } = JSON.parse(answer.toString('utf8')) as ControlReply;
      if (typeof flush !== 'number' || signal.aborted) continue;
      await on_flush();
      flushed = flush;
    } catch {
      // The reducer is away or the drain failed: the one who waits is told by the time-out, the wire reports its own state.
      flushed = 0;
      if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** A collector's last word, so that nobody waits for it; never throws. */
export async function leaveControl(
  asking: Asker,
  { collector_id, host }: Pick<ControlOptions, 'collector_id' | 'host'>,
  delivered: boolean,
): Promise<void> {
  const body = { collector_id, host, leaving: delivered ? 'delivered' : 'undelivered' };
  // The reducer is away: the end of the connection tells it as much.
  await asking.action('control', body, LEAVE_MS).catch(() => undefined);
}
