// The collector's log on disk: what was drained from the kernel and is not yet stored by the reducer. All calls are
// synchronous: one append an interval, into the page cache. The fold's worker never waits for the network.

import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { OperatorError, reasonOf } from './error.ts';
import { bootId, lockFolder } from './lock.ts';
import { type Lost, lossesOf } from './spool_loss.ts';
import { OpenFile } from './spool_open.ts';
import {
  type EntryMeta,
  encodeRecord,
  entriesOf,
  RECORD_BYTES_MAX,
  type ReadRecord,
  Segment,
} from './spool_segment.ts';
import { type LastEntry, type RingPosition, type SpoolState, StateFile } from './spool_state.ts';

export interface SpoolOptions {
  /** The log's limit on disk; the oldest segment goes first. At least 64 KiB. */
  readonly bytes_max: number;
  readonly segment_bytes?: number;
  /** `none`: survives kill -9, not a power loss. `batch`: each append waits for the disk. */
  readonly fsync?: 'none' | 'batch';
  /**
   * Unacknowledged entries have to go, since the log is full: makes the entry that says so, without any other effect. It is
   * in the log before they leave it, so that a crash in between loses neither them nor the word of it.
   */
  readonly notice?: (lost: readonly Lost[]) => SpoolInput | undefined;
  /** An entry that did not read back as it was written. */
  readonly on_damage?: (lost: Lost) => void;
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
/** Of the limit on disk, what the rows of an open interval may have beside the log. */
const OPEN_SHARE = 8;
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
  private readonly open_file: OpenFile;
  /** Oldest first; the last one is written to. */
  private segments: Segment[] = [];
  private acknowledged_seq = 0;
  /** Entries up to here had to go, and the log says so. */
  private dropped_seq = 0;
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
      this.open_file = new OpenFile(dir);
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
      const { torn_bytes, last, dropped_seq } = segment.recover(statSync(segment.path).size);
      this.dropped_seq = Math.max(this.dropped_seq, dropped_seq);
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
    this.removeSettled();
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

  /** Entries up to here are no part of the log any more: stored, or dropped. */
  settled(): number {
    return Math.max(this.acknowledged_seq, this.dropped_seq);
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
    const payload_bytes = entries.reduce((sum, { payload }) => sum + payload.length, 0);
    if (payload_bytes > Math.min(RECORD_BYTES_MAX, this.options.bytes_max) / 2) {
      return this.refuse('too_large', entries);
    }
    if (ring && ring.ring_id.length > RING_ID_CHARS_MAX) return this.refuse('ring_id', entries);
    try {
      let record = this.encode(entries, ring);
      // A notice takes a sequence; the later ones may be a digit longer.
      if (this.makeRoom(record.length + entries.length)) record = this.encode(entries, ring);
      return { ok: true, seqs: this.write(record, entries, ring) };
    } catch (error) {
      return this.refuse(reasonOf(error), entries);
    }
  }

  /**
   * Makes the rows of an interval that is not over safe, with the ring position that they reach, in place of what was safe of
   * it before. They enter the log with `appendGroup`, and then `forgetOpen` is due. The reason why not, as `AppendResult`.
   */
  keepOpen(entries: readonly SpoolInput[], ring: RingPosition): string | undefined {
    const payload_bytes = entries.reduce((sum, { payload }) => sum + payload.length, 0);
    if (payload_bytes > this.options.bytes_max / OPEN_SHARE) return 'too_large';
    try {
      this.open_file.write(this.encode(entries, ring), this.durable);
      return undefined;
    } catch (error) {
      return reasonOf(error);
    }
  }

  /** What a predecessor kept so and did not append. */
  leftOpen(): { readonly entries: readonly SpoolInput[]; readonly ring: RingPosition } | undefined {
    const record = this.open_file.read(this.last_entry);
    const ring = record?.found.meta.ring;
    if (record === undefined || ring === undefined) return undefined;
    const entries = [...entriesOf(record)].map(({ seq: _, ...input }) => input);
    return { entries, ring };
  }

  forgetOpen(): void {
    try {
      this.open_file.remove();
    } catch (error) {
      // It is known as appended by its place in the ring.
      this.countFailure(reasonOf(error));
    }
  }

  private encode(
    entries: readonly SpoolInput[],
    ring: RingPosition | undefined,
    dropped_seq?: number,
  ): Buffer {
    const metas = entries.map(({ table, rows, counts, payload }, index): EntryMeta => {
      const seq = this.seq_used + 1 + index;
      return { table, seq, rows, counts, payload_bytes: payload.length };
    });
    const payloads = entries.map(({ payload }) => payload);
    return encodeRecord({ entries: metas, ring, dropped_seq }, payloads);
  }

  /** Throws what the system calls throw, with nothing changed. */
  private write(
    record: Buffer,
    entries: readonly SpoolInput[],
    ring: RingPosition | undefined,
    leaving?: readonly Segment[],
  ): readonly number[] {
    const seqs = this.nextSeqs(entries);
    const seq_last = this.seq_used + entries.length;
    this.writable(record.length, leaving).append(record, seq_last, this.durable);
    this.seq_used = seq_last;
    this.last_entry = { seq: seq_last, ring };
    this.stats.appended_batches += entries.length;
    for (const { rows, payload } of entries) {
      this.stats.appended_rows += rows;
      this.stats.appended_bytes += payload.length;
    }
    return seqs;
  }

  private nextSeqs(entries: readonly SpoolInput[]): readonly number[] {
    return entries.map((_, index) => this.seq_used + 1 + index);
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
  private refuse(reason: string, entries: readonly SpoolInput[]): AppendResult {
    this.countFailure(reason);
    const before = this.seq_used;
    const seqs = this.nextSeqs(entries);
    this.seq_used = before + entries.length;
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

  /** The segment to write to: a new one when the last is full, broken or about to go. Throws what open(2) throws. */
  private writable(record_bytes: number, leaving: readonly Segment[] = []): Segment {
    const active = this.segments.at(-1);
    if (active && !active.broken && !leaving.includes(active)) {
      if (active.bytes === 0 || active.bytes + record_bytes <= this.segment_bytes) return active;
    }
    const number = String(this.segment_number + 1).padStart(12, '0');
    const segment = new Segment(join(this.dir, `${number}${SUFFIX}`));
    this.segment_number++;
    this.segments.push(segment);
    return segment;
  }

  /** Drops the oldest segments until the record fits; before they go, the log says what they held. True: it did so. */
  private makeRoom(record_bytes: number): boolean {
    const ring = this.last_entry?.ring;
    const leaving: Segment[] = [];
    const entries: EntryMeta[] = [];
    let dropped_seq = this.dropped_seq;
    let notice: { readonly entry: SpoolInput; readonly record: Buffer } | undefined;
    let room = this.options.bytes_max - this.bytes() - record_bytes;
    for (const segment of this.segments) {
      if (room >= (notice?.record.length ?? 0)) break;
      room += segment.bytes;
      leaving.push(segment);
      dropped_seq = Math.max(dropped_seq, segment.seq_last);
      entries.push(...this.unsettled(segment));
      if (entries.length === 0) continue;
      const entry = this.options.notice?.(lossesOf(entries, this.sent_seq));
      if (entry) notice = { entry, record: this.encode([entry], ring, dropped_seq) };
    }
    if (leaving.length === 0) return false;
    if (notice) this.write(notice.record, [notice.entry], ring, leaving);
    // `last` must outlive the file that holds it.
    else this.state_file.write(this.state(), this.durable);
    this.dropped_seq = dropped_seq;
    this.countDropped(entries);
    for (const segment of leaving) this.remove(segment);
    return notice !== undefined;
  }

  private unsettled(segment: Segment): readonly EntryMeta[] {
    const entries: EntryMeta[] = [];
    for (let at = 0, found = segment.readMeta(0); found; found = segment.readMeta(at)) {
      at = found.end;
      entries.push(...found.meta.entries.filter(({ seq }) => seq > this.settled()));
    }
    return entries;
  }

  private countDropped(entries: readonly EntryMeta[]): void {
    this.stats.dropped_batches += entries.length;
    for (const { rows } of entries) this.stats.dropped_rows += rows;
  }

  private remove(segment: Segment): void {
    rmSync(segment.path, { force: true });
    this.segments = this.segments.filter((one) => one !== segment);
    if (this.hint?.segment === segment) this.hint = undefined;
    segment.close();
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
    if (reason === undefined) this.removeSettled();
    else this.countFailure(reason);
  }

  private removeSettled(): void {
    try {
      for (const segment of [...this.segments]) {
        if (segment.seq_last > this.settled()) break;
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

  /** Entries after `after` (default: the settled ones), oldest first, read from disk as they are asked for. */
  *pending(after: number = this.settled()): Generator<SpoolEntry> {
    let seq = Math.max(after, this.settled());
    for (;;) {
      const record = this.recordAfter(seq);
      if (!record) return;
      for (const entry of entriesOf(record)) if (entry.seq > seq) yield entry;
      seq = record.found.meta.entries.at(-1)?.seq ?? seq;
    }
  }

  private recordAfter(seq: number): ReadRecord | undefined {
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
        this.reportDamage(found.meta.entries.filter((entry) => entry.seq > seq));
      }
    }
    return undefined;
  }

  private reportDamage(entries: readonly EntryMeta[]): void {
    this.countDropped(entries);
    for (const lost of lossesOf(entries, this.sent_seq)) this.options.on_damage?.(lost);
  }

  close(): void {
    this.writeState();
    for (const segment of this.segments) segment.close();
    this.state_file.close();
    this.lock.release();
  }
}
