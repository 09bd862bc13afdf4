// Finds the values of certain keys in JSON text, without building it: also in text that is cut off, or is no JSON at all.

/** From `from` to `to` the text of a value, quotes included. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

export const SPANS_MAX = 10_000;
/** Of brackets that are open at once the innermost are followed; what is around them is no list of pairs then. */
const FRAMES_MAX = 256;
const NAME_MAX = 256;
/** What names a value, and what holds it: `{"name": "DB_PASSWORD", "value": …}`, in either order. */
export const NAMING: ReadonlySet<string> = new Set(['name', 'key', 'id', 'property']);
export const NAMED: ReadonlySet<string> = new Set(['value', 'values', 'content']);

/** An array or an object that is open. */
interface Frame {
  readonly from: number;
  readonly is_list: boolean;
  /** It has a name; a secret one. */
  named: boolean;
  secret: boolean;
  /** Values that a name may still make secret. */
  values: Span[];
  /** Where the one begins that is itself an array or an object; -1: none. */
  nested: number;
}

/**
 * Values of keys that `isSecret` names, at any depth, of what `name` and the like name so, and of pairs in a list of pairs
 * (`[["Authorization", …]]`); where the value is an array or an object, all of it.
 * Beyond `SPANS_MAX` of them the rest of the text is one. Takes time in proportion to the text.
 */
export function secretSpans(text: string, isSecret: (key: string) => boolean): readonly Span[] {
  return new JsonScan(text, isSecret).run();
}

/** Of bytes that are no text, where a quote says little: values of such keys in printable characters, and nothing by doubt. */
export function keySpansOfBytes(text: string, isSecret: (key: string) => boolean): readonly Span[] {
  const spans: Span[] = [];
  const key = /"([ !#-~]{1,64})"[ \t\r\n]{0,64}:/g;
  for (let m = key.exec(text); m !== null && spans.length < SPANS_MAX; m = key.exec(text)) {
    if (isSecret(unquote(m[0].slice(0, m[1]!.length + 2)))) {
      const from = skipBlank(text, key.lastIndex);
      const to = valueEnd(text, from);
      if (to > from) spans.push({ from, to });
      key.lastIndex = Math.max(to, key.lastIndex);
    }
  }
  return spans;
}

/** In their order; what is within another goes. */
export function inOrder(spans: readonly Span[]): readonly Span[] {
  const sorted = [...spans].sort((a, b) => a.from - b.from || b.to - a.to);
  const kept: Span[] = [];
  for (const span of sorted) {
    const last = kept.at(-1);
    if (last === undefined || span.from >= last.to) kept.push(span);
    else if (span.to > last.to) kept[kept.length - 1] = { from: last.from, to: span.to };
  }
  return kept;
}

class JsonScan {
  readonly #text: string;
  readonly #isSecret: (key: string) => boolean;
  readonly #spans: Span[] = [];
  readonly #frames: Frame[] = [];
  /** Where the value without quotes ends that was looked at last: one that begins within it ends there, too. */
  #plain_end = 0;

  constructor(text: string, isSecret: (key: string) => boolean) {
    this.#text = text;
    this.#isSecret = isSecret;
  }

  run(): readonly Span[] {
    const text = this.#text;
    for (let at = 0; at < text.length; ) {
      if (this.#spans.length >= SPANS_MAX) {
        this.#push(at, text.length);
        break;
      }
      const c = text.charCodeAt(at);
      if (c === 0x22) {
        at = this.#string(at);
        continue;
      }
      if (c === 0x7b || c === 0x5b) this.#open(at, c === 0x5b);
      else if (c === 0x7d || c === 0x5d) this.#close(at, c === 0x5d);
      at += 1;
    }
    this.#cutOff();
    return inOrder(this.#spans);
  }

  /** Where to go on behind the string, or behind the value that it names. */
  #string(at: number): number {
    const text = this.#text;
    const end = stringEnd(text, at);
    const next = skipBlank(text, end);
    const frame = this.#frames.at(-1);
    if (text[next] === ',') return this.#pair(frame, at, end, next + 1);
    if (text[next] !== ':') return end;
    const key = unquote(text.slice(at, end));
    const from = skipBlank(text, next + 1);
    const low = key.length <= NAME_MAX ? key.toLowerCase() : '';
    const is_named = frame?.secret === true && NAMED.has(low);
    if (is_named || this.#isSecret(key)) {
      const to = valueEnd(text, from);
      this.#push(from, to);
      return Math.max(to, end);
    }
    if (frame?.is_list === false) this.#note(frame, low, from);
    return end;
  }

  #note(frame: Frame, key: string, from: number): void {
    const text = this.#text;
    if (NAMED.has(key)) {
      if (text[from] === '{' || text[from] === '[') frame.nested = from;
      else frame.values.push({ from, to: this.#valueEnd(from) });
    } else if (NAMING.has(key) && text[from] === '"') {
      const to = stringEnd(text, from);
      frame.named = true;
      if (!this.#isName(from, to)) return;
      frame.secret = true;
      for (const one of frame.values) this.#push(one.from, one.to);
      frame.values = [];
    }
  }

  #valueEnd(from: number): number {
    if (this.#text[from] === '"') return stringEnd(this.#text, from);
    if (from >= this.#plain_end) this.#plain_end = valueEnd(this.#text, from);
    return this.#plain_end;
  }

  /** The first string of a list within a list may name the rest of its list. */
  #pair(frame: Frame | undefined, at: number, end: number, behind: number): number {
    const text = this.#text;
    if (frame?.is_list !== true || this.#frames.at(-2)?.is_list !== true) return end;
    if (skipBlank(text, frame.from + 1) !== at || !this.#isName(at, end)) return end;
    const close = nestedEnd(text, frame.from);
    const to = text[close - 1] === ']' ? close - 1 : close;
    this.#push(skipBlank(text, behind), to);
    return Math.max(end, to);
  }

  #isName(from: number, to: number): boolean {
    return to - from <= NAME_MAX && this.#isSecret(unquote(this.#text.slice(from, to)));
  }

  #open(from: number, is_list: boolean): void {
    if (this.#frames.length >= FRAMES_MAX) this.#frames.shift();
    this.#frames.push({ from, is_list, named: false, secret: false, values: [], nested: -1 });
  }

  #close(at: number, is_list: boolean): void {
    const frame = this.#frames.at(-1);
    if (frame?.is_list !== is_list) return; // no JSON
    this.#frames.pop();
    const around = this.#frames.at(-1);
    if (around?.nested !== frame.from) return;
    around.values.push({ from: frame.from, to: at + 1 });
    around.nested = -1;
  }

  /** What is open at the end may have had its name behind it. */
  #cutOff(): void {
    for (const { named, values, nested } of this.#frames) {
      if (named) continue;
      for (const { from, to } of values) this.#push(from, to);
      if (nested >= 0) this.#push(nested, this.#text.length);
    }
  }

  #push(from: number, to: number): void {
    if (to > from) this.#spans.push({ from, to });
  }
}

/** Behind the closing quote of the string that begins at `at`; the end of the text where there is none. */
export function stringEnd(text: string, at: number): number {
  const quote = text.charCodeAt(at);
  for (let i = at + 1; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    if (c === 0x5c) i += 1;
    else if (c === quote) return i + 1;
  }
  return text.length;
}

function skipBlank(text: string, at: number): number {
  let i = at;
  while (i < text.length && text.charCodeAt(i) <= 0x20) i += 1;
  return i;
}

function valueEnd(text: string, at: number): number {
  const c = text[at];
  if (c === '"') return stringEnd(text, at);
  if (c === '{' || c === '[') return nestedEnd(text, at);
  let i = at;
  while (i < text.length && !',}] \t\r\n'.includes(text[i]!)) i += 1;
  return i;
}

function nestedEnd(text: string, at: number): number {
  let depth = 0;
  for (let i = at; i < text.length; i += 1) {
    const c = text[i];
    if (c === '"') i = stringEnd(text, i) - 1;
    else if (c === '{' || c === '[') depth += 1;
    else if (c === '}' || c === ']') depth -= 1;
    if (depth === 0) return i + 1;
  }
  return text.length;
}

/** Keys may be written with escapes: `pass\u0077ord` is `password`. */
function unquote(literal: string): string {
  if (!literal.includes('\\')) return literal.slice(1, -1);
  try {
    return String(JSON.parse(literal));
  } catch {
    return literal; // no JSON: as it stands
  }
}
