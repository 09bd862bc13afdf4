// The server's DoPut: reads a stream batch by batch, at the pace of the store, and acknowledges each in order.
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  type AssembledBatch,
  Assembler,
  type AssemblerLimits,
  type WireBatch,
} from './assembler.ts';
import type { Dedup } from './dedup.ts';
import type { Decoded, FlightData } from './flight.ts';
import { encodeMetadata, type PutAck } from './metadata.ts';
import type { Counters, Refusal } from './stats.ts';

export interface Sender {
  /** `flight:<peer>` for clients that are not ours. */
  readonly collector_id: string;
  readonly host: string;
  readonly version: string;
  readonly peer: string;
  /** Counted by the stream for clients that are not ours. */
  readonly seq: number;
}

/**
 * `ok`: stored. Otherwise `retry` tells whether a resend may help (the stream ends, the collector comes back) or the
 * batch is refused for good (acknowledged as rejected, so that it does not block those behind it).
 */
export type Ack = { ok: true } | { ok: false; reason: string; retry: boolean };

export type PutHandler = (sender: Sender, batch: WireBatch) => Promise<Ack>;
export type PutCall = ServerDuplexStream<Decoded<FlightData>, Uint8Array>;

export interface PutContext {
  readonly put: PutHandler;
  readonly dedup: Dedup | undefined;
  readonly counters: Counters;
  readonly limits: AssemblerLimits & { readonly stream_idle_ms: number };
  readonly fail: (call: PutCall, reason: Refusal, details: string) => void;
  /** The end of each collector's queue: its batches are stored one after another, whatever stream they came on. */
  readonly queues: Map<string, Promise<unknown>>;
}

/** Acknowledgements are cumulative: a client that does not read them gets fewer, not a growing queue. */
const ACKS_WAITING_MAX = 1024;

/** Runs `turn` after all earlier turns of the same key. */
async function inTurn<T>(
  queues: Map<string, Promise<unknown>>,
  key: string,
  turn: () => Promise<T>,
): Promise<T> {
  const before = queues.get(key) ?? Promise.resolve();
  const mine = before.then(turn, turn);
  queues.set(key, mine);
  try {
    return await mine;
  } finally {
    if (queues.get(key) === mine) queues.delete(key);
  }
}

async function storeOne(context: PutContext, sender: Sender, one: AssembledBatch): Promise<Ack> {
  const { dedup, counters } = context;
  const { table } = one.batch;
  const known = one.about !== undefined && dedup !== undefined;
  if (known && dedup.isRepeat(sender.collector_id, table, sender.seq)) {
    counters.stats.repeats++;
    return { ok: true };
  }
  const ack = await context.put(sender, one.batch);
  if (!ack.ok) return ack;
  if (known) dedup.stored(sender.collector_id, table, sender.seq);
  counters.stats.batches++;
  counters.stats.bytes += one.batch.bytes;
  return ack;
}

function senderOf(one: AssembledBatch, peer: string, count: number): Sender {
  if (!one.about)
    return { collector_id: `flight:${peer}`, host: '', version: '', peer, seq: count };
  const { collector_id, host, version, seq } = one.about;
  return { collector_id, host, version, peer, seq };
}

/** Ends with the stream's status sent; never throws. */
export async function answerPut(call: PutCall, context: PutContext): Promise<void> {
  const assembler = new Assembler(context.limits);
  const messages = call.iterator({ destroyOnReturn: false });
  const { stream_idle_ms } = context.limits;
  // Between two whole messages: a peer that dribbles bytes is as idle as one that sends none.
  const idle = setTimeout(() => {
    context.fail(call, 'timeout', 'no message in time');
  }, stream_idle_ms);
  let count = 0;
  try {
    for await (const message of messages) {
      idle.refresh();
      // What the stream yields is what requestDeserialize of flight.ts returned.
      const decoded = message as Decoded<FlightData>;
      if (!decoded.ok) return context.fail(call, 'malformed', decoded.reason);
      const assembled = assembler.push(decoded.value);
      if (assembled.kind === 'none') continue;
      if (assembled.kind === 'refused') {
        return context.fail(call, assembled.reason, assembled.details);
      }
      count++;
      const sender = senderOf(assembled.value, call.getPeer(), count);
      const ack = await inTurn(context.queues, sender.collector_id, () =>
        call.cancelled
          ? Promise.resolve<Ack>({ ok: false, reason: 'stream gone', retry: true })
          : storeOne(context, sender, assembled.value),
      );
      if (!ack.ok && ack.retry) return context.fail(call, 'unavailable', ack.reason);
      acknowledge(call, context, sender.seq, ack);
      idle.refresh();
    }
    call.end();
  } catch (error) {
    // The iterator throws when the peer goes away; a handler that throws asks for a resend.
    const reason = error instanceof Error ? error.message : String(error);
    if (!call.cancelled) context.fail(call, 'unavailable', reason);
  } finally {
    clearTimeout(idle);
  }
}

function acknowledge(call: PutCall, context: PutContext, seq: number, ack: Ack): void {
  if (!ack.ok) context.counters.stats.rejected++;
  const result: PutAck = ack.ok ? { seq } : { seq, rejected: ack.reason };
  if (ack.ok && call.writableLength > ACKS_WAITING_MAX) return;
  call.write(encodeMetadata(result));
}
