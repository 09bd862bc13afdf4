// Beside the log: the rows of an interval that is not over. They are safe here while more of them come, each time as a whole
// in place of what stood before, and enter the log when the interval ends. One record of the log's form in a file of its own.

import {
  closeSync,
  existsSync,
  fdatasyncSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type RecordMeta, Segment } from './spool_segment.ts';
import type { LastEntry } from './spool_state.ts';

export interface FoundOpen {
  readonly meta: RecordMeta;
  readonly payloads: Buffer;
}

export class OpenFile {
  readonly #path: string;
  /** Unknown at the start: a predecessor may have left one. */
  #is_there: boolean;

  constructor(dir: string) {
    this.#path = join(dir, 'open');
    this.#is_there = existsSync(this.#path);
  }

  /** The record stands there in place of the former, or the former does. Throws what the system calls throw. */
  write(record: Buffer, durable: boolean): void {
    const partial = `${this.#path}.new`;
    const fd = openSync(partial, 'w', 0o600);
    try {
      writeFileSync(fd, record);
      if (durable) fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(partial, this.#path);
    this.#is_there = true;
  }

  /** What a predecessor left, unless it has come into the log since. */
  read(last: LastEntry | undefined): FoundOpen | undefined {
    if (!this.#is_there) return undefined;
    const file = new Segment(this.#path);
    const record = file.readRecord(0);
    file.close();
    if (record === undefined || isInLog(record.found.meta, last)) return undefined;
    return { meta: record.found.meta, payloads: record.payloads };
  }

  remove(): void {
    if (!this.#is_there) return;
    rmSync(this.#path, { force: true });
    this.#is_there = false;
  }
}

/** The log took its rows when it went on from where they stood, at least as far in the ring. */
function isInLog({ entries, ring }: RecordMeta, last: LastEntry | undefined): boolean {
  const first = entries[0]?.seq ?? 0;
  if (last === undefined || last.seq < first) return false;
  if (last.ring?.ring_id !== ring?.ring_id) return true;
  return (last.ring?.cursor ?? 0) >= (ring?.cursor ?? 0);
}
