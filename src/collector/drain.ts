// Reads the ring and hands each record to its decoder. The cursor is ours: the kernel's position moves only when the
// pipeline says that what was read is safe (`commit`).

import { record_head } from '../../probes/layout.gen.ts';
import { RECORD_HEADER_BYTES, Ring } from '../bpf/ring.ts';

const READ_BYTES = 1 << 20;

export interface RecordSink {
  /** Called before the records of a read. */
  over(bytes: Uint8Array): void;
  /** `length` bytes at `at`; the first word is the kind. */
  record(kind: number, at: number, length: number): void;
  /** A record without room for its head. */
  bad(): void;
}

export class Drain {
  readonly #ring: Ring;
  readonly #bytes = new Uint8Array(READ_BYTES);
  readonly #words = new DataView(this.#bytes.buffer);
  readonly #sink: RecordSink;
  /** How far we have read; what lies before it and behind `committed` is in the fold, not yet safe. */
  cursor: number;
  records = 0;

  /** `cursor`: where the spool says that reading ended; the kernel's own position else. */
  constructor(fd: number, size: number, sink: RecordSink, cursor: number | undefined) {
    this.#ring = Ring.open(fd, size);
    this.#sink = sink;
    this.cursor = Math.max(this.#ring.consumerPosition, cursor ?? 0);
  }

  /** Read and not yet released to the kernel, bytes. */
  get uncommitted(): number {
    return this.cursor - this.#ring.consumerPosition;
  }

  /** Written by the kernel and not yet read, bytes. */
  get waiting(): number {
    return this.#ring.producerPosition - this.cursor;
  }

  /** How far the kernel has written. */
  get end(): number {
    return this.#ring.producerPosition;
  }

  /** Reads at most `bytes_max` bytes (and one buffer more), and no record from `end` on. True: there may be more. */
  turn(bytes_max: number, end = this.end): boolean {
    const stop = Math.min(end, this.cursor + bytes_max);
    while (this.cursor < stop) {
      const before = this.cursor;
      const room = this.#bytes.subarray(0, end - this.cursor); // `end` is between two records
      const read = this.#ring.read(this.cursor, room);
      this.#decode(read.bytes);
      this.cursor = read.cursor;
      this.records += read.records;
      if (this.cursor === before) return true; // a program is writing the next record this moment
    }
    return this.waiting > 0;
  }

  /** What was read is safe: the kernel may write there again. */
  commit(): void {
    this.#ring.commit(this.cursor);
  }

  close(): void {
    this.#ring.close();
  }

  #decode(bytes: number): void {
    this.#sink.over(this.#bytes);
    for (let at = 0; at < bytes; ) {
      const length = this.#words.getUint32(at, true);
      const record = at + RECORD_HEADER_BYTES;
      if (length < record_head.SIZE) this.#sink.bad();
      else
        this.#sink.record(this.#words.getUint32(record + record_head.kind, true), record, length);
      at = record + ((length + 7) & ~7);
    }
  }
}
