// Reads HTTP/1 out of the bytes of one direction of a connection, in whatever pieces they come: heads with limits, and
// where each body ends. Used where the bytes are in user space (TLS, capture); cgroup_skb has its own way (http.bpf.h).
//
// It reads what the peers of that connection read: bytes that they would refuse make it `lost`, never guess. A parser that
// is lost, or joins late, begins again at a piece that starts like a message.

import { type Framing, framingOf, type StartLine, startLine } from './framing.ts';

/** What is known of a message when its head is complete. */
export interface Head {
  readonly kind: 'request' | 'response';
  /** Of a request: upper case as sent; of a response: ''. */
  readonly method: string;
  /** Of a request, as sent. */
  readonly target: string;
  /** Of a response; 0 of a request. */
  readonly status: number;
  /** `1.0`, `1.1`; `2.0` of the preface of HTTP/2, after which the bytes are not HTTP/1. */
  readonly version: string;
  /** Name, value, name, value …: in their order, spelled as sent; a long value is cut. */
  readonly headers: readonly string[];
  /** Header lines that were cut or not kept, for a limit. */
  readonly headers_cut: number;
  readonly head_bytes: number;
  readonly framing: Framing;
}

/** Where a parser's findings go. */
export interface HeadSink {
  head(head: Head): void;
  /** Bytes `from` to `to` are of the body, without chunk framing. */
  body(bytes: Uint8Array, from: number, to: number): void;
  /** Trailers behind a chunked body, in the form of `Head.headers`. */
  trailers?(headers: readonly string[]): void;
  /** `complete`: the message is whole; else the connection ended, or bytes were missed. */
  end(complete: boolean): void;
  /** Of responses: the method of the request that this one answers. Asked once for each head that is not 1xx. */
  method?(): string;
}

export interface HeadLimits {
  /** Bytes kept of one line. */
  readonly line_max: number;
  readonly headers_max: number;
  /** A longer head is no head. */
  readonly head_max: number;
}

const LIMITS: HeadLimits = { line_max: 8192, headers_max: 128, head_max: 256 << 10 };
const EMPTY_LINES_MAX = 4;
const CHUNK_LINE_MAX = 4096;
const LF = 0x0a;
const CR = 0x0d;

/** `tunnel`: what follows is another protocol; `lost`: the parser does not know where a message begins. */
export type HeadState = 'start' | 'headers' | 'body' | 'chunk' | 'trailers' | 'tunnel' | 'lost';

export class HeadParser {
  readonly #kind: 'request' | 'response';
  readonly #sink: HeadSink;
  readonly #limits: HeadLimits;
  #state: HeadState = 'start';
  /** The beginning of a line that is not complete. */
  #line = Buffer.alloc(0);
  #line_cut = false;
  #empty_lines = 0;
  #start: StartLine | undefined;
  #headers: string[] = [];
  #headers_cut = 0;
  #head_bytes = 0;
  /** Bytes to come of the body or of a chunk; Infinity: until the end of the connection. */
  #left = 0;
  #chunked = false;
  #after_chunk = false;
  /** Times that it lost its place. */
  lost = 0;

  constructor(kind: 'request' | 'response', sink: HeadSink, limits: Partial<HeadLimits> = {}) {
    this.#kind = kind;
    this.#sink = sink;
    this.#limits = { ...LIMITS, ...limits };
  }

  get state(): HeadState {
    return this.#state;
  }

  /** The next bytes of this direction. They are not kept. */
  feed(bytes: Uint8Array): void {
    let at = 0;
    if (this.#state === 'lost' && looksLikeStart(this.#kind, bytes)) this.#reset();
    while (at < bytes.length) {
      if (this.#state === 'lost' || this.#state === 'tunnel') return;
      at = this.#state === 'body' ? this.#feedBody(bytes, at) : this.#feedLine(bytes, at);
    }
  }

  /** `count` bytes of this direction were not seen. Within a body of known length that is no harm. */
  gap(count: number): void {
    if (count <= 0 || this.#state === 'lost' || this.#state === 'tunnel') return;
    if (this.#state !== 'body' || count > this.#left) {
      this.#lose();
      return;
    }
    this.#left -= count;
    if (this.#left === 0) this.#bodyEnds();
  }

  /** The other direction agreed to speak something else from here on (101, CONNECT). */
  tunnel(): void {
    if (this.#inMessage()) this.#sink.end(false);
    this.#state = 'tunnel';
  }

  /** The connection ended. */
  finish(): void {
    if (this.#inMessage()) this.#sink.end(this.#state === 'body' && this.#left === Infinity);
    this.#reset();
  }

  #inMessage(): boolean {
    return this.#state === 'body' || this.#state === 'chunk' || this.#state === 'trailers';
  }

  #reset(): void {
    this.#state = 'start';
    this.#line = Buffer.alloc(0);
    this.#line_cut = false;
    this.#empty_lines = 0;
    this.#start = undefined;
    this.#headers = [];
    this.#headers_cut = 0;
    this.#head_bytes = 0;
    this.#chunked = false;
    this.#after_chunk = false;
  }

  #lose(): void {
    if (this.#inMessage()) this.#sink.end(false);
    this.#reset();
    this.#state = 'lost';
    this.lost += 1;
  }

  #feedBody(bytes: Uint8Array, at: number): number {
    const to = Math.min(bytes.length, at + this.#left);
    this.#sink.body(bytes, at, to);
    this.#left -= to - at;
    if (this.#left === 0) this.#bodyEnds();
    return to;
  }

  #bodyEnds(): void {
    if (!this.#chunked) {
      this.#messageEnds();
      return;
    }
    this.#state = 'chunk';
    this.#after_chunk = true;
  }

  #messageEnds(): void {
    this.#sink.end(true);
    this.#reset();
  }

  /** Takes a line, or as much of it as there is; the end of what it took. */
  #feedLine(bytes: Uint8Array, at: number): number {
    const lf = bytes.indexOf(LF, at);
    const to = lf < 0 ? bytes.length : lf;
    this.#head_bytes += to - at + 1;
    if (this.#head_bytes > this.#limits.head_max) {
      this.#lose();
      return bytes.length;
    }
    const room = this.#limits.line_max - this.#line.length;
    const piece = bytes.subarray(at, Math.min(to, at + room));
    if (piece.length < to - at) this.#line_cut = true;
    const line = this.#line.length === 0 ? asBuffer(piece) : Buffer.concat([this.#line, piece]);
    if (lf < 0) {
      this.#line = Buffer.from(line); // a copy: the bytes are the caller's
      if (this.#state === 'start' && !mayStart(this.#kind, line)) this.#lose();
      return to;
    }
    const end = line.length > 0 && line[line.length - 1] === CR ? line.length - 1 : line.length;
    const text = line.toString('latin1', 0, end);
    const cut = this.#line_cut;
    this.#line = Buffer.alloc(0);
    this.#line_cut = false;
    this.#takeLine(text, cut);
    return to + 1;
  }

  #takeLine(text: string, cut: boolean): void {
    if (this.#state === 'start') this.#takeStart(text, cut);
    else if (this.#state === 'chunk') this.#takeChunk(text);
    else if (text === '') this.#headEnds();
    else this.#takeHeader(text, cut);
  }

  #takeStart(text: string, cut: boolean): void {
    if (text === '') {
      this.#empty_lines += 1;
      if (this.#empty_lines > EMPTY_LINES_MAX) this.#lose();
      return;
    }
    this.#start = startLine(this.#kind, text, cut);
    if (this.#start === undefined) {
      this.#lose();
      return;
    }
    if (cut) this.#headers_cut += 1;
    this.#state = 'headers';
  }

  #takeHeader(text: string, cut: boolean): void {
    if (cut) this.#headers_cut += 1;
    const c = text.charCodeAt(0);
    if (c === 0x20 || c === 0x09) {
      this.#foldHeader(text);
      return;
    }
    const colon = text.indexOf(':');
    if (colon <= 0 || !isToken(text, colon)) {
      this.#lose();
      return;
    }
    const name = text.slice(0, colon);
    // What decides where the body ends is kept beyond the limit, too.
    if (this.#headers.length >= 2 * this.#limits.headers_max && !isFraming(name)) {
      this.#headers_cut += 1;
      return;
    }
    if (this.#headers.length >= 4 * this.#limits.headers_max) this.#lose();
    else this.#headers.push(name, trimBlank(text.slice(colon + 1)));
  }

  /** A line that begins with a blank continues the one before (obsolete, and still sent). */
  #foldHeader(text: string): void {
    const last = this.#headers.length - 1;
    if (last < 0) {
      this.#lose();
      return;
    }
    const value = this.#headers[last]!;
    if (value.length + text.length <= this.#limits.line_max) {
      this.#headers[last] = trimBlank(`${value} ${trimBlank(text)}`);
    } else this.#headers_cut += 1;
  }

  #headEnds(): void {
    if (this.#state === 'trailers') {
      if (this.#headers.length > 0) this.#sink.trailers?.(this.#headers);
      this.#messageEnds();
      return;
    }
    const start = this.#start!; // the state is `headers`
    const final = start.status === 0 || start.status >= 200;
    const asked = final && this.#kind === 'response' ? (this.#sink.method?.() ?? '') : '';
    const framing = framingOf(start, this.#headers, asked);
    if (framing === undefined) {
      this.#lose();
      return;
    }
    this.#sink.head({
      kind: this.#kind,
      ...start,
      headers: this.#headers,
      headers_cut: this.#headers_cut,
      head_bytes: this.#head_bytes,
      framing,
    });
    this.#bodyBegins(framing);
  }

  #bodyBegins(framing: Framing): void {
    this.#headers = [];
    this.#headers_cut = 0;
    this.#head_bytes = 0;
    this.#chunked = framing.type === 'chunked';
    this.#state = this.#chunked ? 'chunk' : 'body';
    if (framing.type === 'none' || (framing.type === 'length' && framing.length === 0)) {
      this.#messageEnds();
    } else if (framing.type === 'length') this.#left = framing.length;
    else if (framing.type === 'close') this.#left = Infinity;
    else if (framing.type === 'tunnel') {
      this.#messageEnds();
      this.#state = 'tunnel';
    }
  }

  #takeChunk(text: string): void {
    this.#head_bytes = 0;
    if (this.#after_chunk) {
      this.#after_chunk = false;
      if (text !== '') this.#lose();
      return;
    }
    const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(text);
    if (size === null || text.length > CHUNK_LINE_MAX) {
      this.#lose();
      return;
    }
    this.#left = Number.parseInt(size[1]!, 16);
    this.#state = this.#left === 0 ? 'trailers' : 'body';
  }
}

/** The value of a header, '' when it is absent. Several of one name: the first. */
export function headerOf(headers: readonly string[], name: string): string {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i]!.toLowerCase() === name) return headers[i + 1]!;
  }
  return '';
}

/** True where these bytes can be the start of a message: how a parser that joins late finds one. */
export function looksLikeStart(kind: 'request' | 'response', bytes: Uint8Array): boolean {
  const text = asBuffer(bytes).toString('latin1', 0, 24);
  if (kind === 'response') return /^HTTP\/1\.[01] [1-5]\d\d[ \r\n]/.test(text);
  return /^(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI|PROPFIND) [/*h]/.test(text);
}

/** False: whatever follows, this is no start line. Keeps a parser from gathering a binary stream as one line. */
function mayStart(kind: 'request' | 'response', line: Uint8Array): boolean {
  const text = asBuffer(line).toString('latin1', 0, 64);
  if (kind === 'response') return 'HTTP/'.startsWith(text.slice(0, 5));
  return /^\r?$|^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?: |$)/.test(text);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isFraming(name: string): boolean {
  return /^(?:content-length|transfer-encoding|upgrade|connection)$/i.test(name);
}

function isToken(text: string, length: number): boolean {
  for (let i = 0; i < length; i += 1) {
    const c = text.charCodeAt(i);
    if (c <= 0x20 || c >= 0x7f || '"(),/:;<=>?@[\\]{}'.includes(text[i]!)) return false;
  }
  return true;
}

/** Without blanks at the ends; what other bytes there are stays. */
function trimBlank(text: string): string {
  let from = 0;
  let to = text.length;
  while (from < to && isBlank(text.charCodeAt(from))) from += 1;
  while (to > from && isBlank(text.charCodeAt(to - 1))) to -= 1;
  return text.slice(from, to);
}

function isBlank(c: number): boolean {
  return c === 0x20 || c === 0x09;
}
