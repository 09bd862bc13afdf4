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
import { secretSpans } from './json_scan.ts';
import { linearPattern, PATTERN_TEXT_MAX, PATTERNS_MAX } from './patterns.ts';

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
    'apikey|accesskey|privatekey|^auth(?:entication|orization|key|code)?$|sessionid|^sid$',
    '^otp$|^pin$|^cvv|^cvc|^ssn$|cardnumber|creditcard',
  ].join('|'),
);
const URL_HEADERS = new Set(['referer', 'location', 'content-location']);
const KEY_LENGTH_MAX = 256;

export class Redactor {
  readonly #headers: ReadonlySet<string>;
  readonly #keys: ReadonlySet<string>;
  readonly #patterns: readonly RegExp[];
  readonly #xml = linearPattern('<([A-Za-z_][A-Za-z0-9_:.-]*)([^<>]*)>([^<]*)');
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
      else value = this.#byPatterns(URL_HEADERS.has(low) ? this.#byQuery(value) : value);
      pairs.push([name, value]);
    }
    return pairs;
  }

  /** The target of a request: its query is a form, its authority may hold a password. */
  target(target: string): string {
    return this.#byPatterns(this.#byQuery(target));
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
    text = this.#byPatterns(this.#byType(headerOf(headers, 'content-type').toLowerCase(), text));
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
    if (type.startsWith('multipart/')) return this.#byParts(text);
    if (type.includes('x-www-form-urlencoded')) return this.#byForm(text);
    const first = /[^ \t\r\n]/.exec(text)?.[0];
    if (type.includes('json') || first === '{' || first === '[') return this.#byJson(text);
    if (type.includes('xml') || type.includes('html') || first === '<') return this.#byXml(text);
    return /^[\w.%[\]-]{1,256}=/.test(text) ? this.#byForm(text) : text;
  }

  #byQuery(target: string): string {
    const user = /^([a-z][a-z0-9+.-]{0,15}:\/\/)[^/?#@]*@/i.exec(target);
    const plain =
      user === null ? target : `${user[1]}${this.#out()}@${target.slice(user[0].length)}`;
    const query = plain.indexOf('?');
    if (query < 0) return plain;
    return `${plain.slice(0, query + 1)}${this.#byForm(plain.slice(query + 1))}`;
  }

  #byForm(text: string): string {
    if (!text.includes('=')) return text;
    const parts = text.split(/([&;#\r\n])/);
    for (let i = 0; i < parts.length; i += 2) {
      const part = parts[i]!;
      const equals = part.indexOf('=');
      if (equals > 0 && this.isSecretKey(formText(part.slice(0, equals)))) {
        parts[i] = `${part.slice(0, equals)}=${this.#out()}`;
      }
    }
    return parts.join('');
  }

  #byJson(text: string): string {
    let out = '';
    let at = 0;
    for (const { from, to } of secretSpans(text, (key) => this.isSecretKey(key))) {
      out += `${text.slice(at, from)}"${this.#out()}"`;
      at = to;
    }
    return at === 0 ? text : out + text.slice(at);
  }

  #byXml(text: string): string {
    return text.replace(this.#xml, (whole, name: string, rest: string) => {
      const local = name.slice(name.indexOf(':') + 1);
      return this.isSecretKey(local) ? `<${name}${rest}>${this.#out()}` : whole;
    });
  }

  /** Parts end at a line that begins with `--`; the name of each stands in its own head. */
  #byParts(text: string): string {
    const boundary = /^--[^\r\n]{1,200}/.exec(text)?.[0];
    if (boundary === undefined) return text;
    return text
      .split(boundary)
      .map((part) => {
        const head = part.indexOf('\r\n\r\n');
        const name = /name="?([^";\r\n]*)/i.exec(part.slice(0, Math.max(head, 0)))?.[1] ?? '';
        if (head < 0) return part;
        const content = part.slice(head + 4);
        const end = content.endsWith('\r\n') ? '\r\n' : '';
        if (this.isSecretKey(name)) return `${part.slice(0, head + 4)}${this.#out()}${end}`;
        const first = /[^ \t\r\n]/.exec(content)?.[0];
        return `${part.slice(0, head + 4)}${first === '{' ? this.#byJson(content) : content}`;
      })
      .join(boundary);
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
