// Records of one direction of a connection in the order of its bytes. The kernel side reports packets as they come; where
// one came before another, it says so (HTTP2_HOLE), and what is behind the hole waits here.

import { http2_flag } from '../layout.gen.ts';

const { HTTP2_RAW, HTTP2_HOLE } = http2_flag;
/** Records that wait, of one direction; and their bytes. */
const WAITING_MAX = 8192;
const WAITING_BYTES_MAX = 1 << 20;

export interface Piece {
  readonly flags: number;
  /** Sequence numbers: of its first byte, and of the one behind its last. */
  readonly from: number;
  readonly to: number;
  readonly skip: number;
  readonly now_ns: number;
  readonly bytes: Uint8Array;
}

/** What takes pieces in order. `follows`: nothing is missing before it. */
export type TakePiece = (piece: Piece, follows: boolean) => void;

export class Order {
  readonly #take: TakePiece;
  #to: number | undefined;
  /** Where the bytes taken as they are begin, that end at `#to`; the same: none do. */
  #raw_from = 0;
  #waiting: Piece[] = [];
  #bytes = 0;
  /** Records that came before their turn. */
  reordered = 0;

  constructor(take: TakePiece) {
    this.#take = take;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  add(piece: Piece): void {
    const is_late = (piece.flags & HTTP2_HOLE) !== 0;
    const is_raw = (piece.flags & HTTP2_RAW) !== 0;
    const ahead = this.#to === undefined ? 0 : (piece.from - this.#to) | 0;
    // Bytes that come before anything else wait for the begin.
    if (is_late && (ahead > 0 || (is_raw && this.#to === undefined))) {
      this.#keep(piece);
      return;
    }
    if (ahead < 0) this.#behind(piece, -ahead);
    else this.#next(piece);
    this.#drain();
  }

  /** What waits is taken as it is: what it waits for will not come. */
  giveUp(): void {
    const waiting = this.#waiting.sort((a, b) => (a.from - b.from) | 0);
    this.#waiting = [];
    this.#bytes = 0;
    for (const piece of waiting) {
      const ahead = this.#to === undefined ? 0 : (piece.from - this.#to) | 0;
      if (ahead < 0) this.#behind(piece, -ahead);
      else this.#next(piece);
    }
  }

  #next(piece: Piece): void {
    const follows = this.#to === undefined || piece.from === this.#to;
    const is_raw = (piece.flags & HTTP2_RAW) !== 0;
    if (!is_raw) this.#raw_from = piece.to;
    else if (!follows || this.#to === undefined) this.#raw_from = piece.from;
    this.#to = piece.to;
    this.#take(piece, follows);
  }

  /**
   * Begins with what is known: bytes as they are can be cut, a digest of frames cannot. A digest that begins within bytes taken
   * as they are tells of those behind them, or of none: the kernel side did not see those itself, and what it leaves out
   * between is payload.
   */
  #behind(piece: Piece, known: number): void {
    const to = this.#to!; // set by what is known
    if (piece.flags & HTTP2_RAW) {
      if (known >= piece.bytes.length) return;
      this.#next({ ...piece, from: to, bytes: piece.bytes.subarray(known) });
    } else if (((piece.from - this.#raw_from) | 0) < 0) this.#next(piece);
    else if (((piece.to - to) | 0) > 0) this.#next({ ...piece, from: to });
  }

  #keep(piece: Piece): void {
    this.reordered += 1;
    this.#bytes += piece.bytes.length;
    this.#waiting.push({ ...piece, bytes: Uint8Array.from(piece.bytes) });
    if (this.#waiting.length > WAITING_MAX || this.#bytes > WAITING_BYTES_MAX) this.giveUp();
  }

  #drain(): void {
    for (let i = 0; i < this.#waiting.length; i += 1) {
      const piece = this.#waiting[i]!;
      const ahead = (piece.from - this.#to!) | 0; // set by the first piece
      if (ahead > 0) continue;
      this.#waiting.splice(i, 1);
      this.#bytes -= piece.bytes.length;
      if (ahead < 0) this.#behind(piece, -ahead);
      else this.#next(piece);
      i = -1; // another may follow it
    }
  }
}
