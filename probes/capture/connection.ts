// A captured connection: two directions of messages, and each response with the request that it answers.

import { type BodyBudget, type Message, MessageReader, type MessageSink } from './message.ts';
import { PATIENCE_NS, type SegmentBudget, Segments } from './segments.ts';

export interface Exchange {
  readonly request: Message;
  response: Message | undefined;
}

/** Who talks to whom; the owner becomes known as the connection goes. */
export interface Ends {
  readonly cookie: number;
  readonly role: number;
  readonly netns: number;
  readonly local_ip: string;
  readonly local_port: number;
  readonly peer_ip: string;
  readonly peer_port: number;
}

export interface ConnectionSink {
  /** `complete`: both messages were seen to their ends. */
  exchange(connection: Connection, exchange: Exchange, complete: boolean): void;
}

export interface ConnectionCounts {
  requests: number;
  responses: number;
  request_errors: number;
  response_errors: number;
  /** Responses to nothing that was seen. */
  orphans: number;
  /** Exchanges that were given up: too many unanswered on one connection. */
  unanswered: number;
  /** Pieces that were no part of a message. */
  pieces_lost: number;
}

interface End {
  readonly seq: number;
  readonly time_ns: number;
}

/** Requests that wait for their responses, on one connection (pipelining). */
const WAITING_MAX = 256;

export class Connection {
  readonly ends: Ends;
  readonly #sink: ConnectionSink;
  readonly #counts: ConnectionCounts;
  readonly #waiting: Exchange[] = [];
  readonly #readers: readonly [MessageReader, MessageReader];
  readonly #segments: readonly [Segments, Segments];
  readonly #ended = [false, false];
  /** Where a side ends whose last bytes are still missing, and since when that is known. */
  readonly #ends_at: [End | undefined, End | undefined] = [undefined, undefined];
  #broken = false;
  owner_tgid = 0;
  owner_start_ns = 0;
  owner_cgroup_id = 0;
  /** Selected by its owner, and not by the port alone. */
  confirmed = false;
  last_ns = 0;

  constructor(
    ends: Ends,
    sink: ConnectionSink,
    shared: { segments: SegmentBudget; bodies: BodyBudget; counts: ConnectionCounts },
  ) {
    this.ends = ends;
    this.#sink = sink;
    this.#counts = shared.counts;
    const reader = (kind: 'request' | 'response', into: MessageSink): MessageReader =>
      new MessageReader(kind, into, shared.bodies);
    const method = (): string => this.#asked()?.request.head.method ?? '';
    this.#readers = [
      reader('request', {
        begin: (one) => this.#requestBegins(one),
        end: this.#requestEnds,
        method,
      }),
      reader('response', {
        begin: (one) => this.#answerBegins(one),
        end: this.#answerEnds,
        method,
      }),
    ];
    this.#segments = [
      new Segments(this.#readers[0], shared.segments),
      new Segments(this.#readers[1], shared.segments),
    ];
  }

  /** Both directions are over. */
  get over(): boolean {
    return this.#ended[0] === true && this.#ended[1] === true;
  }

  begin(side: 0 | 1, seq: number): void {
    this.#segments[side].begin(seq);
  }

  /** `bytes` undefined: `length` bytes that are not here. */
  data(side: 0 | 1, seq: number, length: number, bytes: Uint8Array | undefined, at: number): void {
    this.last_ns = at;
    this.#segments[side].push(seq, length, bytes, at);
    const end = this.#ends_at[side];
    if (end !== undefined && this.#segments[side].reached(end.seq)) this.#finish(side, at, false);
    this.#bookErrors();
    if (this.over) this.#giveUp();
  }

  /** No more from this side behind `seq`. */
  end(side: 0 | 1, seq: number, time_ns: number): void {
    this.last_ns = time_ns;
    if (this.#segments[side].reached(seq)) this.#finish(side, time_ns, false);
    else this.#ends_at[side] ??= { seq, time_ns };
    this.#bookErrors();
    if (this.over) this.#giveUp();
  }

  /** Nothing more at all: a reset, or the connection is forgotten. */
  close(time_ns: number): void {
    for (const side of [0, 1] as const) this.#finish(side, time_ns, true);
    this.#bookErrors();
    this.#giveUp();
    for (const reader of this.#readers) reader.drop();
  }

  tick(now_ns: number): void {
    for (const side of [0, 1] as const) {
      this.#segments[side].tick(now_ns);
      const end = this.#ends_at[side];
      if (end !== undefined && now_ns - end.time_ns > PATIENCE_NS) this.#finish(side, now_ns, true);
    }
    this.#bookErrors();
    if (this.over) this.#giveUp();
  }

  #finish(side: 0 | 1, time_ns: number, broken: boolean): void {
    if (this.#ended[side] === true) return;
    this.#ended[side] = true;
    this.#segments[side].finish();
    this.#readers[side].finish(time_ns, broken);
  }

  #bookErrors(): void {
    const [requests, responses] = this.#readers;
    this.#counts.request_errors += requests.errors;
    this.#counts.response_errors += responses.errors;
    this.#counts.pieces_lost += requests.pieces_lost + responses.pieces_lost;
    for (const reader of this.#readers) {
      reader.errors = 0;
      reader.pieces_lost = 0;
    }
  }

  /** The exchange whose response is to come, or under way. */
  #asked(): Exchange | undefined {
    return this.#waiting.find(({ response }) => response?.ended !== true);
  }

  #requestBegins(request: Message): boolean {
    if (request.head.framing.type === 'tunnel') {
      this.#readers[1].tunnel(); // HTTP/2 with prior knowledge: another source's
      return false;
    }
    if (this.#waiting.length >= WAITING_MAX) this.#broken = true; // which answers which is lost
    if (this.#broken) {
      this.#counts.unanswered += 1 + this.#waiting.splice(0).length;
      return false;
    }
    this.#waiting.push({ request, response: undefined });
    return true;
  }

  readonly #requestEnds = (): void => {
    this.#counts.requests += 1;
    this.#settle();
  };

  #answerBegins(response: Message): boolean {
    const { status, framing } = response.head;
    if (status < 200 && status !== 101) return false;
    if (this.#readers[1].missed) this.#forgetMissed();
    const exchange = this.#asked();
    if (exchange === undefined || exchange.response !== undefined) {
      this.#counts.orphans += 1;
      return false;
    }
    exchange.response = response;
    if (framing.type === 'tunnel') this.#readers[0].tunnel();
    return true;
  }

  /** After a hole among the responses: without pipelining, this one answers the last request. */
  #forgetMissed(): void {
    this.#readers[1].missed = false;
    const last = this.#waiting.length - 1;
    if (last > 0) for (const exchange of this.#waiting.splice(0, last)) this.#emit(exchange);
  }

  readonly #answerEnds = (): void => {
    this.#counts.responses += 1;
    this.#settle();
  };

  /** Those at the head of the queue that are whole leave it. */
  #settle(): void {
    for (;;) {
      const first = this.#waiting[0];
      if (first === undefined || !first.request.ended || first.response?.ended !== true) return;
      this.#waiting.shift();
      this.#emit(first);
    }
  }

  /** The connection is over: what waits is reported as far as it came. */
  #giveUp(): void {
    for (const exchange of this.#waiting.splice(0)) this.#emit(exchange);
  }

  #emit(exchange: Exchange): void {
    const { request, response } = exchange;
    this.#sink.exchange(this, exchange, request.complete && response?.complete === true);
  }
}
