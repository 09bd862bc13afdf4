// What a batch of ours says about itself in FlightData.app_metadata, and what PutResult.app_metadata answers: JSON,
// so that any client can take part. Everything read here comes from a stranger.

export interface BatchMetadata {
  readonly collector_id: string;
  readonly host: string;
  readonly seq: number;
  readonly version: string;
  /** Messages of this batch after its schema: the stream carries many batches. */
  readonly messages: number;
}

export interface PutAck {
  /** The last stored sequence; all before it are stored or rejected. */
  readonly seq: number;
  /** Set when this very batch was refused for good: a resend would not help. */
  readonly rejected?: string;
}

const ID = /^[A-Za-z0-9_.:@-]{1,128}$/;
const MESSAGES_MAX = 100_000;
const TEXT_CHARS_MAX = 256;

function parseObject(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    // Any object may be looked into by name; each field is checked by its reader below.
    return value !== null && typeof value === 'object' ? { ...value } : undefined;
  } catch {
    // A foreign client's metadata need not be JSON.
    return undefined;
  }
}

function isCount(value: unknown, max: number): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= max;
}

export function encodeMetadata(metadata: BatchMetadata | PutAck): Buffer {
  return Buffer.from(JSON.stringify(metadata), 'utf8');
}

/** Undefined for metadata that is not ours, as that of pyarrow. */
export function decodeBatchMetadata(bytes: Uint8Array): BatchMetadata | undefined {
  const value = bytes.length === 0 ? undefined : parseObject(bytes);
  if (!value) return undefined;
  const { collector_id, host, seq, version, messages } = value;
  if (typeof collector_id !== 'string' || !ID.test(collector_id)) return undefined;
  if (!isCount(seq, Number.MAX_SAFE_INTEGER) || !isCount(messages, MESSAGES_MAX)) return undefined;
  return {
    collector_id,
    host: typeof host === 'string' ? host.slice(0, TEXT_CHARS_MAX) : '',
    seq,
    version: typeof version === 'string' ? version.slice(0, TEXT_CHARS_MAX) : '',
    messages,
  };
}

export function decodeAck(bytes: Uint8Array): PutAck | undefined {
  const value = parseObject(bytes);
  if (!value || !isCount(value.seq, Number.MAX_SAFE_INTEGER)) return undefined;
  if (typeof value.rejected !== 'string') return { seq: value.seq };
  return { seq: value.seq, rejected: value.rejected.slice(0, TEXT_CHARS_MAX) };
}
