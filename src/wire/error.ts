// Errors for the operator: what was asked cannot be done as configured. Everything else on the wire is a counter.

export class OperatorError extends Error {
  /** Stable, for programs: `wire_plaintext`, `wire_address`, `wire_tls`, `spool_in_use`, `spool_unusable`. */
  readonly code: string;
  /** What to change. */
  readonly cure: string;

  constructor(code: string, message: string, cure: string) {
    super(`${message}; ${cure}`);
    this.name = 'OperatorError';
    this.code = code;
    this.cure = cure;
  }
}

/** What to change where an address cannot be listened on; `names` are the key and the flag that name it. */
export function listenCure(error: unknown, names: string): string {
  const reason = reasonOf(error);
  if (reason === 'EACCES')
    return `name a port from 1024 up, or give the right to lower ones (CAP_NET_BIND_SERVICE): ${names}`;
  if (reason === 'EADDRINUSE') return `free the port or name another address: ${names}`;
  return `name an address that this machine has: ${names}`;
}

/** The `code` of a failed system call, or the text of whatever else was thrown. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
