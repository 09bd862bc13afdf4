// Finds credentials in URLs that stand anywhere in a text: `scheme://user:password@host`, as it is, with the slashes of JSON
// (`:\/\/`), and percent-encoded; and the values of certain keys in queries and paths. Takes time in proportion to the text.

import type { Span } from './json_scan.ts';

const SLASHES = /:(?:\/\/|\\\/\\\/)|%3a(?:%2f){2}/gi;

/** What stands between `://` and `@`. A password may have an `@`; with a slash it is known as none of a port. */
export function userSpans(text: string): readonly Span[] {
  const spans: Span[] = [];
  SLASHES.lastIndex = 0;
  for (let m = SLASHES.exec(text); m !== null; m = SLASHES.exec(text)) {
    const from = m.index + m[0].length;
    const end = m[0].startsWith('%') ? encodedUserEnd(text, from) : userEnd(text, from);
    if (end.to > from) spans.push({ from, to: end.to });
    SLASHES.lastIndex = Math.max(end.on, from);
  }
  return spans;
}

/** `to`: where the `@` stands, 0: there is none; `on`: where to look on. */
interface End {
  readonly to: number;
  readonly on: number;
}

function userEnd(text: string, from: number): End {
  let to = 0;
  let colon = false;
  let digits = true;
  let i = from;
  for (; i < text.length && !'/?#<>"'.includes(text[i]!) && !isBlank(text, i); i += 1) {
    const c = text[i]!;
    if (c === '\\') {
      if (text[i + 1] === '/') break;
      i += 1;
    } else if (c === '@') to = i;
    else if (c === ':' && !colon) colon = true;
    else if (colon && (c < '0' || c > '9')) digits = false;
  }
  if (to > 0 || !colon || digits || text[from] === '[') return { to, on: i };
  while (i < text.length && !'<>"@'.includes(text[i]!) && !isBlank(text, i)) {
    i += text[i] === '\\' ? 2 : 1;
  }
  return { to: text[i] === '@' ? i : 0, on: Math.min(i, text.length) };
}

function encodedUserEnd(text: string, from: number): End {
  let to = 0;
  let i = from;
  for (; i < text.length && !'&;/?#<>"'.includes(text[i]!) && !isBlank(text, i); i += 1) {
    if (text[i] !== '%') continue;
    const code = text.slice(i + 1, i + 3).toLowerCase();
    if (code === '40') to = i;
    else if (code === '2f' || code === '3f' || code === '23') break;
  }
  return { to, on: i };
}

/**
 * Values of keys that `isSecret` names, in `key=value` anywhere in a target or in the value of a header. A value ends at `&`, a
 * blank, a quote or a bracket; that of a parameter of a path (`/a;key=value/b?…`) at what ends its segment as well.
 */
export function pairSpans(text: string, isSecret: (key: string) => boolean): readonly Span[] {
  const spans: Span[] = [];
  const query = text.indexOf('?');
  const slash = text.indexOf('/');
  let done = 0;
  for (let at = text.indexOf('='); at >= 0; at = text.indexOf('=', done)) {
    let begin = at;
    while (begin > done && !isKeyBegin(text, begin - 1)) begin -= 1;
    done = at + 1;
    if (begin === at || !isSecret(text.slice(begin, at))) continue;
    const in_path = slash >= 0 && slash < begin && (query < 0 || begin < query);
    done = valueEnd(text, at + 1, in_path && ';/'.includes(text[begin - 1]!));
    spans.push({ from: at + 1, to: done });
  }
  return spans;
}

function isKeyBegin(text: string, at: number): boolean {
  return isBlank(text, at) || '?&;#=,/"<>'.includes(text[at]!);
}

function valueEnd(text: string, from: number, in_path: boolean): number {
  if (text[from] === '"') {
    const quote = text.indexOf('"', from + 1);
    return quote < 0 ? text.length : quote + 1;
  }
  const ends = in_path ? '&"<>/;?#' : '&"<>';
  let i = from;
  while (i < text.length && !ends.includes(text[i]!) && !isBlank(text, i)) i += 1;
  return i;
}

function isBlank(text: string, at: number): boolean {
  return text.charCodeAt(at) <= 0x20;
}
