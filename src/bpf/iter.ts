// Iterators: a program of type iter/… that the kernel runs once for each object when a pass is read.
import { BpfError } from './error.ts';
import type { BpfLink } from './link.ts';
import { type FdHandle, native } from './native.ts';

/** What `drainText` reads at most, unless told otherwise. */
const TEXT_BYTES_MAX = 16 * 1024 * 1024;
const TEXT_CHUNK_BYTES = 64 * 1024;

export class BpfIter {
  readonly #link: BpfLink;

  /** Over the link of an attached iterator, also one re-opened from a pin; the link stays the caller's. */
  constructor(link: BpfLink) {
    if (link.info().typeName !== 'iter') {
      throw new BpfError('The link is not of an iterator', { code: 'EARGUMENT' });
    }
    this.#link = link;
  }

  /**
   * One full pass into `into`; the number of bytes written.
   *
   * @throws {BpfError} `ENOSPC` when the pass has more bytes than `into`.
   */
  run(into: Uint8Array): number {
    using pass = this.pass();
    const bytes = pass.read(into);
    if (bytes === into.length && pass.read(new Uint8Array(8)) > 0) {
      throw new BpfError(`The pass has more than ${into.length} bytes`, { code: 'ENOSPC' });
    }
    return bytes;
  }

  /** One full pass as text, for iterators that print. */
  drainText(bytes_max: number = TEXT_BYTES_MAX): string {
    using pass = this.pass();
    const chunk = Buffer.alloc(Math.min(TEXT_CHUNK_BYTES, bytes_max));
    const parts: Buffer[] = [];
    let total = 0;
    for (;;) {
      const bytes = pass.read(chunk);
      total += bytes;
      if (total > bytes_max) {
        throw new BpfError(`The pass has more than ${bytes_max} bytes`, { code: 'ENOSPC' });
      }
      parts.push(Buffer.from(chunk.subarray(0, bytes)));
      if (bytes < chunk.length) return Buffer.concat(parts).toString('utf8');
    }
  }

  /** A pass to be read piece by piece, for what is too large to hold at once. */
  pass(): IterPass {
    return new IterPass(native().iterOpen(this.#link.handle));
  }
}

export class IterPass {
  readonly #handle: FdHandle;

  constructor(handle: FdHandle) {
    this.#handle = handle;
  }

  /**
   * Fills `into`; fewer bytes than it holds only at the end of the pass, 0 after it. Records of a fixed size are
   * never split when the buffer is a multiple of it.
   */
  read(into: Uint8Array): number {
    return native().iterRead(this.#handle, into);
  }

  close(): void {
    native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
