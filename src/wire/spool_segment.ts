// One file of the spool: records one after another, each a group of entries that became durable together.
//   record: magic u32 · body length u32 · crc32 of the body u32 · body
//   body:   meta length u32 · meta JSON · payloads in the order of the meta's entries
// All integers are little endian. A record that was torn by a crash fails its checksum and ends the file.
import { closeSync, fdatasyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { RingPosition } from './spool_state.ts';

export interface EntryMeta {
  readonly table: string;
  readonly seq: number;
  readonly rows: number;
  /** Ledger counts that travel with the batch and are lost with it. */
  readonly counts: Readonly<Record<string, number>>;
  readonly payload_bytes: number;
}

export interface RecordMeta {
  readonly entries: readonly EntryMeta[];
  readonly ring: RingPosition | undefined;
  /** Entries up to it are out of the log, and this record says what they were; a crash may have left their files. */
  readonly dropped_seq?: number | undefined;
}

const MAGIC = 0x31736e73;
const HEAD_BYTES = 12;
/** No record of ours is larger; a length above it is damage. */
export const RECORD_BYTES_MAX = 256 * 1024 * 1024;

export function encodeRecord(meta: RecordMeta, payloads: readonly Uint8Array[]): Buffer {
  const text = Buffer.from(JSON.stringify(meta), 'utf8');
  const prefix = Buffer.alloc(HEAD_BYTES + 4);
  prefix.writeUInt32LE(text.length, HEAD_BYTES);
  const record = Buffer.concat([prefix, text, ...payloads]);
  const body = record.subarray(HEAD_BYTES);
  record.writeUInt32LE(MAGIC, 0);
  record.writeUInt32LE(body.length, 4);
  record.writeUInt32LE(crc32(body), 8);
  return record;
}

/** A record's meta as read back, with where it ends. */
export interface FoundRecord {
  readonly meta: RecordMeta;
  readonly at: number;
  readonly end: number;
}

/** A whole record: `payloads` are those of its entries, one behind the other. */
export interface ReadRecord {
  readonly found: FoundRecord;
  readonly payloads: Buffer;
}

/** The entries of a record, each with its payload. */
export function* entriesOf({ found, payloads }: ReadRecord) {
  let at = 0;
  for (const { table, seq, rows, counts, payload_bytes } of found.meta.entries) {
    const payload = payloads.subarray(at, at + payload_bytes);
    at += payload_bytes;
    yield { table, seq, rows, counts, payload };
  }
}

export class Segment {
  readonly path: string;
  /** Valid bytes; what lies behind them is torn. */
  bytes = 0;
  /** 0 while empty. */
  seq_last = 0;
  /** A failed write could not be taken back: nothing may be appended here any more. */
  broken = false;
  private readonly fd: number;

  /** Throws what open(2) throws. */
  constructor(path: string) {
    this.path = path;
    closeSync(openSync(path, 'a'));
    this.fd = openSync(path, 'r+');
  }

  private readExactly(at: number, length: number): Buffer | undefined {
    const bytes = Buffer.allocUnsafe(length);
    let done = 0;
    try {
      while (done < length) {
        const got = readSync(this.fd, bytes, done, length - done, at + done);
        if (got === 0) return undefined;
        done += got;
      }
    } catch {
      // EIO: what the disk does not give back is damaged, as a checksum that fails.
      return undefined;
    }
    return bytes;
  }

  /** The whole record at `at` with its checksum verified; undefined when there is none. */
  readRecord(at: number): ReadRecord | undefined {
    const head = this.readExactly(at, HEAD_BYTES);
    const length = this.lengthOf(head);
    if (!head || length === undefined) return undefined;
    const body = this.readExactly(at + HEAD_BYTES, length);
    if (!body || crc32(body) !== head.readUInt32LE(8)) return undefined;
    const meta_end = 4 + body.readUInt32LE(0);
    const meta = parseMeta(body.subarray(4, meta_end));
    if (!meta) return undefined;
    return {
      found: { meta, at, end: at + HEAD_BYTES + length },
      payloads: body.subarray(meta_end),
    };
  }

  /** Only the meta of a record that was verified before: payloads are not read. */
  readMeta(at: number): FoundRecord | undefined {
    if (at >= this.bytes) return undefined;
    const head = this.readExactly(at, HEAD_BYTES + 4);
    const length = this.lengthOf(head);
    if (!head || length === undefined) return undefined;
    const meta_length = head.readUInt32LE(HEAD_BYTES);
    if (meta_length > length - 4) return undefined;
    const text = this.readExactly(at + HEAD_BYTES + 4, meta_length);
    const meta = text && parseMeta(text);
    return meta && { meta, at, end: at + HEAD_BYTES + length };
  }

  private lengthOf(head: Buffer | undefined): number | undefined {
    if (!head || head.readUInt32LE(0) !== MAGIC) return undefined;
    const length = head.readUInt32LE(4);
    return length < 4 || length > RECORD_BYTES_MAX ? undefined : length;
  }

  /** Walks all records, cuts a torn tail off and returns its length, the last valid record's meta and what records dropped. */
  recover(file_bytes: number): {
    torn_bytes: number;
    last: RecordMeta | undefined;
    dropped_seq: number;
  } {
    let last: RecordMeta | undefined;
    let dropped_seq = 0;
    while (this.bytes < file_bytes) {
      const record = this.readRecord(this.bytes);
      if (!record) break;
      last = record.found.meta;
      dropped_seq = Math.max(dropped_seq, last.dropped_seq ?? 0);
      this.bytes = record.found.end;
      this.seq_last = last.entries.at(-1)?.seq ?? this.seq_last;
    }
    const torn_bytes = file_bytes - this.bytes;
    if (torn_bytes > 0) ftruncateSync(this.fd, this.bytes);
    return { torn_bytes, last, dropped_seq };
  }

  /** All or nothing: throws what the system call throws, with the file as it was before. */
  append(record: Buffer, seq_last: number, durable: boolean): void {
    try {
      let done = 0;
      while (done < record.length) {
        done += writeSync(this.fd, record, done, record.length - done, this.bytes + done);
      }
      if (durable) fdatasyncSync(this.fd);
    } catch (error) {
      this.takeBack();
      throw error;
    }
    this.bytes += record.length;
    this.seq_last = seq_last;
  }

  private takeBack(): void {
    try {
      ftruncateSync(this.fd, this.bytes);
    } catch {
      // The torn tail stays; the next start cuts it off, and nobody writes behind it until then.
      this.broken = true;
    }
  }

  /** Empties a segment whose entries are all acknowledged. */
  reset(): void {
    ftruncateSync(this.fd, 0);
    this.bytes = 0;
  }

  close(): void {
    closeSync(this.fd);
  }
}

function parseMeta(text: Buffer): RecordMeta | undefined {
  try {
    // Written by encodeRecord and covered by the record's checksum.
    return JSON.parse(text.toString('utf8')) as RecordMeta;
  } catch {
    // Not ours: the caller treats the record as torn.
    return undefined;
  }
}
