// Where the body of an HTTP/1 message ends (RFC 9112, 6.3), and what its first line says.

export type Framing =
  | { readonly type: 'none' }
  | { readonly type: 'length'; readonly length: number }
  | { readonly type: 'chunked' }
  /** Until the end of the connection. */
  | { readonly type: 'close' }
  /** No body, and what follows is another protocol: 101, an accepted CONNECT, the preface of HTTP/2. */
  | { readonly type: 'tunnel' };

export interface StartLine {
  readonly method: string;
  readonly target: string;
  readonly status: number;
  readonly version: string;
}

const METHOD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$/;
const VERSION = /^HTTP\/(\d\.\d)$/;
const STATUS = /^HTTP\/(1\.\d) ([1-9]\d\d)(?: |$)/;

/** `cut`: the end of the line, with the version, was beyond a limit. Undefined: it is no start line. */
export function startLine(
  kind: 'request' | 'response',
  text: string,
  cut: boolean,
): StartLine | undefined {
  if (kind === 'response') {
    const [, version, status] = STATUS.exec(text) ?? [];
    if (version === undefined) return undefined;
    return { method: '', target: '', status: Number(status), version };
  }
  const first = text.indexOf(' ');
  const last = cut ? text.length : text.lastIndexOf(' ');
  const method = text.slice(0, first);
  const target = text.slice(first + 1, last);
  if (first <= 0 || last <= first || target === '' || !METHOD.test(method)) return undefined;
  if (target.includes(' ')) return undefined;
  const version = cut ? '1.1' : VERSION.exec(text.slice(last + 1))?.[1];
  if (version === undefined || !(version.startsWith('1.') || method === 'PRI')) return undefined;
  return { method, target, status: 0, version };
}

/** `asked`: the method that a response answers. Undefined: the peers themselves must refuse such a message. */
export function framingOf(
  start: StartLine,
  headers: readonly string[],
  asked: string,
): Framing | undefined {
  const { method, status, version } = start;
  if (version === '2.0') return { type: 'tunnel' };
  if (method === '') {
    if (status === 101 || (asked === 'CONNECT' && status >= 200 && status < 300)) {
      return { type: 'tunnel' };
    }
    if (asked === 'HEAD' || status < 200 || status === 204 || status === 304) {
      return { type: 'none' };
    }
  }
  const codings = valuesOf(headers, 'transfer-encoding');
  if (codings.length > 0) {
    const last = codings[codings.length - 1]!.toLowerCase();
    if (last === 'chunked') return { type: 'chunked' };
    return method === '' ? { type: 'close' } : undefined;
  }
  const lengths = valuesOf(headers, 'content-length');
  if (lengths.length === 0) return { type: method === '' ? 'close' : 'none' };
  const length = Number(lengths[0]);
  const valid = lengths.every((one) => one === lengths[0]) && /^\d{1,15}$/.test(lengths[0]!);
  return valid ? { type: 'length', length } : undefined;
}

/** All values of a list header, over all its lines. */
function valuesOf(headers: readonly string[], name: string): readonly string[] {
  const values: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i]!.toLowerCase() !== name) continue;
    for (const one of headers[i + 1]!.split(',')) if (one.trim() !== '') values.push(one.trim());
  }
  return values;
}
