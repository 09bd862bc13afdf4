// Takes out what must not leave the machine: credentials in headers, values of secret keys in query, form, JSON, XML, plain
// text and multipart bodies, and whatever the operator's patterns match. It errs to the side of taking out too much.

import { isUtf8 } from 'node:buffer';
import {
  brotliDecompressSync,
  constants,
  gunzipSync,
  inflateSync,
  zstdDecompressSync,
} from 'node:zlib';
import { headerOf } from '../http/head.ts';
import { keySpansOfBytes, type Span, secretSpans } from './json_scan.ts';
import { boundaryOf, formText, headOfPart, partNames } from './multipart.ts';
import { linearPattern, PATTERN_TEXT_MAX, PATTERNS_MAX } from './patterns.ts';
import { textSpans } from './text_scan.ts';
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

/** Names in lower case, with `-` for `_`. What ends in `-key` is one, but for those that open nothing. */
const HEADER = new RegExp(
  [
    '^(?:proxy-)?auth|cookie|api-?key|token|secret|passw|session|credential|signature|jwt|bearer',
    '^x-forwarded-client-cert$|(?<!idempotency|websocket|cache|surrogate|partition|routing)-key$',
  ].join('|'),
);
/** Letters and digits of a key in lower case: `X-Access_Token` is `xaccesstoken`. Tokens that are counted are none. */
const KEY = new RegExp(
  [
    'passw|passphrase|^pass$|^pw$|pwd$|^passcode$|secret|token$|credential|signature$|^sig$',
    '(?<!max|min|total|input|output|prompt|completion|cached|reasoning|num|of)tokens$|jwts?$',
    'apikey|accesskey|privatekey|functionskey$|subscriptionkey$|^bearer$|cookies?$',
    '^(?:proxy)?auth(?:entication|orization|key|code)?$|sess(?:ion)?id|^sid$',
    '^otp$|^pin$|^cvv|^cvc|^ssn$|cardnumber|creditcard',
  ].join('|'),
);
/** Of bytes that are no text: what comes before a name and a password. */
const BINARY_URL = /[a-z]{2}(?::\/\/|:\\\/\\\/|%3a%2f%2f)$/i;
const TEXT_TYPE = /^text\/|json|\bxml\b|html|yaml|javascript|ecmascript|x-www-form-urlencoded/;
/** Their text is full of keys, and a line of them may be all there is. */
const CODE_TYPE = /javascript|ecmascript|^text\/css/;
const JSON_START = /^\s*(?:\{\s*["}]|\[\s*["{[\]])/;
/** Control characters in text, one in so many. In noise it is one in ten. */
const CONTROLS_MAX_PART = 50;
const KEY_LENGTH_MAX = 256;
const KNOWN_MAX = 4096;
/** Multipart within multipart; what is deeper goes whole. */
const PARTS_DEPTH_MAX = 3;

export class Redactor {
  readonly #headers: ReadonlySet<string>;
  readonly #keys: ReadonlySet<string>;
  readonly #patterns: readonly RegExp[];
  readonly #body_max: number;
  /** Keys that were looked at: most bodies have the same few. */
  readonly #known = new Map<string, boolean>();
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
      let value = headers[i + 1]!;
      if (this.#isSecretHeader(name, value)) value = this.#out();
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
    const { buffer: room, byteOffset, byteLength } = is_text ? whole : decoded;
    const buffer = Buffer.from(room, byteOffset, byteLength);
    let text = buffer.toString(is_text ? 'utf8' : 'latin1');
    text = this.#byPatterns(this.#byType(headerOf(headers, 'content-type'), text, !is_text, 0));
    return {
      text: is_text ? text : Buffer.from(text, 'latin1').toString('base64'),
      encoding: is_text ? 'utf8' : 'base64',
      decoded: plain ? '' : coding,
      withheld: '',
    };
  }

  #isSecretHeader(name: string, value: string): boolean {
    const low = name.toLowerCase();
    if (low === 'sec-websocket-protocol' && /bearer|token/i.test(value)) return true; // of browsers
    const is_known = HEADER.test(low.replaceAll('_', '-')) || this.#headers.has(low);
    return is_known || KEY.test(plainKey(low));
  }

  isSecretKey(key: string): boolean {
    if (key.length > KEY_LENGTH_MAX) return true;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const plain = plainKey(key);
    const is_secret = KEY.test(plain) || this.#keys.has(plain);
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    this.#known.set(key, is_secret);
    return is_secret;
  }

  #out(): string {
    this.redacted += 1;
    return REDACTED;
  }

  /** `is_bytes`: each character of the text is a byte of what is no UTF-8. */
  #byType(type: string, text: string, is_bytes: boolean, depth: number): string {
    const low = type.toLowerCase();
    if (low.startsWith('multipart/')) {
      const boundary = boundaryOf(type, text);
      if (boundary !== undefined) return this.#byParts(boundary, text, is_bytes, depth);
    }
    if (is_bytes && !TEXT_TYPE.test(low) && !looksLikeText(text)) return this.#byBinary(text);
    const first = /[^ \t\r\n\ufeff]/.exec(text)?.[0] ?? '';
    const marked = /\bxml\b|html|^multipart/.test(low) || first === '<';
    if (marked) return this.#byJson(this.#byXml(text));
    const may_be_form = low.includes('x-www-form-urlencoded') && !'{["'.includes(first); // curl -d
    const is_form = may_be_form || /^[\w.%[\]-]{1,256}=/.test(text);
    const plain = is_form ? this.#byForm(text) : this.#byJson(text);
    if (may_be_form || CODE_TYPE.test(low)) return plain;
    const is_json = low.includes('json') ? !/^\s*\{\s*['\w]/.test(text) : JSON_START.test(text);
    return this.#byLines(plain, is_json);
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

  #byLines(text: string, is_json: boolean): string {
    const spans = textSpans(text, (key) => this.isSecretKey(formText(key)), is_json);
    return this.#without(text, spans, '');
  }

  #byBinary(text: string): string {
    const spans = keySpansOfBytes(text, (key) => this.isSecretKey(key));
    const plain = this.#without(text, spans, '"');
    const users = userSpans(plain).filter(
      ({ from, to }) =>
        BINARY_URL.test(plain.slice(Math.max(0, from - 12), from)) &&
        /^[\x20-\x7e]*$/.test(plain.slice(from, to)),
    );
    return this.#without(plain, users, '');
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
  #byParts(boundary: string, text: string, is_bytes: boolean, depth: number): string {
    return `\n${text}`
      .split(`\n${boundary}`)
      .map((part) => this.#byPart(part, is_bytes, depth))
      .join(`\n${boundary}`)
      .slice(1);
  }

  #byPart(part: string, is_bytes: boolean, depth: number): string {
    const found = headOfPart(part);
    if (found === undefined) return part;
    const { head, from } = found;
    const content = part.slice(from);
    if (depth >= PARTS_DEPTH_MAX || partNames(head).some((name) => this.isSecretKey(name))) {
      return `${part.slice(0, from)}${this.#out()}${content.endsWith('\r') ? '\r' : ''}`;
    }
    const type = /(?:^|\n)content-type:[ \t]{0,8}([^\r\n]*)/i.exec(head)?.[1] ?? '';
    return part.slice(0, from) + this.#byType(type, content, is_bytes, depth + 1);
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

function looksLikeText(text: string): boolean {
  let controls = 0;
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    if (c === 0x7f || (c < 0x20 && c !== 0x1b && (c < 0x09 || c > 0x0d))) controls += 1;
  }
  return controls * CONTROLS_MAX_PART <= text.length;
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
