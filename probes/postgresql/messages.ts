// Messages of PostgreSQL's protocol, version 3, cut anywhere: a type, a length, and the beginning of what is in them. Before
// the first one a client sends packets without a type, and each request for encryption is answered by one byte alone.

import { keyword, skipping } from '../db/keyword.ts';

/** Of the content, kept: names and the beginning of a statement, fields of an error. */
export const BODY_KEPT = 512;
/** Of content that is asked for and not all here, so much must be. */
const SKIP_KEPT = 32;
const HEAD = 5;
const LENGTH_MIN = 4;
const LENGTH_MAX = 2 ** 30;
const STARTUP_MIN = 8;
/** As the server has it. */
const STARTUP_MAX = 10_000;

export type Framing = 'messages' | 'startup' | 'byte';

export class MessageScanner {
  /** Of the message that is read or was just completed; of a startup packet 0; of one byte alone the byte. */
  type = 0;
  /** Its bytes so far, with its head. */
  length = 0;
  complete = true;
  malformed = false;
  /** How the next one is framed; changed between messages. */
  framing: Framing;
  readonly #types: ReadonlySet<number>;
  readonly #kept: ReadonlySet<number>;
  readonly #body = Buffer.alloc(BODY_KEPT);
  #body_length = 0;
  /** So much is kept of this content. */
  #kept_max = BODY_KEPT;
  #head_length = 0;
  #want = 0;
  /** Of the content, still to come. */
  #left = 0;

  /** `types`: those that may come; `kept`: those whose content is asked for. */
  constructor(types: string, kept: string, framing: Framing) {
    this.#types = new Set(Buffer.from(types));
    this.#kept = new Set(Buffer.from(kept));
    this.framing = framing;
  }

  /** Of the content, the beginning: valid until the next message. */
  get body(): Buffer {
    return this.#body.subarray(0, this.#body_length);
  }

  restart(framing: Framing): void {
    this.complete = true;
    this.malformed = false;
    this.framing = framing;
  }

  /** Takes bytes from `at` on until a message is complete; returns where it stopped. */
  feed(bytes: Uint8Array, from: number): number {
    if (this.complete) this.#begin();
    let at = from;
    while (at < bytes.length && this.#head_length < HEAD && !this.complete && !this.malformed) {
      this.#inHead(bytes[at]!);
      at += 1;
    }
    if (!this.complete && !this.malformed && this.#head_length === HEAD)
      at = this.#inBody(bytes, at);
    this.length += at - from;
    return at;
  }

  /** Within the content, behind the beginning of what is asked for, of which no more is kept then. */
  get skippable(): number {
    if (this.complete || this.#head_length < HEAD) return 0;
    return this.#keeps() && this.#body_length < SKIP_KEPT ? 0 : this.#left;
  }

  skip(count: number): void {
    this.#kept_max = this.#body_length;
    this.length += count;
    this.#passes(count);
  }

  #begin(): void {
    this.complete = false;
    this.length = 0;
    this.#body_length = 0;
    this.#kept_max = BODY_KEPT;
    this.#want = 0;
    this.#left = 0;
    this.type = 0;
    this.#head_length = this.framing === 'startup' ? 1 : 0;
  }

  #inHead(byte: number): void {
    if (this.#head_length === 0) {
      this.type = byte;
      this.#head_length = 1;
      if (this.framing === 'byte') this.complete = true;
      else if (!this.#types.has(byte)) this.malformed = true;
      return;
    }
    this.#want = this.#want * 256 + byte;
    this.#head_length += 1;
    if (this.#head_length < HEAD) return;
    const startup = this.framing === 'startup';
    const least = startup ? STARTUP_MIN : LENGTH_MIN;
    if (this.#want < least || this.#want > (startup ? STARTUP_MAX : LENGTH_MAX)) {
      this.malformed = true;
      return;
    }
    this.#left = this.#want - LENGTH_MIN;
    this.complete = this.#left === 0;
  }

  #inBody(bytes: Uint8Array, at: number): number {
    const taken = Math.min(this.#left, bytes.length - at);
    if (this.#body_length < this.#kept_max && this.#keeps()) {
      const kept = Math.min(taken, this.#kept_max - this.#body_length);
      this.#body.set(bytes.subarray(at, at + kept), this.#body_length);
      this.#body_length += kept;
    }
    this.#passes(taken);
    return at + taken;
  }

  #keeps(): boolean {
    return this.type === 0 || this.#kept.has(this.type);
  }

  #passes(count: number): void {
    this.#left -= count;
    this.complete = this.#left === 0;
  }
}

/** The text that ends with NUL at `at`, and where the next one begins; undefined: its end was not kept. */
export function textAt(body: Buffer, at: number): { text: string; next: number } | undefined {
  const end = body.indexOf(0, at);
  if (end < 0) return undefined;
  return { text: body.toString('latin1', at, end), next: end + 1 };
}

/** Of the fields of an error. */
export function sqlstateOf(body: Buffer): string {
  const code = fieldOf(body, 'C') ?? '';
  return /^[0-9A-Z]{5}$/.test(code) ? code : '<other>';
}

/** An error behind which the server closes. Before 9.6 its severity is in the server's language alone. */
export function isFatal(body: Buffer): boolean {
  return /^(FATAL|PANIC)$/.test(fieldOf(body, 'V') ?? fieldOf(body, 'S') ?? '');
}

function fieldOf(body: Buffer, wanted: string): string | undefined {
  for (let at = 0; at < body.length && body[at] !== 0; ) {
    const value = textAt(body, at + 1);
    if (value === undefined) return undefined;
    if (String.fromCharCode(body[at]!) === wanted) return value.text;
    at = value.next;
  }
  return undefined;
}

/** First word of a command tag. */
export function tagOf(body: Buffer): string {
  return /^[A-Z]{1,24}(?=[ \0]|$)/.exec(body.toString('latin1', 0, 32))?.[0] ?? '';
}

const COMMENTS = [skipping(/--[^\r\n]*/y), behindComment];

/** First word of a statement, behind spaces, brackets and comments; '': there is none in what was kept. */
export function keywordOf(body: Buffer, from: number): string {
  return keyword(body.toString('latin1', from), COMMENTS);
}

/** Comments of this kind lie in each other. */
function behindComment(text: string, from: number): number {
  if (!text.startsWith('/*', from)) return from;
  let depth = 0;
  for (let at = from; at < text.length; at += 1) {
    if (text.startsWith('/*', at)) {
      depth += 1;
      at += 1;
    } else if (text.startsWith('*/', at)) {
      depth -= 1;
      at += 1;
      if (depth === 0) return at + 1;
    }
  }
  return text.length;
}
