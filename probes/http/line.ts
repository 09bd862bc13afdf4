// A request line, as the kernel side kept it: up to 128 bytes, with its line end if that is there.

import { isUtf8 } from 'node:buffer';

export interface RequestLine {
  readonly method: string;
  /** Without scheme, authority, query and fragment; empty for CONNECT. */
  readonly path: string;
  /** `1.1`; empty: cut off before. */
  readonly version: string;
  /** The path may go on. */
  readonly truncated: boolean;
}

const UNKNOWN: RequestLine = { method: '', path: '', version: '', truncated: false };

/** Paths are mostly ASCII, or escaped; of those that are not, UTF-8 is what clients mean. Cut within a letter, it is none. */
export function requestLineOf(line: Uint8Array): RequestLine {
  return parseRequestLine(Buffer.from(line).toString(isUtf8(line) ? 'utf8' : 'latin1'));
}

/** Hostile bytes give odd words, never an error. */
export function parseRequestLine(text: string): RequestLine {
  const whole = /[\r\n]$/.test(text);
  const line = whole ? text.slice(0, -1) : text;
  const first = line.indexOf(' ');
  if (first < 0) return { ...UNKNOWN, method: line, truncated: !whole };
  const method = line.slice(0, first);
  const last = whole ? line.lastIndexOf(' ') : -1;
  const target = line.slice(first + 1, last > first ? last : undefined);
  const version = last > first ? /^HTTP\/(\d\.\d)$/.exec(line.slice(last + 1))?.[1] : undefined;
  const end = target.search(/[?#]/);
  return {
    method,
    path: method === 'CONNECT' ? '' : pathOf(end < 0 ? target : target.slice(0, end)),
    version: version ?? '',
    truncated: !whole && end < 0,
  };
}

/** Of the absolute form that proxies are asked in, what is behind the authority. */
function pathOf(target: string): string {
  const authority = /^[a-z][a-z0-9+.-]*:\/\/[^/]*/i.exec(target)?.[0];
  if (authority === undefined) return target;
  return target.slice(authority.length) || '/';
}
