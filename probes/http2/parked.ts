// What came before its connection: on the listening socket (TCP_DEFER_ACCEPT; data with the last step of the handshake, or
// after its loss), kept by the connection's ends until its own socket has data; or before the first segment, kept by the
// socket's cookie until the preface comes, which of most protocols none does.

import { http2_flag } from '../layout.gen.ts';
import type { Piece } from './order.ts';

const CONNECTIONS_MAX = 1024;
const PIECES_MAX = 64;
/** A client that waits for no answer longer than this is gone. */
const WAIT_MS = 60_000;

interface Waiting {
  readonly pieces: Piece[];
  readonly since_ms: number;
}

export function begins(piece: Piece): boolean {
  return (piece.flags & http2_flag.HTTP2_BEGIN) !== 0;
}

export class Parked {
  readonly #waiting = new Map<string, Waiting>();
  readonly #unclaimed: () => void;

  /** `unclaimed` is called for each connection that is let go, if it is known to speak HTTP/2. */
  constructor(unclaimed: () => void) {
    this.#unclaimed = unclaimed;
  }

  get connections(): number {
    return this.#waiting.size;
  }

  /** Copies the piece's bytes. One that begins a connection makes what its key had before void. */
  add(key: string, piece: Piece, now_ms: number): void {
    if (begins(piece)) this.#letGo(key);
    const waiting = this.#waiting.get(key) ?? { pieces: [], since_ms: now_ms };
    if (waiting.pieces.length >= PIECES_MAX) {
      this.#letGo(key);
      return;
    }
    waiting.pieces.push({ ...piece, bytes: Uint8Array.from(piece.bytes) });
    this.#waiting.set(key, waiting);
    if (this.#waiting.size > CONNECTIONS_MAX) this.#letGoOldest();
  }

  /** What came of the connection, in its order; it is the caller's now. */
  take(key: string): readonly Piece[] {
    const pieces = this.#waiting.get(key)?.pieces ?? [];
    this.#waiting.delete(key);
    return pieces;
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
