// One value after another of RESP, cut anywhere: how long each is, of what type, and the beginnings of its first words.
// Bodies are skipped, not kept. Both versions of the protocol; what streams without a length is not spoken by any server.

const DEPTH_MAX = 64;
const LINE_KEPT = 64;
/** Of types whose line is no more than a number. */
const NUMBER_LINE_MAX = 32;
const LINE_MAX = 1 << 20;
const BULK_MAX = 2 ** 32;
const ELEMENTS_MAX = 2 ** 31;
const ARGUMENTS_MAX = 1 << 24;
export const WORDS = 3;
export const WORD_KEPT = 32;

const CR = 13;
const LF = 10;
const MINUS = 45;
const ZERO = 48;
const NINE = 57;

export const TYPE = {
  array: 42, // *
  error: 45, // -
  bulk_error: 33, // !
  push: 62, // >
  inline: 0,
} as const;

const [PLUS, COLON, DOLLAR, HASH, UNDERLINE, COMMA, BRACKET, EQUALS, PERCENT, TILDE, PIPE] =
  Buffer.from('+:$#_,(=%~|');

/** Longer lines than a number's. */
const TEXT_LINES = [PLUS, TYPE.error, BRACKET, COMMA];

export class RespScanner {
  /** Of the value that is read or was just completed: its first byte; TYPE.inline: a line without one. */
  type = 0;
  /** Its bytes so far. */
  length = 0;
  /** Of an aggregate: its elements; -1: null. */
  elements = 0;
  complete = true;
  malformed = false;
  /** Of an aggregate: the last of its elements that was an integer. */
  integer = 0;
  readonly #commands: boolean;
  readonly #line = Buffer.alloc(LINE_KEPT);
  #line_length = 0;
  #last = 0;
  /** Bytes of a body and its end that are still to come. */
  #body = 0;
  #body_at = 0;
  readonly #left = new Float64Array(DEPTH_MAX);
  readonly #attribute = new Uint8Array(DEPTH_MAX);
  #depth = 0;
  /** Of the top: attributes come before what they belong to. */
  #typed = false;
  readonly #words = Buffer.alloc(WORDS * WORD_KEPT);
  readonly #word_lengths = new Float64Array(WORDS);
  /** Of the element whose beginning is kept now; WORDS: none. */
  #word = WORDS;

  /** `commands`: arrays of bulk strings, or inline; else: answers. */
  constructor(commands: boolean) {
    this.#commands = commands;
  }

  /** Takes bytes from `at` on until a value is complete; returns where it stopped. */
  feed(bytes: Uint8Array, at: number): number {
    if (this.complete) this.#begin();
    const from = at;
    let to = at;
    while (to < bytes.length && !this.complete && !this.malformed) {
      to = this.#body > 0 ? this.#inBody(bytes, to) : this.#inLine(bytes, to);
    }
    this.length += to - from;
    return to;
  }

  /** Within a body whose beginning is kept, if that is asked for. */
  get skippable(): number {
    if (this.complete) return 0;
    if (!this.#isInWord) return this.#body;
    // The first one names a command, or an error; a later one is of interest if it is short.
    return this.#word === 0 || this.#word_lengths[this.#word]! <= WORD_KEPT ? 0 : this.#body;
  }

  skip(count: number): void {
    if (this.#isInWord) this.#word_lengths[this.#word] = 0;
    this.#word = WORDS;
    const content = Math.min(count, Math.max(0, this.#body - 2));
    this.#body_at += content;
    this.#body -= count;
    this.length += count;
    if (this.#body === 0) this.#leaf();
  }

  restart(): void {
    this.complete = true;
    this.malformed = false;
  }

  /** The beginning of the element in this place; '': there is none, or it is no text. */
  word(place: number): string {
    const from = place * WORD_KEPT;
    const length = Math.min(this.#word_lengths[place]!, WORD_KEPT);
    return this.#words.toString('latin1', from, from + length);
  }

  /** It is longer than what is kept of it. */
  isCut(place: number): boolean {
    return this.#word_lengths[place]! > WORD_KEPT;
  }

  /** Of a line: its beginning without the type. */
  line(): string {
    const end = this.type === TYPE.inline ? 0 : 1;
    const kept = Math.min(this.#line_length, LINE_KEPT);
    return this.#line.toString('latin1', end, kept).replace(/\r?\n$/, '');
  }

  /** More of its beginning is to be kept. */
  get #isInWord(): boolean {
    return this.#word < WORDS && this.#body_at < WORD_KEPT;
  }

  #begin(): void {
    this.complete = false;
    this.length = 0;
    this.elements = 0;
    this.integer = 0;
    this.#line_length = 0;
    this.#last = 0;
    this.#body = 0;
    this.#depth = 0;
    this.#typed = false;
    this.#word = WORDS;
    this.#word_lengths.fill(0);
  }

  #inLine(bytes: Uint8Array, from: number): number {
    let at = from;
    while (at < bytes.length) {
      const byte = bytes[at]!;
      at += 1;
      if (this.#line_length < LINE_KEPT) this.#line[this.#line_length] = byte;
      this.#line_length += 1;
      if (byte === LF) {
        this.#lineEnds();
        return at;
      }
      this.#last = byte;
      if (this.#line_length > NUMBER_LINE_MAX && !this.#mayBeLong()) {
        this.malformed = true;
        return at;
      }
    }
    return at;
  }

  #mayBeLong(): boolean {
    const type = this.#line[0]!;
    if (this.#commands) return this.#depth === 0 && type !== TYPE.array && this.#fits();
    return TEXT_LINES.includes(type) && this.#fits();
  }

  #fits(): boolean {
    return this.#line_length <= LINE_MAX;
  }

  #lineEnds(): void {
    const type = this.#line[0]!;
    if (this.#commands && this.#depth === 0 && type !== TYPE.array) {
      this.type = TYPE.inline;
      this.complete = true;
      return;
    }
    if (this.#last !== CR || this.#line_length < 3) {
      this.malformed = true;
      return;
    }
    if (this.#depth === 0 && type !== PIPE && !this.#typed) {
      this.type = type;
      this.#typed = true;
    }
    if (this.#commands) this.#commandLine(type);
    else this.#answerLine(type);
    if (!this.complete && this.#body === 0) this.#line_length = 0;
    this.#last = 0;
  }

  #commandLine(type: number): void {
    const number = this.#number();
    if (this.#depth === 0) {
      this.elements = number;
      if (number > ARGUMENTS_MAX || Number.isNaN(number)) this.malformed = true;
      else this.#aggregate(number, false);
    } else if (type === DOLLAR && number >= 0) this.#bulk(number);
    else this.malformed = true;
  }

  #answerLine(type: number): void {
    switch (type) {
      case COLON:
        this.#integerEnds();
        break;
      case PLUS:
        this.#keepLine();
        this.#leaf();
        break;
      case TYPE.error:
      case HASH:
      case UNDERLINE:
      case COMMA:
      case BRACKET:
        this.#leaf();
        break;
      case DOLLAR:
      case EQUALS:
      case TYPE.bulk_error:
        this.#bulk(this.#number());
        break;
      case TYPE.array:
      case TILDE:
      case TYPE.push:
        this.#elements(this.#number(), 1);
        break;
      case PERCENT:
      case PIPE:
        this.#elements(this.#number(), 2);
        break;
      default:
        this.malformed = true;
    }
  }

  #integerEnds(): void {
    const number = this.#number();
    if (Number.isNaN(number)) this.malformed = true;
    if (this.#depth === 1) this.integer = number;
    this.#leaf();
  }

  #elements(number: number, each: number): void {
    if (Number.isNaN(number) || number < -1 || number > ELEMENTS_MAX) {
      this.malformed = true;
      return;
    }
    if (this.#depth === 0 && this.#line[0] !== PIPE) this.elements = number;
    this.#aggregate(number * each, this.#line[0] === PIPE);
  }

  #aggregate(number: number, attribute: boolean): void {
    if (number <= 0) {
      if (!attribute) this.#leaf();
      return;
    }
    if (this.#depth >= DEPTH_MAX) {
      this.malformed = true;
      return;
    }
    this.#left[this.#depth] = number;
    this.#attribute[this.#depth] = attribute ? 1 : 0;
    this.#depth += 1;
  }

  /** A value without parts is over, and with it perhaps those that it is part of. */
  #leaf(): void {
    while (this.#depth > 0) {
      this.#left[this.#depth - 1]! -= 1;
      if (this.#left[this.#depth - 1]! > 0) return;
      this.#depth -= 1;
      if (this.#attribute[this.#depth] === 1) return; // what it belongs to follows
    }
    this.complete = true;
  }

  #bulk(length: number): void {
    if (length === -1) {
      this.#leaf();
      return;
    }
    if (Number.isNaN(length) || length < 0 || length > BULK_MAX) {
      this.malformed = true;
      return;
    }
    this.#word = this.#place();
    if (this.#word < WORDS) this.#word_lengths[this.#word] = length;
    this.#body = length + 2;
    this.#body_at = 0;
    this.#line_length = 0;
  }

  /** Which word this element is. A value without elements has one. */
  #place(): number {
    if (this.#depth === 0) return 0;
    if (this.#depth > 1 || this.#attribute[0] === 1) return WORDS;
    const count = this.type === PERCENT ? this.elements * 2 : this.elements;
    return Math.min(count - this.#left[0]!, WORDS);
  }

  #keepLine(): void {
    const place = this.#place();
    if (place >= WORDS) return;
    const length = Math.min(this.#line_length - 3, WORD_KEPT);
    this.#line.copy(this.#words, place * WORD_KEPT, 1, 1 + length);
    this.#word_lengths[place] = this.#line_length - 3;
  }

  #inBody(bytes: Uint8Array, at: number): number {
    const taken = Math.min(this.#body, bytes.length - at);
    const content = Math.min(taken, this.#body - 2);
    if (this.#word < WORDS && this.#body_at < WORD_KEPT && content > 0) {
      const kept = Math.min(content, WORD_KEPT - this.#body_at);
      const to = this.#word * WORD_KEPT + this.#body_at;
      for (let i = 0; i < kept; i += 1) this.#words[to + i] = bytes[at + i]!;
    }
    this.#body_at += Math.max(0, content);
    for (let i = Math.max(0, content); i < taken; i += 1) {
      const want = this.#body - i === 2 ? CR : LF;
      if (bytes[at + i] !== want) this.malformed = true;
    }
    this.#body -= taken;
    if (this.#body === 0) this.#leaf();
    return at + taken;
  }

  /** Of the line that just ended. */
  #number(): number {
    const end = this.#line_length - 2;
    const negative = this.#line[1] === MINUS;
    let at = negative ? 2 : 1;
    if (at >= end || end > NUMBER_LINE_MAX) return Number.NaN;
    let number = 0;
    for (; at < end; at += 1) {
      const digit = this.#line[at]!;
      if (digit < ZERO || digit > NINE) return Number.NaN;
      number = number * 10 + (digit - ZERO);
    }
    return negative ? -number : number;
  }
}
