// Both directions of an HTTP/2 connection → its requests, each once, when it is over. The bytes come from the kernel side
// (decode.ts) or, whole, from a library that decrypts them.
//
// What a connection joined late cannot tell is `undefined`, never a guess. README.md tells how it is fed.

import type { RequestLine } from '../http/line.ts';
import { FrameReader, type FrameSink, startsWithFrames } from './frames.ts';
import { HpackDecoder } from './hpack.ts';

/** A request and what became of it. Times are those that were given with the bytes. */
export interface Http2Exchange {
  readonly stream: number;
  /** A response that the server sent unasked. */
  pushed: boolean;
  /** The request's head was seen; else it was sent before the connection was joined, or was missed. */
  request_seen: boolean;
  method: string | undefined;
  /** As sent, cut to PATH_MAX. */
  path: string | undefined;
  path_cut: boolean;
  authority: string | undefined;
  /** undefined: unknown; 0: there was none. */
  status: number | undefined;
  /** By the content type of either side, or a grpc-status. */
  grpc: boolean;
  /** undefined: none was sent, or it is unknown. */
  grpc_status: number | undefined;
  /** Bodies, without heads and padding. */
  request_bytes: number;
  response_bytes: number;
  start_ns: number;
  /** Of the final response's head; 0: none. */
  first_byte_ns: number;
  end_ns: number;
  /** 1xx responses before the final one. */
  informational: number;
  end: 'complete' | 'reset' | 'closed' | 'evicted';
  reset_code: number;
  reset_by: 'client' | 'server' | '';
  request_ended: boolean;
  response_ended: boolean;
  /** A part of it may be missing: bytes and status are what was seen. */
  missed: boolean;
}

export interface ExchangeSink {
  /** A request is over. The object is the sink's. */
  exchange(exchange: Http2Exchange): void;
}

/** Open streams of all connections together; shared by those who are given it. */
export interface StreamBudget {
  open: number;
  readonly max: number;
}

export interface Http2Options {
  /** The connection is older than its reader: heads may refer to what was never seen. */
  readonly joined: boolean;
  /** Which of the two sides is the client; undefined: it shows. */
  readonly client?: Side | undefined;
  readonly streams_max?: number;
  readonly budget?: StreamBudget;
}

/** The two directions, by who sends. */
export type Side = 0 | 1;

const STREAMS_MAX = 4096; // Node and gRPC send thousands at once
const RESET_IDS_MAX = 1024;
const PATH_MAX = 1024;
const STATUS = /^[1-9]\d\d$/;
const GRPC_STATUS = /^\d{1,2}$/;
/** Stream ids have 31 bits: greater than any. */
const NO_STREAM = 2 ** 31;

export interface Http2Counts {
  /** Header fields that refer to what was sent before the connection was joined. */
  unknown_fields: number;
  /** Blocks that were missed, too long or malformed. */
  bad_blocks: number;
  /** Times that a direction lost its place. */
  lost: number;
  /** Streams given up for a limit. */
  evicted: number;
  /** Ends of streams of which neither head was seen. */
  partial: number;
  pushed: number;
}

export class Http2Connection {
  readonly readers: readonly [FrameReader, FrameReader];
  readonly #decoders: readonly [HpackDecoder, HpackDecoder];
  readonly #sink: ExchangeSink;
  readonly #streams = new Map<number, Http2Exchange>();
  /** Streams that are over, and of which frames may still be under way. */
  readonly #reset_ids = new Set<number>();
  readonly #streams_max: number;
  readonly #budget: StreamBudget;
  #client: Side | undefined;
  #now_ns = 0;
  /** Ids of streams whose request may have been missed: from `#blind_from` up to `#blind_to`. */
  #blind_from = NO_STREAM;
  #blind_to = 0;
  /** A request may be missed right now. */
  #blind: boolean;
  #last_id = 0;
  readonly counts: Http2Counts = {
    unknown_fields: 0,
    bad_blocks: 0,
    lost: 0,
    evicted: 0,
    partial: 0,
    pushed: 0,
  };

  constructor(sink: ExchangeSink, options: Http2Options) {
    const { joined, client, streams_max = STREAMS_MAX } = options;
    this.#sink = sink;
    this.#client = client;
    this.#streams_max = streams_max;
    this.#budget = options.budget ?? { open: 0, max: Number.POSITIVE_INFINITY };
    this.#blind = joined;
    if (joined) this.#blind_from = 1;
    const state = joined ? 'lost' : 'start';
    this.readers = [
      new FrameReader(this.#frames(0), state),
      new FrameReader(this.#frames(1), state),
    ];
    this.#decoders = [new HpackDecoder(joined), new HpackDecoder(joined)];
  }

  get open(): number {
    return this.#streams.size;
  }

  /** The side that is the client, once that is known. */
  get client(): Side | undefined {
    return this.#client;
  }

  /** The moment of the bytes that are read next. */
  at(now_ns: number): void {
    this.#now_ns = now_ns;
  }

  /** Bytes that this side sent, with none left out. A lost direction goes on at a piece that begins with frames. */
  feed(side: Side, bytes: Uint8Array, now_ns: number): void {
    this.#now_ns = now_ns;
    const reader = this.readers[side];
    if (reader.state === 'lost' && startsWithFrames(bytes)) reader.resync();
    reader.feed(bytes);
  }

  /** Some of this side's bytes were not seen. */
  gap(side: Side): void {
    this.readers[side].lose('a part is missing');
  }

  /** The next bytes of this side begin with a frame's head. What it sent meanwhile was missed. */
  resync(side: Side): void {
    this.readers[side].lose('a part is missing');
    this.readers[side].resync();
  }

  /**
   * Stream 1 answers what was asked as HTTP/1, before the client's preface (h2c by Upgrade). `request_bytes` are those of the
   * whole message.
   */
  upgraded({ method, path, truncated }: RequestLine, request_bytes: number, now_ns: number): void {
    if (this.#last_id > 0) return;
    this.#last_id = 1;
    const request = { method, path, path_cut: truncated, request_bytes, start_ns: now_ns };
    const seen = { request_seen: true, request_ended: true };
    Object.assign(this.#open(1), request, seen);
  }

  /** The connection is over. */
  close(now_ns: number): void {
    this.#now_ns = now_ns;
    for (const exchange of [...this.#streams.values()]) this.#finish(exchange, 'closed');
  }

  #frames(side: Side): FrameSink {
    return {
      headers: (stream, block, end_stream) => this.#headers(side, stream, block, end_stream),
      promise: (_, promised, block) => this.#promise(side, promised, block),
      data: (stream, bytes, end_stream) => this.#data(side, stream, bytes, end_stream),
      reset: (stream, code) => this.#reset(side, stream, code),
      preface: () => {
        this.#client = side;
      },
      lost: () => this.#lost(side),
    };
  }

  #lost(side: Side): void {
    this.counts.lost += 1;
    this.#decoders[side].forget();
    const of_client = this.#client === undefined || side === this.#client;
    if (of_client) {
      this.#blind = true;
      this.#blind_from = Math.min(this.#blind_from, this.#last_id + 1);
    }
    for (const exchange of [...this.#streams.values()]) {
      exchange.missed = true;
      // Its end may be among what was missed: a response that ends is then the end of all.
      if (of_client) this.#requestEnds(exchange);
    }
  }

  /** Decodes a block; false: nothing is known of it. */
  #decode(side: Side, block: Uint8Array | undefined): boolean {
    const decoder = this.#decoders[side];
    if (block !== undefined && decoder.decode(block)) {
      this.counts.unknown_fields += decoder.unknown;
      return true;
    }
    if (block === undefined) decoder.forget();
    decoder.names.length = 0;
    decoder.values.length = 0;
    this.counts.bad_blocks += 1;
    return false;
  }

  #headers(side: Side, stream: number, block: Uint8Array | undefined, end_stream: boolean): void {
    this.#decode(side, block);
    const decoder = this.#decoders[side];
    const pseudo = decoder.names.find((name) => name?.startsWith(':'));
    const is_response = pseudo === ':status';
    if (pseudo !== undefined) this.#client = is_response ? other(side) : side;
    if (side === this.#client) this.#requestHead(decoder, stream, end_stream);
    else this.#responseHead(decoder, stream, end_stream);
  }

  #requestHead(decoder: HpackDecoder, stream: number, end_stream: boolean): void {
    let exchange = this.#streams.get(stream);
    if (exchange === undefined || !exchange.request_seen) {
      // A server's frame may be seen before the request's: the pieces of two directions have no common order.
      if (exchange === undefined && (stream <= this.#last_id || stream % 2 === 0)) return;
      exchange ??= this.#open(stream);
      exchange.request_seen = true;
      exchange.start_ns = this.#now_ns;
      this.#requestFields(decoder, exchange);
      if (stream > this.#last_id) {
        if (this.#blind) this.#blind_to = stream;
        this.#blind = false;
        this.#last_id = stream;
      }
    }
    if (end_stream) this.#requestEnds(exchange);
  }

  #requestFields({ names, values }: HpackDecoder, exchange: Http2Exchange): void {
    for (const [i, name] of names.entries()) {
      const value = values[i];
      if (value === undefined) continue;
      if (name === ':method') exchange.method = value.slice(0, 32);
      else if (name === ':path') {
        exchange.path = value.slice(0, PATH_MAX);
        exchange.path_cut = value.length > PATH_MAX;
      } else if (name === ':authority' || (name === 'host' && exchange.authority === undefined)) {
        exchange.authority = value.slice(0, PATH_MAX);
      } else if (name === 'content-type') exchange.grpc ||= isGrpc(value);
    }
  }

  #responseHead(decoder: HpackDecoder, stream: number, end_stream: boolean): void {
    const first = decoder.names[0];
    const { status, grpc, grpc_status } = responseFields(decoder);
    let exchange = this.#streams.get(stream);
    if (exchange === undefined) {
      const is_trailers = status === undefined && end_stream && first !== ':status';
      exchange = this.#unseen(stream, is_trailers);
      if (exchange === undefined) return;
    }
    exchange.grpc ||= grpc || grpc_status !== undefined;
    exchange.grpc_status = grpc_status ?? exchange.grpc_status;
    if (exchange.first_byte_ns === 0) {
      if (status !== undefined && status < 200) exchange.informational += 1;
      else {
        exchange.first_byte_ns = this.#now_ns;
        exchange.status = status;
      }
    }
    if (end_stream) this.#responseEnds(exchange);
  }

  #data(side: Side, stream: number, bytes: number, end_stream: boolean): void {
    if (this.#client === undefined) return;
    const exchange = this.#streams.get(stream);
    if (exchange === undefined) {
      if (end_stream && side !== this.#client) this.#unseen(stream, true);
      return;
    }
    if (side === this.#client) {
      exchange.request_bytes += bytes;
      if (end_stream) this.#requestEnds(exchange);
    } else {
      exchange.response_bytes += bytes;
      if (end_stream) this.#responseEnds(exchange);
    }
  }

  #reset(side: Side, stream: number, code: number): void {
    const exchange = this.#streams.get(stream);
    if (exchange === undefined) return;
    // A server that has answered in full may stop the client so; the request is then complete.
    if (exchange.response_ended) {
      this.#finish(exchange, 'complete');
      return;
    }
    exchange.reset_code = code;
    exchange.reset_by = side === this.#client ? 'client' : 'server';
    this.#finish(exchange, 'reset');
  }

  #promise(side: Side, promised: number, block: Uint8Array | undefined): void {
    this.#decode(side, block);
    if (promised % 2 !== 0 || this.#streams.has(promised)) return;
    this.counts.pushed += 1;
    const exchange = this.#open(promised);
    exchange.pushed = true;
    exchange.request_seen = true;
    exchange.request_ended = true;
    exchange.start_ns = this.#now_ns;
    this.#requestFields(this.#decoders[side], exchange);
  }

  /** A stream whose request was missed; undefined: it is over, and only its last frames come late. */
  #unseen(stream: number, only_end: boolean): Http2Exchange | undefined {
    const in_gap = stream >= this.#blind_from && (this.#blind || stream < this.#blind_to);
    if (!in_gap || stream % 2 === 0 || this.#reset_ids.has(stream)) return undefined;
    if (only_end) {
      this.counts.partial += 1;
      this.#remember(stream);
      return undefined;
    }
    const exchange = this.#open(stream);
    exchange.request_ended = true; // as far as anybody will know
    exchange.missed = true;
    return exchange;
  }

  #requestEnds(exchange: Http2Exchange): void {
    exchange.request_ended = true;
    if (exchange.response_ended) this.#finish(exchange, 'complete');
  }

  #responseEnds(exchange: Http2Exchange): void {
    if (exchange.response_ended) return;
    exchange.response_ended = true;
    exchange.end_ns = this.#now_ns;
    if (exchange.request_ended) this.#finish(exchange, 'complete');
  }

  #open(stream: number): Http2Exchange {
    if (this.#streams.size >= this.#streams_max || this.#budget.open >= this.#budget.max) {
      const [oldest] = this.#streams.values();
      this.counts.evicted += 1;
      if (oldest !== undefined) this.#finish(oldest, 'evicted');
    }
    const exchange = newExchange(stream);
    this.#streams.set(stream, exchange);
    this.#budget.open += 1;
    return exchange;
  }

  #finish(exchange: Http2Exchange, end: Http2Exchange['end']): void {
    if (!this.#streams.delete(exchange.stream)) return;
    this.#budget.open -= 1;
    // A response that came in full is complete, whatever ended the stream on the other side.
    exchange.end = exchange.response_ended ? 'complete' : end;
    if (exchange.end_ns === 0) exchange.end_ns = this.#now_ns;
    if (exchange.first_byte_ns === 0) exchange.status = exchange.missed ? undefined : 0;
    this.#remember(exchange.stream);
    this.#sink.exchange(exchange);
  }

  #remember(stream: number): void {
    if (this.#reset_ids.size >= RESET_IDS_MAX) {
      for (const oldest of this.#reset_ids) {
        this.#reset_ids.delete(oldest);
        break;
      }
    }
    this.#reset_ids.add(stream);
  }
}

function newExchange(stream: number): Http2Exchange {
  return {
    stream,
    pushed: false,
    request_seen: false,
    method: undefined,
    path: undefined,
    path_cut: false,
    authority: undefined,
    status: undefined,
    grpc: false,
    grpc_status: undefined,
    request_bytes: 0,
    response_bytes: 0,
    start_ns: 0,
    first_byte_ns: 0,
    end_ns: 0,
    informational: 0,
    end: 'complete',
    reset_code: 0,
    reset_by: '',
    request_ended: false,
    response_ended: false,
    missed: false,
  };
}

function responseFields({ names, values }: HpackDecoder): {
  status: number | undefined;
  grpc: boolean;
  grpc_status: number | undefined;
} {
  let status: number | undefined;
  let grpc = false;
  let grpc_status: number | undefined;
  for (const [i, name] of names.entries()) {
    const value = values[i];
    if (value === undefined) continue;
    if (name === ':status') status = STATUS.test(value) ? Number(value) : undefined;
    else if (name === 'content-type') grpc ||= isGrpc(value);
    else if (name === 'grpc-status' && GRPC_STATUS.test(value)) grpc_status = Number(value);
  }
  return { status, grpc, grpc_status };
}

function isGrpc(content_type: string): boolean {
  return /^application\/grpc(?:$|[+;])/i.test(content_type);
}

function other(side: Side): Side {
  return side === 0 ? 1 : 0;
}

/** Service and method of a gRPC path (`/package.Service/Method`); empty: it has none. */
export function grpcName(path: string | undefined): { service: string; method: string } {
  const [, service = '', method = ''] = /^\/([^/]{1,200})\/([^/?]{1,200})$/.exec(path ?? '') ?? [];
  return { service, method };
}
