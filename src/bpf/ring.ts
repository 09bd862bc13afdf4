// The BPF ring buffer with an explicit cursor: read, make it safe elsewhere, commit.
import { type FdHandle, native, type RingHandle } from './native.ts';

/** What stands before each payload in the buffer of `Ring.read`: u32 length, u32 zero. */
export const RECORD_HEADER_BYTES = 8;

export interface RingRead {
  /** Bytes written to the buffer. */
  readonly bytes: number;
  readonly records: number;
  /** Records that the kernel side gave up, passed over. */
  readonly discarded: number;
  /** Where the next read goes on, and what `commit` takes. */
  readonly cursor: number;
}

export interface RingOptions {
  /** Ends a `wait` from another thread. */
  readonly waker?: Waker | undefined;
}

export class Ring {
  readonly #handle: RingHandle;
  readonly size: number;

  private constructor(handle: RingHandle, size: number) {
    this.#handle = handle;
    this.size = size;
  }

  /**
   * Opens the ring of this descriptor, which is duplicated: a Worker opens by number what another thread holds.
   * `size` is the map's `maxEntries`, in bytes.
   *
   * @throws {BpfError} when the descriptor is no ring buffer of that size.
   */
  static open(fd: number, size: number, options: RingOptions = {}): Ring {
    return new Ring(native().ringOpen(fd, size, options.waker?.fd ?? -1), size);
  }

  /** Bytes since the ring was made; what lies before is free for the kernel. */
  get consumerPosition(): number {
    return native().ringPosition(this.#handle, false);
  }

  get producerPosition(): number {
    return native().ringPosition(this.#handle, true);
  }

  /**
   * Copies the finished records from `cursor` on, each as u32 length, u32 zero, payload padded to 8, and stops at
   * one that is still being written, or at the end of `into`. The kernel's position stays.
   *
   * @throws {BpfError} `ECURSOR` when `cursor` is no start of an uncommitted record; `ENOSPC` when `into` cannot hold
   * one record.
   */
  read(cursor: number, into: Uint8Array): RingRead {
    return native().ringRead(this.#handle, cursor, into);
  }

  /**
   * Frees everything before `cursor` for the kernel.
   *
   * @throws {BpfError} `ECURSOR` when `cursor` goes backwards, or beyond what was read.
   */
  commit(cursor: number): void {
    native().ringCommit(this.#handle, cursor);
  }

  /**
   * Blocks this thread, a Worker's, for up to `timeoutMs` (-1: without limit).
   *
   * `data`: returns as soon as something unread stands in the ring. Records that were read and not yet committed do
   * not count; while there are such, only a forced wake-up (BPF_RB_FORCE_WAKEUP) ends the wait early, since
   * the kernel wakes by itself only a reader that has committed everything.
   * `wakeup`: returns only for a wake-up since the last wait, whatever stands in the ring: for programs that submit
   * with BPF_RB_NO_WAKEUP and force one wake-up at a high-water mark. Read to the end after each.
   */
  wait(timeoutMs: number, until: 'data' | 'wakeup' = 'data'): 'timeout' | 'ready' | 'waker' {
    const result = native().ringWait(this.#handle, timeoutMs, until === 'wakeup');
    return result === 0 ? 'timeout' : result === 1 ? 'ready' : 'waker';
  }

  close(): void {
    native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** An eventfd that ends `Ring.wait` in another thread; the wait that it ends clears it. */
export class Waker {
  readonly #handle: FdHandle;

  private constructor(handle: FdHandle) {
    this.#handle = handle;
  }

  static open(): Waker {
    return new Waker(native().wakerOpen(-1));
  }

  /** The waker of another thread, by descriptor; it is duplicated. */
  static fromFd(fd: number): Waker {
    return new Waker(native().wakerOpen(fd));
  }

  get fd(): number {
    return native().fd(this.#handle);
  }

  wake(): void {
    native().wakerWake(this.#handle);
  }

  close(): void {
    native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
