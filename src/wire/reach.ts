// Why the other end could not be reached, in one line: the gRPC library frames the reason, and OpenSSL's own text has the
// place in its source and a line break.

/** `speaks_tls`: this end does. */
export function reachWords(error: unknown, speaks_tls: boolean): string {
  const words = detailsOf(error)
    .replace(/\s*Resolution note:\s*$/, '')
    .replace(/^No connection established\. Last error: (Error: )?/, '')
    .replace(/\s*\(\d{4}-\d\d-\d\dT[^)]*\)\.?$/, '') // when it was tried
    .replace(/\.$/, '');
  const openssl = /error:[0-9A-F]+:[^:]*:[^:]*:([^:]+)/.exec(words);
  if (openssl !== null) return `TLS: ${openssl[1]!.trim()}`;
  if (words !== 'Failed to connect') return words.replace(/\s+/g, ' ').trim();
  const why = speaks_tls ? 'it may refuse the certificate that it is shown' : 'it may ask for TLS';
  return `the connection is closed before an answer; ${why}`;
}

function detailsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'details' in error && typeof error.details === 'string' ? error.details : error.message;
}
