// Links: an attachment that lives as long as its handle, its pin, or both.
import { unlinkSync } from 'node:fs';
import { BpfError } from './error.ts';
import { type LinkHandle, native } from './native.ts';

export interface LinkInfo {
  /** The kernel's number of the link; 0 for an attachment without one (perf events before 5.15). */
  readonly id: number;
  /** `cgroup`, `iter`, `tracing`, `raw_tracepoint`, `perf_event`, … or `none`. */
  readonly typeName: string;
  /** The kernel's number of the attached program. */
  readonly programId: number;
}

export class BpfLink {
  readonly #handle: LinkHandle;
  readonly #pins = new Set<string>();

  constructor(handle: LinkHandle) {
    this.#handle = handle;
  }

  /** Opens the link pinned at `path`, also one that another process made. */
  static openPinned(path: string): BpfLink {
    const link = new BpfLink(native().openPinned(path, 'link'));
    link.#pins.add(path);
    return link;
  }

  get fd(): number {
    return native().fd(this.#handle);
  }

  get handle(): LinkHandle {
    return this.#handle;
  }

  info(): LinkInfo {
    const { id, typeName, programId } = native().linkInfo(this.#handle);
    return { id, typeName, programId };
  }

  get programId(): number {
    return this.info().programId;
  }

  /** Keeps the attachment beyond this process, at a path of a mounted bpffs. */
  pin(path: string): void {
    native().pin(this.#handle, path);
    this.#pins.add(path);
  }

  /** Removes the pins made or opened through this object; the attachment then ends with `close`. */
  unpin(): void {
    for (const path of this.#pins) removePin(path);
    this.#pins.clear();
    native().linkSetPinned(this.#handle, false);
  }

  /** Detaches, unless a pin or another descriptor holds the link. A second call does nothing. */
  close(): void {
    native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Removes a pin; one that is not there is no error. */
export function removePin(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
    throw new BpfError(`Cannot remove the pin '${path}'`, { code: 'EPIN', log: String(error) });
  }
}
