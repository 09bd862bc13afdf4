// Decides about each gRPC call before its first message is read: token, streams, a time limit; and sees each
// call's status, those that grpc-js sends by itself (a frame too large, bytes that are no message) included.
import { createHash, timingSafeEqual } from 'node:crypto';
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  status,
} from '@grpc/grpc-js';
import type { Gate } from './gate.ts';
import { type Counters, type Refusal, refusals } from './stats.ts';

export interface AdmissionOptions {
  readonly token: string | undefined;
  readonly streams_max: number;
  readonly first_message_ms: number;
}

type Verdict = { reason: Refusal; code: number; details: string };

/** What grpc-js itself answers, as far as it is a refusal. */
const by_code = new Map<number, Refusal>([
  [status.RESOURCE_EXHAUSTED, 'too_large'],
  [status.INTERNAL, 'malformed'],
  [status.DEADLINE_EXCEEDED, 'timeout'],
  [status.UNIMPLEMENTED, 'unimplemented'],
]);

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Status details of ours begin with the reason. */
export function detailsOf(reason: Refusal, details: string): string {
  return `${reason}: ${details}`;
}

function reasonOfStatus(code: number, details: string): Refusal | undefined {
  const prefix = details.slice(0, details.indexOf(':'));
  return refusals.find((reason) => reason === prefix) ?? by_code.get(code);
}

/** The interceptor to give to grpc-js. */
export function admission(
  options: AdmissionOptions,
  counters: Counters,
  gate: () => Gate | undefined,
): ServerInterceptor {
  const { stats } = counters;
  // Equal lengths for the constant-time comparison, whatever the client sends.
  const expected = options.token === undefined ? undefined : sha256(`Bearer ${options.token}`);

  function judge(metadata: Metadata): Verdict | undefined {
    const given = metadata.get('authorization').at(0) ?? '';
    if (expected && !timingSafeEqual(sha256(String(given)), expected)) {
      const details = 'the bearer token is missing or wrong';
      return { reason: 'unauthenticated', code: status.UNAUTHENTICATED, details };
    }
    if (stats.streams_open > options.streams_max) {
      const details = `more than ${options.streams_max} calls at a time`;
      return { reason: 'too_many_streams', code: status.RESOURCE_EXHAUSTED, details };
    }
    return undefined;
  }

  function end(call: ServerInterceptingCallInterface, verdict: Verdict): void {
    const details = detailsOf(verdict.reason, verdict.details);
    call.sendStatus({ code: verdict.code, details, metadata: null });
  }

  return (_method, call) => {
    const peer = call.getPeer();
    stats.streams++;
    stats.streams_open++;
    gate()?.callStarted(peer);
    watchStatus(call, (code, details) => {
      const reason = reasonOfStatus(code, details);
      if (reason) counters.refuse(reason, peer);
    });
    const timer = setTimeout(() => {
      const details = 'no first message in time';
      end(call, { reason: 'timeout', code: status.DEADLINE_EXCEEDED, details });
    }, options.first_message_ms);
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata(metadata, proceed) {
            const verdict = judge(metadata);
            if (verdict) end(call, verdict);
            else proceed(metadata);
          },
          onReceiveMessage(message, proceed) {
            clearTimeout(timer);
            proceed(message);
          },
          // grpc-js calls it at the end of every call, however it ended.
          onCancel() {
            clearTimeout(timer);
            stats.streams_open--;
            gate()?.callEnded(peer);
          },
        }),
    });
  };
}

/** grpc-js's own refusals go past its interceptors, but through this method of the same object. */
function watchStatus(
  call: ServerInterceptingCallInterface,
  seen: (code: number, details: string) => void,
): void {
  const send = call.sendStatus.bind(call);
  let ended = false;
  call.sendStatus = (given) => {
    if (!ended) seen(given.code ?? status.UNKNOWN, given.details ?? '');
    ended = true;
    send(given);
  };
}
