// What the store answers when it did not do what it was asked. Full disks, engines in trouble and wrong SQL are values:
// whoever holds one of these has no acknowledgement to give.

/** `busy` and `disk_full` pass; `syntax`, `unknown_name`, `refused`, `bad_batch` do not; `engine` is everything else. */
export type FailureReason =
  | 'disk_full'
  | 'memory'
  | 'time'
  | 'too_large'
  | 'syntax'
  | 'unknown_name'
  | 'refused'
  | 'busy'
  | 'cancelled'
  | 'bad_batch'
  | 'closed'
  | 'engine';

/** Where in the SQL text: `offset` from 0, line and column from 1. */
export interface SqlPosition {
  readonly offset: number;
  readonly line: number;
  readonly column: number;
}

export interface StoreFailure {
  readonly ok: false;
  readonly reason: FailureReason;
  readonly message: string;
  readonly position?: SqlPosition;
}

/** The operator's mistake: the text says what to do about it, and the command ends with 2. */
export class StoreOperatorError extends Error {
  readonly code: string;
  readonly cure: string;
  constructor(code: string, message: string, cure: string, cause?: unknown) {
    super(`${message}: ${cure}`, { cause });
    this.name = 'StoreOperatorError';
    this.code = code;
    this.cure = cure;
  }
}

const MESSAGE_LENGTH_MAX = 1000;

/** Codes of ClickHouse that mean something to us; any other is `engine`. */
const REASONS: Readonly<Record<string, FailureReason>> = {
  '62': 'syntax',
  '46': 'unknown_name',
  '47': 'unknown_name',
  '60': 'unknown_name',
  '115': 'unknown_name',
  '159': 'time',
  '164': 'refused',
  '241': 'memory',
  '243': 'disk_full',
  '307': 'too_large',
  '394': 'cancelled',
  '396': 'too_large',
  '158': 'too_large',
  '497': 'refused',
};

export function failure(reason: FailureReason, message: string): StoreFailure {
  return { ok: false, reason, message: message.slice(0, MESSAGE_LENGTH_MAX) };
}

/** Any error of the client or of a file as a value. `sql` gives the position its line and column. */
export function failureOf(error: unknown, sql?: string): StoreFailure {
  const message = error instanceof Error ? error.message : String(error);
  const code = errorCode(error);
  const full = code === 'ENOSPC' || code === 'EDQUOT' || /No space left on device/.test(message);
  const reason = full ? 'disk_full' : (REASONS[code] ?? 'engine');
  const value = failure(reason, message);
  const offset = sql === undefined ? undefined : errorOffset(message);
  if (sql === undefined || offset === undefined) return value;
  return { ...value, position: positionAt(sql, offset) };
}

function errorCode(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('code' in error)) return '';
  return String(error.code);
}

/** The parser counts characters from 1; what the client puts before the text is taken off by the caller. */
function errorOffset(message: string): number | undefined {
  const found = /failed at position (\d+)/.exec(message);
  return found === null ? undefined : Math.max(0, Number(found[1]) - 1);
}

export function positionAt(sql: string, offset: number): SqlPosition {
  const before = sql.slice(0, Math.min(offset, sql.length));
  const line = before.split('\n').length;
  return { offset: before.length, line, column: before.length - before.lastIndexOf('\n') };
}
