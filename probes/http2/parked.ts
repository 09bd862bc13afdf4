// What came before its connection: on the listening socket (TCP_DEFER_ACCEPT; data with the last step of the handshake, or
// after its loss), kept by the connection's ends until its own socket has data; or before the first segment, kept by the
// socket's cookie until the preface comes, which of most protocols none does.

import { http2_flag } from '../layout.gen.ts';
import type { Piece } from './order.ts';

const CONNECTIONS_MAX = 1024;
/** Of all together: what comes may be anybody's. The oldest make room. */
const BYTES_MAX = 8 << 20;
/** Of a piece besides its own bytes. */
const PIECE_BYTES = 256;
/** A client that waits for no answer longer than this is gone. */
const WAIT_MS = 60_000;

interface Waiting {
  readonly pieces: Piece[];
  readonly since_ms: number;
  bytes: number;
}

export function begins(piece: Piece): boolean {
  return (piece.flags & http2_flag.HTTP2_BEGIN) !== 0;
}

export class Parked {
  readonly #waiting = new Map<string, Waiting>();
  readonly #unclaimed: () => void;
  #bytes = 0;

  /** `unclaimed` is called for each connection that is let go, if it is known to speak HTTP/2. */
  constructor(unclaimed: () => void) {
    this.#unclaimed = unclaimed;
  }

  get connections(): number {
    return this.#waiting.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Copies the piece's bytes. One that begins a connection makes what its key had before void. */
  add(key: string, piece: Piece, now_ms: number): void {
    if (begins(piece)) this.#letGo(key);
    const waiting = this.#waiting.get(key) ?? { pieces: [], since_ms: now_ms, bytes: 0 };
    const size = PIECE_BYTES + piece.bytes.length;
    waiting.pieces.push({ ...piece, bytes: Uint8Array.from(piece.bytes) });
    waiting.bytes += size;
    this.#bytes += size;
    this.#waiting.set(key, waiting);
    while (this.#waiting.size > CONNECTIONS_MAX || this.#bytes > BYTES_MAX) this.#letGoOldest();
  }

  /** What came of the connection, in its order; it is the caller's now. */
  take(key: string): readonly Piece[] {
    const waiting = this.#waiting.get(key);
    if (waiting === undefined) return [];
    this.#waiting.delete(key);
    this.#bytes -= waiting.bytes;
    return waiting.pieces;
  }

  tick(now_ms: number): void {
    for (const [key, { since_ms }] of this.#waiting) {
      if (now_ms - since_ms < WAIT_MS) return; // the rest is younger
      this.#letGo(key);
    }
  }

  #letGo(key: string): void {
    if (this.take(key).some(begins)) this.#unclaimed();
  }

  #letGoOldest(): void {
    for (const key of this.#waiting.keys()) {
      this.#letGo(key);
      return;
    }
  }
}
