// The static table of HPACK (RFC 7541, appendix A), from index 1.

/** Name, value, name, value … */
const FIELDS: readonly string[] = [
  [':authority', ''],
  [':method', 'GET', ':method', 'POST'],
  [':path', '/', ':path', '/index.html'],
  [':scheme', 'http', ':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((status) => [':status', status]),
  ['accept-charset', '', 'accept-encoding', 'gzip, deflate', 'accept-language', ''],
  ['accept-ranges', '', 'accept', '', 'access-control-allow-origin', '', 'age', ''],
  ['allow', '', 'authorization', '', 'cache-control', '', 'content-disposition', ''],
  ['content-encoding', '', 'content-language', '', 'content-length', ''],
  ['content-location', '', 'content-range', '', 'content-type', '', 'cookie', '', 'date', ''],
  ['etag', '', 'expect', '', 'expires', '', 'from', '', 'host', '', 'if-match', ''],
  ['if-modified-since', '', 'if-none-match', '', 'if-range', '', 'if-unmodified-since', ''],
  ['last-modified', '', 'link', '', 'location', '', 'max-forwards', '', 'proxy-authenticate', ''],
  ['proxy-authorization', '', 'range', '', 'referer', '', 'refresh', '', 'retry-after', ''],
  ['server', '', 'set-cookie', '', 'strict-transport-security', '', 'transfer-encoding', ''],
  ['user-agent', '', 'vary', '', 'via', '', 'www-authenticate', ''],
].flat();

export interface StaticField {
  readonly name: string;
  readonly value: string;
  readonly size: number;
}

export const STATIC_TABLE: readonly StaticField[] = Array.from(
  { length: FIELDS.length / 2 },
  (_, i) => {
    const name = FIELDS[2 * i]!;
    const value = FIELDS[2 * i + 1]!;
    return { name, value, size: name.length + value.length + 32 };
  },
);
