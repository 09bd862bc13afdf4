// Packets of MySQL's protocol, cut anywhere: a length, a sequence number, and the beginning of what is in them. Those of the
// greatest length go on in the next, and are one here.

import { keyword, type Skip, skipping } from '../db/keyword.ts';

const HEAD = 4;
/** A packet of this length is not the last of what it is part of. */
const LENGTH_MAX = 0xff_ffff;
/** Of content that is not all here, so much must be: more than there is in packets that are short. */
const SKIP_KEPT = 32;

export class PacketScanner {
  /** Its bytes so far, with its heads, and without. */
  length = 0;
  payload_length = 0;
  /** Of the first packet that it is in, and of the last. */
  first_sequence = 0;
  sequence = 0;
  complete = true;
  malformed = false;
  readonly #body: Buffer;
  #body_length = 0;
  /** So much is kept of this content. */
  #kept = 0;
  /** Bytes read of the head, and what they say. */
  #head_length = 0;
  #packet_length = 0;
  #packets = 0;
  /** Of this packet, still to come. */
  #left = 0;

  /** Of the content so much is kept. */
  constructor(kept: number) {
    this.#body = Buffer.alloc(kept);
  }

  /** Of the content, the beginning: valid until the next packet. */
  get body(): Buffer {
    return this.#body.subarray(0, this.#body_length);
  }

  /** Of the content, whether or not it is all kept; -1: there is none. */
  get first(): number {
    return this.#body_length === 0 ? -1 : this.#body[0]!;
  }

  restart(): void {
    this.complete = true;
    this.malformed = false;
  }

  /** Takes bytes from `at` on until it is complete; returns where it stopped. */
  feed(bytes: Uint8Array, from: number): number {
    if (this.complete) this.#begin();
    let at = from;
    while (at < bytes.length && !this.complete && !this.malformed) {
      if (this.#head_length < HEAD) {
        this.#inHead(bytes[at]!);
        at += 1;
      } else at = this.#inBody(bytes, at);
    }
    this.length += at - from;
    return at;
  }

  /** Within a packet, behind what tells its kind; of the content no more is kept then. */
  get skippable(): number {
    if (this.complete || this.#head_length < HEAD) return 0;
    return this.#body_length < Math.min(SKIP_KEPT, this.#body.length) ? 0 : this.#left;
  }

  skip(count: number): void {
    this.#kept = this.#body_length;
    this.length += count;
    this.#passes(count);
  }

  #begin(): void {
    this.complete = false;
    this.length = 0;
    this.payload_length = 0;
    this.#body_length = 0;
    this.#kept = this.#body.length;
    this.#head_length = 0;
    this.#packet_length = 0;
    this.#packets = 0;
  }

  #inHead(byte: number): void {
    if (this.#head_length < HEAD - 1) {
      this.#packet_length += byte * 256 ** this.#head_length;
      this.#head_length += 1;
      return;
    }
    this.#head_length = HEAD;
    if (this.#packets === 0) this.first_sequence = byte;
    else this.malformed = byte !== ((this.sequence + 1) & 255);
    this.sequence = byte;
    this.#packets += 1;
    this.#left = this.#packet_length;
    if (this.#left === 0) this.#ends();
  }

  #inBody(bytes: Uint8Array, at: number): number {
    const taken = Math.min(this.#left, bytes.length - at);
    const kept = Math.min(taken, this.#kept - this.#body_length);
    for (let i = 0; i < kept; i += 1) this.#body[this.#body_length + i] = bytes[at + i]!;
    this.#body_length += kept;
    this.#passes(taken);
    return at + taken;
  }

  #passes(count: number): void {
    this.payload_length += count;
    this.#left -= count;
    if (this.#left === 0) this.#ends();
  }

  #ends(): void {
    if (this.#packet_length < LENGTH_MAX) this.complete = true;
    this.#packet_length = 0;
    this.#head_length = 0;
  }
}

/** What an answer needs: of OK two numbers and the status; of the greeting the flags behind a name of the version. */
export const ANSWER_KEPT = 128;

/** Bytes of a number of the form whose first byte tells its length; 0: none begins so. */
export function numberLength(first: number): number {
  if (first < 0xfb) return 1;
  if (first === 0xfc) return 3;
  if (first === 0xfd) return 4;
  return first === 0xfe ? 9 : 0;
}

/** A count of columns; -1: it is none. */
export function countAt(body: Buffer): number {
  if (body.length === 0) return -1;
  const length = numberLength(body[0]!);
  if (length === 1) return body[0]!;
  return length === 3 && body.length >= 3 ? body.readUInt16LE(1) : -1;
}

/** The server's status of an OK; 0: it is cut. */
export function statusOfOk(body: Buffer): number {
  let at = 1;
  for (let i = 0; i < 2 && at < body.length; i += 1) {
    const length = numberLength(body[at]!);
    if (length === 0) return 0;
    at += length;
  }
  return at + 2 <= body.length ? body.readUInt16LE(at) : 0;
}

/** What both ends can, from the server's greeting; 0: it does not say. */
export function abilitiesOf(greeting: Buffer): number {
  const text = greeting.indexOf(0, 1);
  const low = text + 1 + 4 + 8 + 1; // connection, a part of the challenge, a zero
  const high = low + 2 + 1 + 2; // character set, status
  if (text < 0 || high + 2 > greeting.length) return 0;
  return (greeting.readUInt16LE(low) | (greeting.readUInt16LE(high) << 16)) >>> 0;
}

/** The number of an error. */
export function errorOf(body: Buffer): string {
  return body.length < 3 ? '<other>' : String(body.readUInt16LE(1));
}

const COMMENTS: readonly Skip[] = [
  skipping(/--(?:[ \t\v\f\r\0][^\n]*|(?=\n)|$)/y),
  skipping(/#[^\n]*/y),
  skipping(/\/\*M?!\d*/y), // what is in these is run
  skipping(/\/\*(?!M?!).*?(?:\*\/|$)/sy),
  skipping(/\*\//y),
];

/** First word of a statement, behind spaces, brackets and comments; '': there is none in what was kept. */
export function keywordOf(body: Buffer, from: number): string {
  return keyword(body.toString('latin1', from), COMMENTS);
}
