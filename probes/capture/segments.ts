// One direction of a TCP connection, put in order by sequence number: repeats and overlaps go, what comes too early waits
// within limits, and what never comes is a hole that the reader of the stream is told of.

/** Takes the bytes in their order. */
export interface StreamReader {
  /** They are not kept by the stream: copy what is to stay. */
  bytes(bytes: Uint8Array, time_ns: number): void;
  /** `count` bytes are not here: lost on their way, or left out as beyond the limit of an exchange. */
  hole(count: number, time_ns: number, why: 'lost' | 'limit'): void;
}

/** What all streams of a collector share: the limit on what waits, and the counts. */
export class SegmentBudget {
  readonly chunks_max: number;
  readonly bytes_max: number;
  chunks = 0;
  bytes = 0;
  /** The most chunks that waited at once, the one being read among them. */
  chunks_most = 0;
  /** Chunks that were there already, whole. */
  repeats = 0;
  /** Chunks turned away because too much waited. */
  refused = 0;
  /** Chunks too far from where the stream is to belong to it. */
  strays = 0;
  holes = 0;

  constructor(chunks_max: number, bytes_max: number) {
    this.chunks_max = chunks_max;
    this.bytes_max = bytes_max;
  }

  take(bytes: number): boolean {
    if (this.chunks >= this.chunks_max || this.bytes + bytes > this.bytes_max) {
      this.refused += 1;
      return false;
    }
    this.chunks += 1;
    this.bytes += bytes;
    this.noteMost();
    return true;
  }

  noteMost(): void {
    if (this.chunks + 1 > this.chunks_most) this.chunks_most = this.chunks + 1;
  }

  give(bytes: number): void {
    this.chunks -= 1;
    this.bytes -= bytes;
  }
}

interface Waiting {
  readonly seq: number;
  readonly length: number;
  /** Undefined: the bytes are beyond the limit, and only counted. */
  readonly bytes: Uint8Array | undefined;
  readonly time_ns: number;
}

/** Of one stream; TCP's window is rarely more. */
const WAITING_CHUNKS_MAX = 1024;
/** Further ahead than any window: garbage, or another connection's. */
const AHEAD_MAX = 1 << 28;
/** So long a missing piece may be on its way; repeats take 200 ms and more. */
export const PATIENCE_NS = 3e9;

export class Segments {
  readonly #reader: StreamReader;
  readonly #budget: SegmentBudget;
  #next: number | undefined;
  /** By sequence number, none of them at `next`. */
  #waiting: Waiting[] = [];

  constructor(reader: StreamReader, budget: SegmentBudget) {
    this.#reader = reader;
    this.#budget = budget;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Where the stream begins for us; without effect once it is known. */
  begin(seq: number): void {
    this.#next ??= seq >>> 0;
  }

  /** Everything before this was read, or nothing at all was seen. */
  reached(seq: number): boolean {
    return this.#next === undefined || ((seq - this.#next) | 0) <= 0;
  }

  /** `bytes` undefined: `length` bytes that are not here. */
  push(seq: number, length: number, bytes: Uint8Array | undefined, time_ns: number): void {
    this.#next ??= seq;
    this.#budget.noteMost();
    const ahead = (seq - this.#next) | 0; // sequence numbers wrap
    if (ahead > 0) this.#keep({ seq, length, bytes, time_ns }, ahead);
    else if (-ahead >= length) this.#budget.repeats += 1;
    else {
      this.#deliver(seq, length, bytes, time_ns);
      this.#drain();
    }
  }

  /** No more will come: what waits is read over its holes. */
  finish(): void {
    while (this.#waiting.length > 0) this.#skip();
  }

  /** Gives up pieces that have been missing too long. */
  tick(now_ns: number): void {
    while (this.#waiting.length > 0 && now_ns - this.#waiting[0]!.time_ns > PATIENCE_NS) {
      this.#skip();
    }
  }

  #deliver(seq: number, length: number, bytes: Uint8Array | undefined, time_ns: number): void {
    const known = (this.#next! - seq) | 0;
    this.#next = (seq + length) >>> 0;
    if (bytes === undefined) this.#reader.hole(length - known, time_ns, 'limit');
    else this.#reader.bytes(known === 0 ? bytes : bytes.subarray(known), time_ns);
  }

  #keep(one: Waiting, ahead: number): void {
    if (ahead > AHEAD_MAX) {
      this.#budget.strays += 1;
      return;
    }
    if (this.#waiting.length >= WAITING_CHUNKS_MAX) this.#skip();
    if (!this.#budget.take(one.bytes?.length ?? 0)) return;
    const bytes = one.bytes === undefined ? undefined : new Uint8Array(one.bytes); // a copy
    let at = this.#waiting.length;
    while (at > 0 && ((this.#waiting[at - 1]!.seq - one.seq) | 0) > 0) at -= 1;
    this.#waiting.splice(at, 0, { ...one, bytes });
    this.#drain(); // a skip may have brought the stream here
  }

  #drain(): void {
    let taken = 0;
    for (const { seq, length, bytes, time_ns } of this.#waiting) {
      const ahead = (seq - this.#next!) | 0;
      if (ahead > 0) break;
      taken += 1;
      this.#budget.give(bytes?.length ?? 0);
      if (-ahead >= length) this.#budget.repeats += 1;
      else this.#deliver(seq, length, bytes, time_ns);
    }
    if (taken > 0) this.#waiting.splice(0, taken);
  }

  /** The piece before the first that waits will not come. */
  #skip(): void {
    const first = this.#waiting[0]!;
    const missing = (first.seq - this.#next!) | 0;
    this.#next = first.seq;
    this.#budget.holes += 1;
    this.#reader.hole(missing, first.time_ns, 'lost');
    this.#drain();
  }
}
