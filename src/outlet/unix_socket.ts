// Lines to a reader behind a Unix socket. The reader may be absent, come later, stop reading or go: what waits for it has a
// limit in lines and in bytes, what comes then is dropped and counted, and nobody who sends ever waits.

import { connect, type Socket } from 'node:net';
import type { LineOutlet, OutletCounts } from '../table/outlet.ts';

export interface UnixSocketOptions {
  readonly path: string;
  readonly lines_max: number;
  readonly bytes_max: number;
  /** Between attempts to connect, milliseconds. */
  readonly retry_ms?: number;
  /** Told once for each change, for the log. */
  readonly on_state?: (state: 'connected' | 'disconnected', reason: string) => void;
}

const RETRY_MS = 1000;
/** Lines are written together up to this: one system call. */
const WRITE_BYTES = 256 << 10;

export class UnixSocketOutlet implements LineOutlet {
  readonly #options: UnixSocketOptions;
  #queue: Buffer[] = [];
  /** Of `#queue`; what is before it was written. */
  #head = 0;
  #queue_bytes = 0;
  #seen = 0;
  #sent = 0;
  #full = 0;
  #broken = 0;
  #left = 0;
  #socket: Socket | undefined;
  #connected = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #state = '';
  /** Lines given to the socket whose write has not been confirmed: lost where it breaks. */
  #under_way = 0;

  constructor(options: UnixSocketOptions) {
    this.#options = options;
    this.#connect();
  }

  get counts(): OutletCounts {
    const waiting = this.#queue.length - this.#head + this.#under_way;
    return {
      seen: this.#seen,
      sent: this.#sent,
      dropped: { queue_full: this.#full, reader_gone: this.#broken, stopped: this.#left },
      waiting,
    };
  }

  send(line: string): boolean {
    this.#seen += 1;
    if (this.#closed) {
      this.#left += 1;
      return false;
    }
    const bytes = Buffer.from(`${line}\n`);
    const { lines_max, bytes_max } = this.#options;
    const lines = this.#queue.length - this.#head + this.#under_way;
    if (lines >= lines_max || this.#queue_bytes + bytes.length > bytes_max) {
      this.#full += 1;
      return false;
    }
    this.#queue.push(bytes);
    this.#queue_bytes += bytes.length;
    this.#write();
    return true;
  }

  /** Waits until the reader has what waits, `wait_ms` at most; the rest is counted as dropped. */
  async close(wait_ms: number): Promise<void> {
    const end = performance.now() + wait_ms;
    while (this.#connected && this.counts.waiting > 0 && performance.now() < end) {
      await new Promise((done) => setTimeout(done, 10));
    }
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#left += this.#queue.length - this.#head;
    this.#queue = [];
    this.#head = 0;
    const socket = this.#socket;
    if (socket === undefined) return;
    const gone = new Promise((done) => socket.once('close', done));
    if (this.#under_way === 0 && this.#connected) socket.end();
    else socket.destroy();
    setTimeout(() => socket.destroy(), 100).unref();
    await gone;
  }

  #connect(): void {
    const socket = connect({ path: this.#options.path });
    this.#socket = socket;
    let reason = 'closed by the reader';
    socket.unref();
    socket.on('connect', () => {
      this.#connected = true;
      this.#tell('connected', '');
      this.#write();
    });
    socket.on('error', (error) => {
      reason = error.message;
    });
    socket.resume(); // a reader that talks back is not listened to
    socket.on('close', () => this.#lost(reason));
  }

  #lost(reason: string): void {
    this.#connected = false;
    this.#socket = undefined;
    this.#broken += this.#under_way; // whether the reader had them cannot be known
    this.#under_way = 0;
    this.#tell('disconnected', reason);
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.#connect(), this.#options.retry_ms ?? RETRY_MS);
    this.#timer.unref();
  }

  /** One write at a time: the next waits until the kernel has taken this one. */
  #write(): void {
    const socket = this.#socket;
    if (!this.#connected || this.#under_way > 0 || socket === undefined) return;
    const parts: Buffer[] = [];
    let bytes = 0;
    while (this.#head < this.#queue.length && bytes < WRITE_BYTES) {
      const one = this.#queue[this.#head]!;
      this.#head += 1;
      parts.push(one);
      bytes += one.length;
    }
    if (parts.length === 0) return;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    } else if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
    this.#under_way = parts.length;
    socket.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts), (error) => {
      this.#queue_bytes -= bytes;
      if (error) return; // `close` follows, and counts the lines
      this.#sent += this.#under_way;
      this.#under_way = 0;
      this.#write();
    });
  }

  #tell(state: 'connected' | 'disconnected', reason: string): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.on_state?.(state, reason);
  }
}
