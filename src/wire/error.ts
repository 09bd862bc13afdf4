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

/** The `code` of a failed system call, or the text of whatever else was thrown. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
