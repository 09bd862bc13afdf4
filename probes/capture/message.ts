// One direction of an HTTP/1 connection as whole messages: the parser's findings, with the body up to a limit.

import { type Head, HeadParser, type HeadSink } from '../http/head.ts';
import type { StreamReader } from './segments.ts';

/** Why a body is not whole: '' it is. */
export type Cut = '' | 'limit' | 'memory' | 'lost';

export interface Message {
  readonly head: Head;
  readonly begin_ns: number;
  end_ns: number;
  /** What was kept of the body, in order, without chunk framing. */
  body: Uint8Array;
  body_bytes: number;
  /** Behind a chunked body, as `head.headers`. */
  trailers: readonly string[];
  cut: Cut;
  /** The end was seen, and nothing before it was missed. */
  complete: boolean;
  ended: boolean;
}

/** Bytes of bodies that all connections hold at once. */
export class BodyBudget {
  readonly bytes_max: number;
  readonly body_max: number;
  bytes = 0;
  /** Bodies that were cut because all together were too much. */
  refused = 0;

  constructor(bytes_max: number, body_max: number) {
    this.bytes_max = bytes_max;
    this.body_max = body_max;
  }
}

/** What a direction reports to the connection that it is of. */
export interface MessageSink {
  /** False: the message is of no use (an interim response), and what follows of it is not kept. */
  begin(message: Message): boolean;
  end(message: Message): void;
  /** Of responses: the method that was asked. */
  method(): string;
}

const FIRST_ROOM = 4096;

/** Makes messages of the bytes of one direction. */
export class MessageReader implements StreamReader, HeadSink {
  readonly #sink: MessageSink;
  readonly #budget: BodyBudget;
  readonly #parser: HeadParser;
  #now_ns = 0;
  #begin_ns = 0;
  #fresh = true;
  #message: Message | undefined;
  #room = new Uint8Array(0);
  #kept = 0;
  /** A whole message, or more, may be missing since this was set to false. */
  missed = false;
  /** Times that bytes were no message, and pieces that were of none. */
  errors = 0;
  pieces_lost = 0;

  constructor(kind: 'request' | 'response', sink: MessageSink, budget: BodyBudget) {
    this.#sink = sink;
    this.#budget = budget;
    this.#parser = new HeadParser(kind, this, { line_max: 65_536, headers_max: 256 });
  }

  /** Bytes of another protocol follow. */
  get opaque(): boolean {
    return this.#parser.state === 'tunnel';
  }

  bytes(bytes: Uint8Array, time_ns: number): void {
    this.#now_ns = time_ns;
    if (this.#fresh) this.#begin_ns = time_ns;
    this.#fresh = false;
    const { lost, state } = this.#parser;
    this.#parser.feed(bytes);
    const is = this.#parser.state;
    this.errors += Math.max(0, this.#parser.lost - lost);
    const was_lost = state === 'lost' || state === 'tunnel';
    if (is === 'lost' || (was_lost && is === state)) this.pieces_lost += 1;
    if (is === 'lost') this.#fresh = true;
  }

  hole(count: number, time_ns: number, why: 'lost' | 'limit'): void {
    this.#now_ns = time_ns;
    const message = this.#message;
    if (message !== undefined) {
      message.body_bytes += count;
      if (message.cut === '') message.cut = why;
    }
    const { lost } = this.#parser;
    this.#parser.gap(count);
    if (this.#parser.lost > lost) this.missed = true;
    if (this.#parser.state === 'lost') this.#fresh = true;
  }

  tunnel(): void {
    this.#parser.tunnel();
  }

  /** The connection is over; `broken`: not in the way that ends a body without a length. */
  finish(time_ns: number, broken: boolean): void {
    this.#now_ns = time_ns;
    if (broken && this.#message?.cut === '') this.#message.cut = 'lost';
    this.#parser.finish();
  }

  method(): string {
    return this.#sink.method();
  }

  head(head: Head): void {
    const message: Message = {
      head,
      begin_ns: this.#begin_ns,
      end_ns: this.#now_ns,
      body: new Uint8Array(0),
      body_bytes: 0,
      trailers: [],
      cut: '',
      complete: false,
      ended: false,
    };
    this.#message = this.#sink.begin(message) ? message : undefined;
  }

  body(bytes: Uint8Array, from: number, to: number): void {
    const message = this.#message;
    if (message === undefined) return;
    message.body_bytes += to - from;
    if (message.cut !== '') return;
    const wanted = to - from;
    const room = Math.min(wanted, this.#budget.body_max - this.#kept);
    if (room < wanted) message.cut = 'limit';
    if (room > 0 && !this.#grow(this.#kept + room)) {
      message.cut = 'memory';
      this.#budget.refused += 1;
      return;
    }
    this.#room.set(bytes.subarray(from, from + room), this.#kept);
    this.#kept += room;
  }

  trailers(trailers: readonly string[]): void {
    if (this.#message !== undefined) this.#message.trailers = trailers;
  }

  end(complete: boolean): void {
    const message = this.#message;
    this.#fresh = true;
    this.#begin_ns = this.#now_ns;
    if (message !== undefined) {
      message.end_ns = this.#now_ns;
      message.body = this.#room.slice(0, this.#kept);
      message.complete = complete && message.cut === '';
      message.ended = true;
    }
    this.drop();
    if (message !== undefined) this.#sink.end(message);
  }

  /** Gives the room for the body back. */
  drop(): void {
    this.#budget.bytes -= this.#room.length;
    this.#room = new Uint8Array(0);
    this.#kept = 0;
    this.#message = undefined;
  }

  #grow(bytes: number): boolean {
    const has = this.#room.length;
    if (bytes <= has) return true;
    const wants = Math.min(Math.max(bytes, has * 2, FIRST_ROOM), this.#budget.body_max);
    if (this.#budget.bytes + wants - has > this.#budget.bytes_max) return false;
    const room = new Uint8Array(wants);
    room.set(this.#room.subarray(0, this.#kept));
    this.#room = room;
    this.#budget.bytes += wants - has;
    return true;
  }
}
