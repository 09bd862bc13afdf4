// One side of a connection, in order: pieces that are missing within a large value are not waited for.

import { type SegmentBudget, Segments } from '../capture/segments.ts';

export interface SideReader {
  bytes(bytes: Uint8Array, time_ns: number): void;
  /** `count` bytes are not here. */
  missed(count: number, time_ns: number): void;
  /** So many of the next bytes may be missing. */
  skippable(): number;
}

export class Side {
  readonly #segments: Segments;
  readonly #reader: SideReader;
  /** Sequence number of the first byte that was not read yet. */
  #next: number | undefined;

  constructor(reader: SideReader, budget: SegmentBudget) {
    this.#reader = reader;
    this.#segments = new Segments(
      {
        bytes: (bytes, time_ns) => {
          this.#next = (this.#next! + bytes.length) >>> 0;
          reader.bytes(bytes, time_ns);
        },
        hole: (count, time_ns) => {
          this.#next = (this.#next! + count) >>> 0;
          reader.missed(count, time_ns);
        },
      },
      budget,
    );
  }

  /** Where the stream begins for us; without effect once it is known. */
  begin(seq: number): void {
    this.#next ??= seq >>> 0;
    this.#segments.begin(seq);
  }

  /** `bytes` may be fewer than `length`: the others are not here. */
  push(seq: number, length: number, bytes: Uint8Array, time_ns: number): void {
    this.#next ??= seq;
    const ahead = (seq - this.#next) | 0; // sequence numbers wrap
    if (ahead > 0 && ahead <= this.#reader.skippable())
      this.#segments.push(this.#next, ahead, undefined, time_ns);
    const here = bytes.length;
    if (here > 0) this.#segments.push(seq, here, bytes, time_ns);
    if (here < length) this.#segments.push((seq + here) >>> 0, length - here, undefined, time_ns);
  }

  finish(): void {
    this.#segments.finish();
  }

  tick(now_ns: number): void {
    this.#segments.tick(now_ns);
  }
}
