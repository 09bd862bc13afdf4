// Finds the values of certain elements and attributes in XML and HTML text, without building it: also in text that is cut off,
// or is not well-formed. What is in doubt is one of them.

import { NAMED, NAMING, SPANS_MAX, type Span } from './json_scan.ts';

/** Text within comments, CDATA and attributes is looked through as text is; deeper than this all of it is a value. */
const DEPTH_MAX = 2;
/** Of HTML: they have no end, and where one has it nevertheless, it is no HTML. */
const VOID = new Set(['input', 'meta', 'link', 'img', 'br', 'hr', 'source', 'embed', 'param']);
const NAME_MAX = 256;

interface Attribute {
  readonly name: string;
  /** Of the value, without its quotes. */
  readonly from: number;
  readonly to: number;
}

interface Tag {
  readonly name: string;
  readonly attributes: readonly Attribute[];
  /** Behind it. */
  readonly end: number;
  /** It has no content: `<a/>`, `<?a?>`. */
  readonly empty: boolean;
}

/**
 * The content of elements that `isSecret` names, whatever is nested in it, and the values of attributes that it names, without
 * quotes. Beyond `SPANS_MAX` of them the rest of the text is one. Takes time in proportion to the text.
 */
export function xmlSecretSpans(text: string, isSecret: (key: string) => boolean): readonly Span[] {
  const scan = new XmlScan(text, isSecret);
  scan.region(0, text.length, 0);
  return scan.spans;
}

class XmlScan {
  readonly spans: Span[] = [];
  readonly #text: string;
  readonly #isSecret: (key: string) => boolean;
  /** Where each mark was found last, from where: what is missing is looked for once. */
  readonly #found = new Map<string, { from: number; at: number }>();
  #full = false;

  constructor(text: string, isSecret: (key: string) => boolean) {
    this.#text = text;
    this.#isSecret = isSecret;
  }

  region(from: number, to: number, depth: number): void {
    if (!this.#text.slice(from, to).includes('<')) return;
    if (depth > DEPTH_MAX) {
      this.#push(from, to);
      return;
    }
    let at = this.#text.indexOf('<', from);
    while (at >= 0 && at < to && !this.#full) {
      const inner = this.#innerOf(at, to);
      if (inner !== undefined) {
        this.region(inner.from, inner.to, depth + 1);
        at = inner.to;
      } else {
        at = isNameStart(this.#text, at + 1) ? this.#element(at + 1, to, depth) : at + 1;
      }
      at = this.#text.indexOf('<', at);
    }
  }

  /** Of the element, or the instruction, whose name begins at `at`: where to go on. */
  #element(at: number, to: number, depth: number): number {
    const tag = this.#tag(at, to);
    const is_secret = this.#isSecretName(tag.name);
    const is_named = !is_secret && tag.attributes.some((one) => this.#names(one));
    for (const one of tag.attributes) {
      const low = one.name.toLowerCase();
      const goes =
        (is_secret && !low.startsWith('xmlns')) ||
        (is_named && NAMED.has(low)) ||
        this.#isSecretName(one.name);
      if (goes) this.#push(one.from, one.to);
      else this.region(one.from, one.to, depth + 1);
    }
    const holds = is_secret || (is_named && this.#mayEnd(tag, to));
    if (!holds || tag.empty) return this.#namedNext(tag, to) ?? tag.end;
    const end = this.#closing(tag.name, tag.end, to);
    this.#push(tag.end, end);
    return end;
  }

  /** Behind what this element names: `<key>password</key><string>…</string>`. */
  #namedNext({ name, end, empty }: Tag, to: number): number | undefined {
    const text = this.#text;
    if (empty || !NAMING.has(name.slice(name.lastIndexOf(':') + 1).toLowerCase())) return undefined;
    const closing = this.#next('</', end, to);
    if (closing - end > NAME_MAX || !this.#isSecret(text.slice(end, closing).trim())) {
      return undefined;
    }
    const next = skipBlank(text, this.#next('>', closing, to) + 1, to);
    if (text[next] !== '<' || !isNameStart(text, next + 1)) return undefined;
    const tag = this.#tag(next + 1, to);
    if (tag.empty) return tag.end;
    const value_end = this.#closing(tag.name, tag.end, to);
    this.#push(tag.end, value_end);
    return value_end;
  }

  #mayEnd({ name, end }: Tag, to: number): boolean {
    return !VOID.has(name.toLowerCase()) || this.#next(`</${name}`, end, to) < to;
  }

  #names({ name, from, to }: Attribute): boolean {
    return (
      NAMING.has(name.toLowerCase()) &&
      to - from <= NAME_MAX &&
      this.#isSecret(this.#text.slice(from, to))
    );
  }

  #isSecretName(name: string): boolean {
    return this.#isSecret(name.slice(name.lastIndexOf(':') + 1));
  }

  /** Where the element ends, whose content begins at `from`. */
  #closing(name: string, from: number, to: number): number {
    const text = this.#text;
    let open = 1;
    let at = text.indexOf('<', from);
    while (at >= 0 && at < to) {
      const inner = this.#innerOf(at, to);
      if (inner !== undefined) at = inner.to;
      else if (text[at + 1] === '/') {
        const behind = at + 2 + name.length;
        if (text.startsWith(name, at + 2) && isNameEnd(text, behind)) open -= 1;
        if (open === 0) return at;
        at += 2;
      } else if (isNameStart(text, at + 1)) {
        const tag = this.#tag(at + 1, to);
        if (tag.name === name && !tag.empty) open += 1;
        at = tag.end;
      } else at += 1;
      at = text.indexOf('<', at);
    }
    return to;
  }

  /** What is within a comment, or a section of CDATA, that begins at `at`. */
  #innerOf(at: number, to: number): Span | undefined {
    const comment = this.#text.startsWith('<!--', at);
    if (!comment && !this.#text.startsWith('<![CDATA[', at)) return undefined;
    const from = Math.min(at + (comment ? 4 : 9), to);
    return { from, to: this.#next(comment ? '-->' : ']]>', from, to) };
  }

  #tag(at: number, to: number): Tag {
    const text = this.#text;
    const attributes: Attribute[] = [];
    let i = text[at] === '?' ? at + 1 : at;
    const from = i;
    while (i < to && !isNameEnd(text, i)) i += 1;
    const name = text.slice(from, i);
    for (;;) {
      while (i < to && (isBlank(text, i) || text[i] === '/' || text[i] === '?')) i += 1;
      if (i >= to || text[i] === '<') return { name, attributes, end: i, empty: false };
      if (text[i] === '>') {
        const empty = text[i - 1] === '/' || text[at] === '?';
        return { name, attributes, end: i + 1, empty };
      }
      i = this.#attribute(i, to, attributes);
    }
  }

  /** Behind the attribute that begins at `at`. */
  #attribute(at: number, to: number, attributes: Attribute[]): number {
    const text = this.#text;
    let i = at + 1;
    while (i < to && !isNameEnd(text, i)) i += 1;
    const name = text.slice(at, i);
    i = skipBlank(text, i, to);
    if (text[i] !== '=' || i >= to) return i;
    i = skipBlank(text, i + 1, to);
    const quote = text[i];
    if (i < to && (quote === '"' || quote === "'")) {
      const end = this.#next(quote, i + 1, to);
      attributes.push({ name, from: i + 1, to: end });
      return Math.min(end + 1, to);
    }
    const from = i;
    const is_secret = this.#isSecretName(name);
    while (i < to && !isBlank(text, i) && text[i] !== '>' && (is_secret || text[i] !== '<')) i += 1;
    attributes.push({ name, from, to: i });
    return i;
  }

  /** The next such mark before `to`, or `to`. */
  #next(mark: string, from: number, to: number): number {
    let known = this.#found.get(mark);
    if (known === undefined || from < known.from || (known.at >= 0 && known.at < from)) {
      known = { from, at: this.#text.indexOf(mark, from) };
      this.#found.set(mark, known);
    }
    return known.at < 0 || known.at > to ? to : known.at;
  }

  #push(from: number, to: number): void {
    if (this.#full) return;
    this.#full = this.spans.length >= SPANS_MAX;
    this.spans.push({ from, to: this.#full ? this.#text.length : to });
  }
}

function isBlank(text: string, at: number): boolean {
  return text.charCodeAt(at) <= 0x20;
}

function skipBlank(text: string, at: number, to: number): number {
  let i = at;
  while (i < to && isBlank(text, i)) i += 1;
  return i;
}

function isNameStart(text: string, at: number): boolean {
  return at < text.length && !isBlank(text, at) && !'/!<>="\''.includes(text[at]!);
}

function isNameEnd(text: string, at: number): boolean {
  return at >= text.length || isBlank(text, at) || '/<>=?'.includes(text[at]!);
}
