// Finds the values of certain keys in plain text: `key: value` and `key=value`, as lines of YAML, of environments and of headers
// have them, and within a line. What is in doubt is one of them. Takes time in proportion to the text.

import { inOrder, NAMED, NAMING, SPANS_MAX, type Span, stringEnd } from './json_scan.ts';

const KEY_MAX = 128;
const BLANKS_MAX = 8;
/** What may stand before the key that a line begins with. */
const PREFIX_MAX = 64;
const PREFIX =
  /^[\s>*#+$-]*(?:(?:export|set|setenv|env|declare|local|readonly|arg)\s+(?:-\w+\s+)?)?["'`]?$/i;
/** The longest of those that name, and that hold what is named. */
const NAMES_LENGTH_MAX = 16;
/** Of YAML: the value is in the lines that follow, further in. */
const BLOCK = /^(?:[|>][-+\d]{0,2}|[&!]\S{0,64})?[ \t]{0,8}(?:#.*)?$/;
/** What a scan before this one left. */
const TAKEN = /["'`]?<redacted>/y;

/** `- name: DB_PASSWORD` and its `value: …`, which stand in one column. */
interface Item {
  readonly column: number;
  secret: boolean;
  value: Span | undefined;
}

/** A key, and what is to know about its place. */
interface Key {
  readonly low: string;
  readonly is_secret: boolean;
  /** Where it begins, its own quote included; and behind the sign that ends it. */
  readonly from: number;
  readonly to: number;
  /** What stands before it in its line, where that is short. */
  readonly prefix: string | undefined;
  readonly sign: string;
}

/** `is_json`: only keys that begin a line count, for the others are known by their quotes. */
export function textSpans(
  text: string,
  isSecret: (key: string) => boolean,
  is_json: boolean,
): readonly Span[] {
  return new TextScan(text, isSecret).run(is_json);
}

class TextScan {
  readonly #text: string;
  readonly #isSecret: (key: string) => boolean;
  readonly #spans: Span[] = [];
  #line = 0;
  #next_line = 0;
  #item: Item | undefined;
  /** Quotes that nothing closes any more: they are not looked for again. */
  #unclosed = '';

  constructor(text: string, isSecret: (key: string) => boolean) {
    this.#text = text;
    this.#isSecret = isSecret;
  }

  run(is_json: boolean): readonly Span[] {
    const signs = /[:=]/g;
    let done = 0;
    for (let m = signs.exec(this.#text); m !== null; m = signs.exec(this.#text)) {
      this.#lineOf(m.index);
      if (is_json && m.index - this.#line > PREFIX_MAX + KEY_MAX) {
        signs.lastIndex = this.#next_line;
        continue;
      }
      if (is_json && this.#text[m.index - 1] === '"') continue;
      const key = this.#keyBefore(m.index, done);
      done = m.index + 1;
      if (key === undefined || (is_json && key.prefix === undefined)) continue;
      done = Math.max(done, this.#take(key));
      signs.lastIndex = done;
      if (this.#spans.length >= SPANS_MAX) {
        this.#spans.push({ from: done, to: this.#text.length });
        break;
      }
    }
    return inOrder(this.#spans.filter(({ from, to }) => to > from));
  }

  #lineOf(at: number): void {
    while (this.#next_line <= at) {
      this.#line = this.#next_line;
      const lf = this.#text.indexOf('\n', this.#line);
      this.#next_line = lf < 0 ? this.#text.length + 1 : lf + 1;
    }
  }

  /** Undefined: none that says anything. */
  #keyBefore(sign: number, done: number): Key | undefined {
    const text = this.#text;
    let end = sign;
    while (end > done && sign - end < BLANKS_MAX && isBlank(text, end - 1)) end -= 1;
    const quoted = end > done && isQuote(text[end - 1]);
    if (quoted) end -= 1;
    let from = end;
    while (from > done && end - from < KEY_MAX && isOfKey(text.charCodeAt(from - 1))) from -= 1;
    if (from === end) return undefined;
    const key = text.slice(from, end);
    const low = key.length <= NAMES_LENGTH_MAX ? key.toLowerCase() : '';
    const is_name = NAMING.has(low) || NAMED.has(low);
    const is_secret = this.#isSecret(key);
    if (!is_name && !is_secret) return undefined;
    if (quoted && from > done && text[from - 1] === text[end]) from -= 1;
    const before = from - this.#line > PREFIX_MAX ? undefined : text.slice(this.#line, from);
    const prefix = before !== undefined && PREFIX.test(before) ? before : undefined;
    return { low, is_secret, from, to: sign + 1, prefix, sign: text[sign]! };
  }

  /** Takes what the key says; where to go on. */
  #take(key: Key): number {
    const item = key.prefix === undefined || key.sign === '=' ? undefined : this.#itemOf(key);
    const is_value = item !== undefined && NAMED.has(key.low);
    const from = this.#skipBlank(key.to);
    if (item !== undefined && !is_value) this.#name(item, from);
    const is_secret = (is_value && item.secret) || key.is_secret;
    TAKEN.lastIndex = from;
    if ((!is_secret && !is_value) || TAKEN.test(this.#text)) return 0;
    const value = this.#value(key, from);
    if (!is_secret) item!.value = value;
    else this.#spans.push(value);
    return is_secret ? value.to : 0;
  }

  /** The pair of lines that the key is of; undefined: of none. */
  #itemOf(key: Key): Item | undefined {
    const column = key.from - this.#line;
    const last = this.#item;
    const is_new = column < (last?.column ?? 0) || key.prefix!.trimStart().startsWith('-');
    if (is_new) this.#item = undefined;
    if (!NAMING.has(key.low) && !NAMED.has(key.low)) return undefined;
    if (this.#item?.column !== column) this.#item = { column, secret: false, value: undefined };
    return this.#item;
  }

  #name(item: Item, from: number): void {
    const name = this.#text.slice(from, Math.min(this.#lineEnd(from), from + KEY_MAX));
    if (!this.#isSecret(name.trim())) return;
    item.secret = true;
    if (item.value !== undefined) this.#spans.push(item.value);
  }

  #value(key: Key, from: number): Span {
    const text = this.#text;
    if (isQuote(text[from])) return { from: from + 1, to: this.#quoteEnd(from, from) };
    const before = text[key.from - 1];
    if (isQuote(before) && text[key.from] !== before) {
      return { from, to: this.#quoteEnd(key.from - 1, from) };
    }
    if (key.prefix !== undefined) return { from, to: this.#blockEnd(key, from) };
    if (key.sign === '=') return { from, to: this.#wordEnd(from) };
    const opener =
      text
        .slice(Math.max(0, key.from - BLANKS_MAX), key.from)
        .trimEnd()
        .at(-1) ?? '';
    return { from, to: '{[(,'.includes(opener) ? this.#flowEnd(from) : this.#lineEnd(from) };
  }

  /** Before the quote that closes the one at `quote`, or else at the end of the line. */
  #quoteEnd(quote: number, from: number): number {
    const text = this.#text;
    const sign = text[quote]!;
    if (!this.#unclosed.includes(sign)) {
      const end = stringEnd(text, quote);
      if (end - 1 > quote && text[end - 1] === sign) return Math.max(from, end - 1);
      this.#unclosed += sign;
    }
    return this.#lineEnd(from);
  }

  /** Of the line, or of the lines further in that follow it. */
  #blockEnd(key: Key, from: number): number {
    const text = this.#text;
    let end = this.#lineEnd(from);
    if (key.sign === '=' || end - from > KEY_MAX || !BLOCK.test(text.slice(from, end))) return end;
    const column = key.from - this.#line;
    for (let at = text.indexOf('\n', end) + 1; at > 0; at = text.indexOf('\n', at) + 1) {
      const first = this.#skipBlank(at);
      const line_end = this.#lineEnd(first);
      const is_entry = first - at === column && text.startsWith('- ', first);
      if (first < line_end) {
        if (first - at <= column && !is_entry) break;
        end = line_end;
      }
    }
    return end;
  }

  #wordEnd(from: number): number {
    const text = this.#text;
    let i = from;
    while (i < text.length && text.charCodeAt(i) > 0x20 && !'&;"\'`<>'.includes(text[i]!)) i += 1;
    return i;
  }

  #flowEnd(from: number): number {
    const end = this.#lineEnd(from);
    let i = from;
    while (i < end && !',}])'.includes(this.#text[i]!)) i += 1;
    return i;
  }

  #lineEnd(from: number): number {
    const is_here = from >= this.#line && from < this.#next_line;
    const lf = is_here ? this.#next_line - 1 : this.#text.indexOf('\n', from);
    const end = lf < 0 ? this.#text.length : lf;
    return end > from && this.#text[end - 1] === '\r' ? end - 1 : end;
  }

  #skipBlank(from: number): number {
    let i = from;
    while (i < this.#text.length && isBlank(this.#text, i)) i += 1;
    return i;
  }
}

function isQuote(c: string | undefined): boolean {
  return c === '"' || c === "'" || c === '`';
}

function isBlank(text: string, at: number): boolean {
  const c = text.charCodeAt(at);
  return c === 0x20 || c === 0x09;
}

/** Letters, digits and `%-._[]`. */
function isOfKey(c: number): boolean {
  const low = c | 0x20;
  if ((low >= 0x61 && low <= 0x7a) || (c >= 0x30 && c <= 0x39)) return true;
  return c === 0x2d || c === 0x2e || c === 0x5f || c === 0x25 || c === 0x5b || c === 0x5d;
}
