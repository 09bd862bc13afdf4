// Takes out what must not leave the machine: credentials in headers, values of secret keys in query, form, JSON, XML and
// multipart bodies, and whatever the operator's patterns match. It errs to the side of taking out too much.

import { isUtf8 } from 'node:buffer';
import {
  brotliDecompressSync,
  constants,
  gunzipSync,
  inflateSync,
  zstdDecompressSync,
} from 'node:zlib';
import { headerOf } from '../http/head.ts';
import { type Span, secretSpans } from './json_scan.ts';
import { linearPattern, PATTERN_TEXT_MAX, PATTERNS_MAX } from './patterns.ts';
import { pairSpans, userSpans } from './url_scan.ts';
import { xmlSecretSpans } from './xml_scan.ts';

export const REDACTED = '<redacted>';

export interface RedactOptions {
  /** More header names, without regard to case. */
  readonly headers: readonly string[];
  /** More key names: `iban` hides `"iban": …`, `iban=…`, `<iban>…`. */
  readonly keys: readonly string[];
  readonly patterns: readonly string[];
  /** An encoded body is decoded up to this. */
  readonly body_max: number;
}

export interface RedactedBody {
  readonly text: string;
  /** base64: the bytes are no UTF-8. */
  readonly encoding: 'utf8' | 'base64';
  /** The content coding that was undone: redaction has to read what it passes on. */
  readonly decoded: string;
  /** Why there is no body here, '' where there is. */
  readonly withheld: string;
}

const HEADER =
  /^(?:proxy-)?auth|cookie|api-?key|token|secret|passw|session|credential|signature|^x-forwarded-client-cert$/;
/** Letters and digits of a key in lower case: `X-Access_Token` is `xaccesstoken`. */
const KEY = new RegExp(
  [
    'passw|passphrase|^pass$|pwd$|^passcode$|secret|token$|credential|signature$',
    'apikey|accesskey|privatekey|^auth(?:entication|orization|key|code)?$|sess(?:ion)?id|^sid$',
    '^otp$|^pin$|^cvv|^cvc|^ssn$|cardnumber|creditcard',
  ].join('|'),
);
const KEY_LENGTH_MAX = 256;
/** Multipart within multipart; what is deeper goes whole. */
const PARTS_DEPTH_MAX = 3;

export class Redactor {
  readonly #headers: ReadonlySet<string>;
  readonly #keys: ReadonlySet<string>;
  readonly #patterns: readonly RegExp[];
  readonly #body_max: number;
  /** Values taken out. */
  redacted = 0;

  /** @throws {Error} for a pattern that cannot be used, with the pattern. */
  constructor(options: RedactOptions) {
    this.#headers = new Set(options.headers.map((name) => name.toLowerCase()));
    this.#keys = new Set(options.keys.map(plainKey));
    this.#body_max = options.body_max;
    if (options.patterns.length > PATTERNS_MAX) {
      throw new Error(`${options.patterns.length} patterns are too many: ${PATTERNS_MAX}`);
    }
    this.#patterns = options.patterns.map(linearPattern);
  }

  /** Pairs of name and value, in their order. */
  headers(headers: readonly string[]): [string, string][] {
    const pairs: [string, string][] = [];
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i]!;
      const low = name.toLowerCase();
      let value = headers[i + 1]!;
      if (HEADER.test(low) || this.#headers.has(low)) value = this.#out();
      else value = this.target(value);
      pairs.push([name, value]);
    }
    return pairs;
  }

  /** The target of a request, or what else may be a URL, or have one in it. */
  target(target: string): string {
    const plain = this.#byUrls(target);
    const spans = pairSpans(plain, (key) => this.isSecretKey(formText(key)));
    return this.#byPatterns(this.#without(plain, spans, ''));
  }

  body(headers: readonly string[], bytes: Uint8Array, cut: boolean): RedactedBody {
    const coding = headerOf(headers, 'content-encoding').trim().toLowerCase();
    const plain = coding === '' || coding === 'identity' || bytes.length === 0;
    const decoded = plain ? bytes : undo(coding, bytes, cut, this.#body_max);
    if (decoded === undefined) {
      return { text: '', encoding: 'utf8', decoded: '', withheld: `content-encoding ${coding}` };
    }
    const whole = cut ? wholeCharacters(decoded) : decoded;
    const is_text = isUtf8(whole);
    const buffer = Buffer.from(whole.buffer, whole.byteOffset, whole.byteLength);
    let text = buffer.toString(is_text ? 'utf8' : 'latin1');
    text = this.#byPatterns(this.#byType(headerOf(headers, 'content-type'), text));
    return {
      text: is_text ? text : Buffer.from(text, 'latin1').toString('base64'),
      encoding: is_text ? 'utf8' : 'base64',
      decoded: plain ? '' : coding,
      withheld: '',
    };
  }

  isSecretKey(key: string): boolean {
    if (key.length > KEY_LENGTH_MAX) return true;
    const plain = plainKey(key);
    return KEY.test(plain) || this.#keys.has(plain);
  }

  #out(): string {
    this.redacted += 1;
    return REDACTED;
  }

  #byType(type: string, text: string): string {
    const low = type.toLowerCase();
    if (low.startsWith('multipart/')) return this.#byParts(type, text, 0);
    const first = /[^ \t\r\n\ufeff]/.exec(text)?.[0] ?? '';
    const marked = low.includes('xml') || low.includes('html') || first === '<';
    const may_be_form = low.includes('x-www-form-urlencoded') && !'{["'.includes(first); // curl -d
    const is_form = may_be_form || /^[\w.%[\]-]{1,256}=/.test(text);
    if (is_form && !marked) return this.#byForm(text);
    return this.#byJson(marked ? this.#byXml(text) : text);
  }

  /** A value ends at `&`: what follows behind `;` or `#` is a key, or more of a secret value. */
  #byForm(text: string): string {
    const parts = text.split(/([&\r\n])/);
    for (let i = 0; i < parts.length; i += 2) {
      const pieces = parts[i]!.split(/(?<=[;#?])/);
      const secret = pieces.findIndex((piece) => this.#isSecretPair(piece));
      if (secret >= 0) {
        const equals = pieces[secret]!.indexOf('=');
        const key = pieces[secret]!.slice(0, equals);
        parts[i] = `${pieces.slice(0, secret).join('')}${key}=${this.#out()}`;
      }
      parts[i] = this.#byUrls(parts[i]!);
    }
    return parts.join('');
  }

  #isSecretPair(piece: string): boolean {
    const equals = piece.indexOf('=');
    return equals > 0 && this.isSecretKey(formText(piece.slice(0, equals)));
  }

  #byJson(text: string): string {
    const spans = secretSpans(text, (key) => this.isSecretKey(key));
    return this.#byUrls(this.#without(text, spans, '"'));
  }

  #byXml(text: string): string {
    const spans = xmlSecretSpans(text, (key) => this.isSecretKey(key));
    return this.#without(text, spans, '');
  }

  #byUrls(text: string): string {
    return this.#without(text, userSpans(text), '');
  }

  #without(text: string, spans: readonly Span[], quote: string): string {
    let out = '';
    let at = 0;
    for (const { from, to } of spans) {
      out += `${text.slice(at, from)}${quote}${this.#out()}${quote}`;
      at = to;
    }
    return at === 0 ? text : out + text.slice(at);
  }

  /** Parts are between lines that begin with `--` and the boundary; the name of each stands in its own head. */
  #byParts(type: string, text: string, depth: number): string {
    const boundary = boundaryOf(type, text);
    if (boundary === undefined) return this.#byJson(this.#byXml(text));
    return `\n${text}`
      .split(`\n${boundary}`)
      .map((part) => this.#byPart(part, depth))
      .join(`\n${boundary}`)
      .slice(1);
  }

  #byPart(part: string, depth: number): string {
    const blank = /\r?\n\r?\n/.exec(part);
    if (blank === null) return part;
    const from = blank.index + blank[0].length;
    const head = part.slice(0, blank.index);
    const content = part.slice(from);
    if (depth >= PARTS_DEPTH_MAX || partNames(head).some((name) => this.isSecretKey(name))) {
      return `${part.slice(0, from)}${this.#out()}${content.endsWith('\r') ? '\r' : ''}`;
    }
    const type = /(?:^|\n)content-type:[ \t]{0,8}([^\r\n]*)/i.exec(head)?.[1] ?? '';
    const is_nested = type.toLowerCase().startsWith('multipart/');
    const plain = is_nested ? this.#byParts(type, content, depth + 1) : this.#byType(type, content);
    return part.slice(0, from) + plain;
  }

  #byPatterns(text: string): string {
    if (this.#patterns.length === 0) return text;
    let out = text.length > PATTERN_TEXT_MAX ? text.slice(0, PATTERN_TEXT_MAX) : text;
    for (const pattern of this.#patterns) out = out.replace(pattern, () => this.#out());
    return out;
  }
}

function plainKey(key: string): string {
  return key.toLowerCase().replace(/[^a-z0-9]/g, '');
}

/** With the two dashes: as the type has it, or else as the first such line. */
function boundaryOf(type: string, text: string): string | undefined {
  const told = /;[ \t]{0,8}boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))/i.exec(type);
  const boundary = told === null ? undefined : `--${told[1] ?? told[2]}`;
  if (boundary !== undefined && text.includes(boundary)) return boundary;
  return /^--[^\r\n]{1,200}/m.exec(text)?.[0];
}

/** `name=x`, `name="x"`, `name*=UTF-8''x`, and in pieces: `name*0="x"; name*1="y"`. */
function partNames(head: string): readonly string[] {
  const found = head.matchAll(
    /\bname(\*?\d{0,2}\*?)[ \t]{0,8}=[ \t]{0,8}(?:"([^"\r\n]*)|([^";\s]*))/gi,
  );
  const names = [...found].map(([, star, quoted, plain]) => {
    const text = quoted ?? plain ?? '';
    return star === '' ? text : formText(text.slice(text.lastIndexOf("'") + 1));
  });
  return [...names, names.join('')];
}

function formText(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text; // as it stands
  }
}

/** Undefined: the coding is unknown, or the bytes are not of it. */
function undo(
  coding: string,
  bytes: Uint8Array,
  cut: boolean,
  max: number,
): Uint8Array | undefined {
  const options = { maxOutputLength: max };
  const partial = cut ? { ...options, finishFlush: constants.Z_SYNC_FLUSH } : options;
  try {
    if (coding === 'gzip' || coding === 'x-gzip') return gunzipSync(bytes, partial);
    if (coding === 'deflate') return inflateSync(bytes, partial);
    if (coding === 'br' && !cut) return brotliDecompressSync(bytes, options);
    if (coding === 'zstd' && !cut) return zstdDecompressSync(bytes, options);
  } catch {
    return undefined; // too large, or no such bytes
  }
  return undefined;
}

/** Without the beginning of a character whose rest was cut off. */
function wholeCharacters(bytes: Uint8Array): Uint8Array {
  for (let back = 1; back <= 3 && back <= bytes.length; back += 1) {
    const byte = bytes[bytes.length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? bytes.subarray(0, bytes.length - back) : bytes;
  }
  return bytes;
}
