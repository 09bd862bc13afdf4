// Reads DNS messages (RFC 1035, EDNS of RFC 6891), whole or cut. Bytes come from anybody: whatever they hold, the answer is
// a message with what could be read of it, or a reason. Nothing throws; each name ends, since a pointer must point backwards.

import { ipv4Text, ipv6Text } from '../address.ts';

const HEADER = 12;
const NAME_MAX = 255;
const LABEL_MAX = 63;
const QUESTIONS_MAX = 16;
/** Answers that are kept; the rest is walked over. */
const ANSWERS_MAX = 128;

export const TYPE_A = 1;
export const TYPE_CNAME = 5;
export const TYPE_AAAA = 28;
const TYPE_OPT = 41;
const CLASS_IN = 1;

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  ...([
    [1, 'A'],
    [2, 'NS'],
    [5, 'CNAME'],
    [6, 'SOA'],
    [10, 'NULL'],
    [12, 'PTR'],
  ] as const),
  ...([
    [13, 'HINFO'],
    [15, 'MX'],
    [16, 'TXT'],
    [28, 'AAAA'],
    [29, 'LOC'],
    [33, 'SRV'],
  ] as const),
  ...([
    [35, 'NAPTR'],
    [37, 'CERT'],
    [39, 'DNAME'],
    [43, 'DS'],
    [44, 'SSHFP'],
  ] as const),
  ...([
    [46, 'RRSIG'],
    [47, 'NSEC'],
    [48, 'DNSKEY'],
    [50, 'NSEC3'],
    [52, 'TLSA'],
  ] as const),
  ...([
    [64, 'SVCB'],
    [65, 'HTTPS'],
    [99, 'SPF'],
    [251, 'IXFR'],
    [252, 'AXFR'],
  ] as const),
  ...([
    [255, 'ANY'],
    [256, 'URI'],
    [257, 'CAA'],
  ] as const),
]);

/** What is wrong with the bytes; '' for nothing. `cut`: they end before the message does. */
export type Fault = '' | 'cut' | 'label' | 'pointer' | 'name_length' | 'question_count' | 'data';

export interface Question {
  /** In lower case, without the last dot; `.` for the root; bytes that are no plain text as `\DDD`. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

/** A record of the answer section that leads from a name to an address. */
export interface Answer {
  readonly name: string;
  readonly type: number;
  readonly ttl: number;
  /** Text of the address (A, AAAA), or the name that this one stands for (CNAME). */
  readonly value: string;
}

export interface Message {
  readonly id: number;
  readonly response: boolean;
  readonly opcode: number;
  readonly truncated: boolean;
  /** With the upper bits of EDNS, where they could be read. */
  readonly rcode: number;
  readonly edns: boolean;
  readonly questions: readonly Question[];
  readonly answers: readonly Answer[];
  /** Why not all of it was read. */
  readonly fault: Fault;
}

/** `A`, `AAAA` …; what has no name here is called as RFC 3597 says. */
export function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `TYPE${type}`;
}

/** The message in these bytes; undefined: too few for a header. */
export function readMessage(bytes: Uint8Array, at: number, length: number): Message | undefined {
  if (length < HEADER || at < 0 || at + length > bytes.length) return undefined;
  return new Reader(bytes, at, at + length).message();
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  #at: number;
  #fault: Fault = '';
  #rcode_high = 0;
  #edns = false;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#at = start + HEADER;
  }

  message(): Message {
    const flags = this.#u16(this.#start + 2);
    const [asked, answered, authority, additional] = [4, 6, 8, 10].map((place) =>
      this.#u16(this.#start + place),
    ) as [number, number, number, number]; // four of four
    const questions = this.#questions(asked);
    const answers: Answer[] = [];
    for (let i = 0; i < answered && this.#fault === ''; i += 1) this.#record(answers);
    const rest = authority + additional;
    for (let i = 0; i < rest && this.#fault === ''; i += 1) this.#record(undefined);
    return {
      id: this.#u16(this.#start),
      response: (flags & 0x8000) !== 0,
      opcode: (flags >> 11) & 15,
      truncated: (flags & 0x0200) !== 0,
      rcode: (this.#rcode_high << 4) | (flags & 15),
      edns: this.#edns,
      questions,
      answers,
      fault: this.#fault,
    };
  }

  #questions(count: number): readonly Question[] {
    const questions: Question[] = [];
    for (let i = 0; i < count; i += 1) {
      if (i === QUESTIONS_MAX) this.#fault = 'question_count';
      const name = this.#fault === '' ? this.#name() : undefined;
      if (name === undefined || !this.#has(4)) break;
      questions.push({ name, type: this.#u16(this.#at), class: this.#u16(this.#at + 2) });
      this.#at += 4;
    }
    return questions;
  }

  /** A resource record; kept in `answers` if it is one of the three kinds that lead to an address. */
  #record(answers: Answer[] | undefined): void {
    const owner = this.#at;
    if (!this.#skipName() || !this.#has(10)) return;
    const head = this.#at;
    const type = this.#u16(head);
    const length = this.#u16(head + 8);
    this.#at += 10;
    if (type === TYPE_OPT && answers === undefined) {
      this.#edns = true;
      this.#rcode_high = this.#bytes[head + 4]!;
    }
    if (!this.#has(length)) return;
    const data = this.#at;
    const wanted = type === TYPE_A || type === TYPE_AAAA || type === TYPE_CNAME;
    const kept = answers !== undefined && answers.length < ANSWERS_MAX;
    if (wanted && kept && this.#u16(head + 2) === CLASS_IN) {
      const name = this.#nameAt(owner);
      const value = this.#value(type, data, length);
      if (name === undefined || value === undefined) return;
      answers.push({ name, type, ttl: this.#ttl(head + 4), value });
    }
    this.#at = data + length;
  }

  #value(type: number, data: number, length: number): string | undefined {
    if (type === TYPE_CNAME) return this.#nameAt(data);
    if (length !== (type === TYPE_A ? 4 : 16)) {
      this.#fault = 'data';
      return undefined;
    }
    return type === TYPE_A ? ipv4Text(this.#bytes, data) : ipv6Text(this.#bytes, data);
  }

  /** Seconds; a value with the highest bit set counts as zero (RFC 2181). */
  #ttl(at: number): number {
    const high = this.#u16(at);
    return high >= 0x8000 ? 0 : high * 65_536 + this.#u16(at + 2);
  }

  #name(): string | undefined {
    const at = this.#at;
    return this.#skipName() ? this.#nameAt(at) : undefined;
  }

  /** Moves behind the name that begins here; false: it does not end. */
  #skipName(): boolean {
    for (;;) {
      if (!this.#has(1)) return false;
      const length = this.#bytes[this.#at]!;
      if (length >= 0xc0) {
        if (!this.#has(2)) return false;
        this.#at += 2;
        return true;
      }
      if (length > LABEL_MAX) {
        this.#fault = 'label';
        return false;
      }
      this.#at += 1 + length;
      if (length === 0) return true;
    }
  }

  /** The text of the name at this place; the reader stays where it is. */
  #nameAt(place: number): string | undefined {
    let text = '';
    let octets = 0;
    let floor = place; // a pointer leads to before this
    for (let at = place; ; ) {
      if (at >= this.#end) return this.#fail('cut');
      const length = this.#bytes[at]!;
      if (length >= 0xc0) {
        if (at + 2 > this.#end) return this.#fail('cut');
        const target = this.#start + (((length & 0x3f) << 8) | this.#bytes[at + 1]!);
        if (target >= floor || target < this.#start + HEADER) return this.#fail('pointer');
        floor = target;
        at = target;
        continue;
      }
      if (length === 0) return text === '' ? '.' : text;
      if (length > LABEL_MAX) return this.#fail('label');
      if (at + 1 + length > this.#end) return this.#fail('cut');
      octets += 1 + length;
      if (octets >= NAME_MAX) return this.#fail('name_length');
      text += text === '' ? '' : '.';
      for (let i = at + 1; i <= at + length; i += 1) text += CHARACTERS[this.#bytes[i]!];
      at += 1 + length;
    }
  }

  #fail(fault: Fault): undefined {
    this.#fault = fault;
  }

  #has(length: number): boolean {
    if (this.#at + length <= this.#end) return true;
    this.#fault = 'cut';
    return false;
  }

  #u16(at: number): number {
    return (this.#bytes[at]! << 8) | this.#bytes[at + 1]!;
  }
}

/** Each byte of a label as zone files write it, in lower case: names are equal whatever their case. */
const CHARACTERS: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  if (byte <= 32 || byte >= 127) return `\\${String(byte).padStart(3, '0')}`;
  return '.\\"();@$'.includes(character) ? `\\${character}` : character.toLowerCase();
});
