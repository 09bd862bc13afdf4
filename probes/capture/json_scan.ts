// Finds the values of certain keys in JSON text, without building it: also in text that is cut off, or is no JSON at all.

/** From `from` to `to` the text of a value, quotes included. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

const SPANS_MAX = 10_000;

/**
 * Values of keys that `isSecret` names, at any depth; where the value is an array or an object, all of it.
 * Beyond `SPANS_MAX` of them the rest of the text is one.
 */
export function secretSpans(text: string, isSecret: (key: string) => boolean): readonly Span[] {
  const spans: Span[] = [];
  for (let at = 0; at < text.length; ) {
    if (spans.length >= SPANS_MAX) return [...spans, { from: at, to: text.length }];
    if (text.charCodeAt(at) !== 0x22) {
      at += 1;
      continue;
    }
    const end = stringEnd(text, at);
    const colon = skipBlank(text, end);
    if (text.charCodeAt(colon) !== 0x3a || !isSecret(unquote(text.slice(at, end)))) {
      at = end;
      continue;
    }
    const from = skipBlank(text, colon + 1);
    const to = valueEnd(text, from);
    if (to > from) spans.push({ from, to });
    at = Math.max(to, end);
  }
  return spans;
}

/** Behind the closing quote of the string that begins at `at`; the end of the text where there is none.
 */
function stringEnd(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    if (c === 0x5c) i += 1;
    else if (c === 0x22) return i + 1;
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
