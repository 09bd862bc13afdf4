// The collector's log on disk: what was drained from the kernel and is not yet stored by the reducer. All calls are
// synchronous: one append an interval, into the page cache. The fold's worker never waits for the network.

import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { OperatorError, reasonOf } from './error.ts';
import { bootId, lockFolder } from './lock.ts';
import {
  type EntryMeta,
  encodeRecord,
  type FoundRecord,
  RECORD_BYTES_MAX,
  Segment,
} from './spool_segment.ts';
import { type LastEntry, type RingPosition, type SpoolState, StateFile } from './spool_state.ts';

export interface SpoolOptions {
  /** The log's limit on disk; the oldest segment goes first. At least 64 KiB. */
  readonly bytes_max: number;
  readonly segment_bytes?: number;
  /** `none`: survives kill -9, not a power loss. `batch`: each append waits for the disk. */
  readonly fsync?: 'none' | 'batch';
  /** Unacknowledged entries that had to go, once for each table of a dropped segment. */
  readonly on_drop?: (lost: Lost) => void;
}

export interface Lost {
  readonly table: string;
  readonly batches: number;
  readonly rows: number;
  /** Of `rows`: those that were on the wire already. They may be stored nevertheless; nobody can tell any more. */
  readonly rows_sent: number;
  readonly counts: Readonly<Record<string, number>>;
}

export interface SpoolInput {
  readonly table: string;
  /** A self-contained Arrow IPC stream. */
  readonly payload: Uint8Array;
  readonly rows: number;
  readonly counts: Readonly<Record<string, number>>;
}

export interface SpoolEntry extends SpoolInput {
  readonly seq: number;
}

/**
 * `seqs` are the entries' sequences, in order. After a failure they are still theirs: the caller may send the
 * entries from memory under them. They are absent when not even the use of the sequences could be noted.
 */
export type AppendResult =
  | { ok: true; seqs: readonly number[] }
  | { ok: false; reason: string; seqs: readonly number[] | undefined };

export interface SpoolStats {
  appended_batches: number;
  appended_rows: number;
  appended_bytes: number;
  /** By reason: ENOSPC, EIO, too_large … */
  failed: Record<string, number>;
  dropped_batches: number;
  dropped_rows: number;
  /** Torn tails that a crash left, cut off at the start. */
  torn_records: number;
  torn_bytes: number;
  /** Records that did not read back as written. */
  damaged_records: number;
}

const SEGMENT_BYTES_MIN = 16 * 1024;
const SEGMENT_BYTES_MAX = 8 * 1024 * 1024;
const BYTES_MIN = 64 * 1024;
/** After a power loss entries may be gone whose sequences the reducer has seen: those are not used again. */
const SEQ_SKIP = 1_000_000;
const RING_ID_CHARS_MAX = 256;
const SUFFIX = '.log';

export class Spool {
  /** Made with the folder. Sequences are counted within it: part of the collector's id on the wire. */
  readonly spool_id: string;
  readonly stats: SpoolStats;
  readonly dir: string;
  private readonly options: SpoolOptions;
  private readonly segment_bytes: number;
  private readonly durable: boolean;
  private readonly lock: { release(): void };
  private readonly state_file: StateFile;
  /** Oldest first; the last one is written to. */
  private segments: Segment[] = [];
  private acknowledged_seq = 0;
  private seq_used = 0;
  private sent_seq = 0;
  /** A damaged record is met again with each resend; it is counted once. */
  private damaged_seq = 0;
  /** Segment files are numbered as they are made. */
  private segment_number = 0;
  private last_entry: LastEntry | undefined;
  /** Where the reader stopped, so that the next read does not walk the segment again. */
  private hint: { after: number; segment: Segment; at: number } | undefined;

  /** Opens or creates the folder. Throws OperatorError when it is in use or cannot be used. */
  static open(dir: string, options: SpoolOptions): Spool {
    try {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      return new Spool(dir, options);
    } catch (error) {
      if (error instanceof OperatorError) throw error;
      const reason = reasonOf(error);
      const full = reason === 'ENOSPC' || reason === 'EDQUOT';
      const cure = full ? 'make room on its disk' : 'name a folder that can be written to';
      throw new OperatorError('spool_unusable', `Cannot use ${dir} as spool: ${reason}`, cure);
    }
  }

  private constructor(dir: string, options: SpoolOptions) {
    this.dir = dir;
    this.options = { ...options, bytes_max: Math.max(options.bytes_max, BYTES_MIN) };
    const share = Math.floor(this.options.bytes_max / 8);
    const wanted = options.segment_bytes ?? Math.min(SEGMENT_BYTES_MAX, share);
    this.segment_bytes = Math.max(SEGMENT_BYTES_MIN, wanted);
    this.durable = options.fsync === 'batch';
    this.stats = {
      appended_batches: 0,
      appended_rows: 0,
      appended_bytes: 0,
      failed: {},
      dropped_batches: 0,
      dropped_rows: 0,
      torn_records: 0,
      torn_bytes: 0,
      damaged_records: 0,
    };
    this.lock = lockFolder(dir);
    try {
      this.state_file = new StateFile(join(dir, 'state'));
      this.spool_id = this.state_file.found?.spool_id ?? randomUUID();
      this.recover(this.state_file.found);
    } catch (error) {
      this.lock.release();
      throw error;
    }
  }

  private recover(state: SpoolState | undefined): void {
    this.acknowledged_seq = state?.acknowledged ?? 0;
    this.seq_used = Math.max(state?.seq_used ?? 0, this.acknowledged_seq);
    this.last_entry = state?.last;
    const names = readdirSync(this.dir).filter((name) => /^[0-9]{12}\.log$/.test(name));
    for (const name of names.sort()) {
      const segment = new Segment(join(this.dir, name));
      const { torn_bytes, last } = segment.recover(statSync(segment.path).size);
      if (torn_bytes > 0) this.stats.torn_records++;
      this.stats.torn_bytes += torn_bytes;
      this.segments.push(segment);
      this.segment_number = Number.parseInt(name, 10);
      if (last && segment.seq_last > (this.last_entry?.seq ?? 0)) {
        this.last_entry = { seq: segment.seq_last, ring: last.ring };
      }
    }
    this.seq_used = Math.max(this.seq_used, this.last_entry?.seq ?? 0);
    const rebooted = state !== undefined && state.boot !== bootId();
    const state_lost = state === undefined && this.segments.length > 0;
    if (rebooted || state_lost) this.seq_used += SEQ_SKIP;
    this.removeAcknowledged();
    // Twice: both slots get their blocks now, so that a full disk cannot refuse them later.
    this.state_file.write(this.state(), true);
    this.state_file.write(this.state(), true);
  }

  private state(): SpoolState {
    return {
      spool_id: this.spool_id,
      boot: bootId(),
      acknowledged: this.acknowledged_seq,
      seq_used: this.seq_used,
      last: this.last_entry,
    };
  }

  /** Sequence and ring position of the newest entry, whether or not it is still in the log. */
  last(): LastEntry | undefined {
    return this.last_entry;
  }

  acknowledged(): number {
    return this.acknowledged_seq;
  }

  /** Bytes of the log on disk. */
  bytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  /** True: the folder was removed while in use, and what the log holds ends with this process. */
  isGone(): boolean {
    try {
      return !this.state_file.isThere();
    } catch (error) {
      this.countFailure(reasonOf(error)); // a disk in trouble is no folder that was removed
      return false;
    }
  }

  append(entry: SpoolInput & { readonly ring?: RingPosition | undefined }): AppendResult {
    return this.appendGroup([entry], entry.ring);
  }

  /** Makes all entries and the ring position durable together, or none. Never throws for the disk's sake. */
  appendGroup(entries: readonly SpoolInput[], ring: RingPosition | undefined): AppendResult {
    if (entries.length === 0) return this.noteRing(ring);
    const first = this.seq_used + 1;
    const metas: EntryMeta[] = entries.map((entry, index) => ({
      table: entry.table,
      seq: first + index,
      rows: entry.rows,
      counts: entry.counts,
      payload_bytes: entry.payload.length,
    }));
    const seqs = metas.map((meta) => meta.seq);
    const seq_last = first + entries.length - 1;
    const payload_bytes = metas.reduce((sum, meta) => sum + meta.payload_bytes, 0);
    if (payload_bytes > Math.min(RECORD_BYTES_MAX, this.options.bytes_max) / 2) {
      return this.refuse('too_large', seqs);
    }
    if (ring && ring.ring_id.length > RING_ID_CHARS_MAX) return this.refuse('ring_id', seqs);
    try {
      const payloads = entries.map((entry) => entry.payload);
      const record = encodeRecord({ entries: metas, ring }, payloads);
      this.makeRoom(record.length);
      this.writable(record.length).append(record, seq_last, this.durable);
    } catch (error) {
      return this.refuse(reasonOf(error), seqs);
    }
    this.seq_used = seq_last;
    this.last_entry = { seq: seq_last, ring };
    this.stats.appended_batches += entries.length;
    this.stats.appended_bytes += payload_bytes;
    for (const meta of metas) this.stats.appended_rows += meta.rows;
    return { ok: true, seqs };
  }

  /** A turn without rows still moves the ring on; and batches sent from memory do, once they are acknowledged. */
  noteRing(ring: RingPosition | undefined): AppendResult {
    const before = this.last_entry;
    if (ring) this.last_entry = { seq: this.seq_used, ring };
    const reason = this.writeState();
    if (reason === undefined) return { ok: true, seqs: [] };
    this.last_entry = before;
    return { ok: false, reason, seqs: [] };
  }

  /** The sequences are spent, so that a restart does not give them to other batches. */
  private refuse(reason: string, seqs: readonly number[]): AppendResult {
    this.countFailure(reason);
    const before = this.seq_used;
    this.seq_used = seqs.at(-1) ?? before;
    if (this.writeState() === undefined) return { ok: false, reason, seqs };
    this.seq_used = before;
    return { ok: false, reason, seqs: undefined };
  }

  private countFailure(reason: string): void {
    this.stats.failed[reason] = (this.stats.failed[reason] ?? 0) + 1;
  }

  private writeState(): string | undefined {
    try {
      this.state_file.write(this.state(), this.durable);
      return undefined;
    } catch (error) {
      return reasonOf(error);
    }
  }

  /** The segment to write to: a new one when the last is full or broken. Throws what open(2) throws. */
  private writable(record_bytes: number): Segment {
    const active = this.segments.at(-1);
    if (active && !active.broken) {
      if (active.bytes === 0 || active.bytes + record_bytes <= this.segment_bytes) return active;
    }
    const number = String(this.segment_number + 1).padStart(12, '0');
    const segment = new Segment(join(this.dir, `${number}${SUFFIX}`));
    this.segment_number++;
    this.segments.push(segment);
    return segment;
  }

  private makeRoom(record_bytes: number): void {
    while (this.segments.length > 0 && this.bytes() + record_bytes > this.options.bytes_max) {
      const oldest = this.segments[0];
      // `last` must outlive the file that holds it.
      this.state_file.write(this.state(), this.durable);
      this.countLost(oldest);
      this.remove(oldest);
    }
  }

  private countLost(segment: Segment): void {
    const lost: EntryMeta[] = [];
    for (let at = 0, found = segment.readMeta(0); found; found = segment.readMeta(at)) {
      at = found.end;
      lost.push(...found.meta.entries.filter((entry) => entry.seq > this.acknowledged_seq));
    }
    this.reportLost(lost);
  }

  private reportLost(entries: readonly EntryMeta[]): void {
    for (const table of new Set(entries.map((entry) => entry.table))) {
      const lost = {
        table,
        batches: 0,
        rows: 0,
        rows_sent: 0,
        counts: {} as Record<string, number>,
      };
      for (const entry of entries) {
        if (entry.table !== table) continue;
        lost.batches++;
        lost.rows += entry.rows;
        if (entry.seq <= this.sent_seq) lost.rows_sent += entry.rows;
        for (const [name, count] of Object.entries(entry.counts)) {
          lost.counts[name] = (lost.counts[name] ?? 0) + count;
        }
      }
      this.stats.dropped_batches += lost.batches;
      this.stats.dropped_rows += lost.rows;
      this.options.on_drop?.(lost);
    }
  }

  private remove(segment: Segment): void {
    this.segments = this.segments.filter((one) => one !== segment);
    if (this.hint?.segment === segment) this.hint = undefined;
    segment.close();
    rmSync(segment.path, { force: true });
  }

  /** The sender's note, so that a later loss can say what was on the wire. */
  noteSent(seq: number): void {
    this.sent_seq = Math.max(this.sent_seq, seq);
  }

  /** Everything up to and with `seq` is stored; it leaves the log. Cheap: one small write in place. */
  acknowledge(seq: number): void {
    const capped = Math.min(seq, this.seq_used);
    if (capped <= this.acknowledged_seq) return;
    this.acknowledged_seq = capped;
    // A failure costs a few resends after a restart, which the reducer drops; the next one writes it again.
    const reason = this.writeState();
    if (reason === undefined) this.removeAcknowledged();
    else this.countFailure(reason);
  }

  private removeAcknowledged(): void {
    try {
      for (const segment of [...this.segments]) {
        if (segment.seq_last > this.acknowledged_seq) break;
        if (segment !== this.segments.at(-1) || segment.broken) this.remove(segment);
        else if (segment.bytes >= this.segment_bytes / 2) {
          if (this.hint?.segment === segment) this.hint = undefined;
          segment.reset();
        }
      }
    } catch (error) {
      // The file stays until the next acknowledgement or start; its entries are known as acknowledged.
      this.countFailure(reasonOf(error));
    }
  }

  /** Entries after `after` (default: the acknowledged ones), oldest first, read from disk as they are asked for. */
  *pending(after: number = this.acknowledged_seq): Generator<SpoolEntry> {
    let seq = Math.max(after, this.acknowledged_seq);
    for (;;) {
      const record = this.recordAfter(seq);
      if (!record) return;
      let at = 0;
      for (const meta of record.found.meta.entries) {
        const payload = record.payloads.subarray(at, at + meta.payload_bytes);
        at += meta.payload_bytes;
        if (meta.seq <= seq) continue;
        const { table, rows, counts } = meta;
        yield { table, seq: meta.seq, rows, counts, payload };
      }
      seq = record.found.meta.entries.at(-1)?.seq ?? seq;
    }
  }

  private recordAfter(seq: number): { found: FoundRecord; payloads: Buffer } | undefined {
    for (const segment of this.segments) {
      if (segment.seq_last <= seq) continue;
      let at = this.hint?.after === seq && this.hint.segment === segment ? this.hint.at : 0;
      for (let found = segment.readMeta(at); found; found = segment.readMeta(at)) {
        const last = found.meta.entries.at(-1)?.seq ?? 0;
        at = found.end;
        if (last <= seq) continue;
        const record = segment.readRecord(found.at);
        if (record) {
          this.hint = { after: last, segment, at };
          return record;
        }
        // Damaged since it was written: lost like an overflow, and the next one is taken.
        if (last <= this.damaged_seq) continue;
        this.stats.damaged_records++;
        this.damaged_seq = last;
        this.reportLost(found.meta.entries.filter((entry) => entry.seq > seq));
      }
    }
    return undefined;
  }

  close(): void {
    this.writeState();
    for (const segment of this.segments) segment.close();
    this.state_file.close();
    this.lock.release();
  }
}
