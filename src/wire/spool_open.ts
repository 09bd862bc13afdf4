// Beside the log: the rows of an interval that is not over. They are safe here while more of them come, each time as a whole
// in place of what stood before, and enter the log when the interval ends. One record of the log's form in a file of its own.

import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ReadRecord, type RecordMeta, Segment } from './spool_segment.ts';
import type { LastEntry } from './spool_state.ts';

export class OpenFile {
  readonly #path: string;

  constructor(dir: string) {
    this.#path = join(dir, 'open');
  }

  /** The record stands there in place of the former, or the former does. Throws what the system calls throw. */
  write(record: Buffer, durable: boolean): void {
    const partial = `${this.#path}.new`;
    writeFileSync(partial, record, { mode: 0o600, flush: durable });
    renameSync(partial, this.#path);
  }

  /** What a predecessor left, unless it has come into the log since. */
  read(last: LastEntry | undefined): ReadRecord | undefined {
    if (!existsSync(this.#path)) return undefined;
    const file = new Segment(this.#path);
    const record = file.readRecord(0);
    file.close();
    return record && isInLog(record.found.meta, last) ? undefined : record;
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}

/** The log took its rows when it went on from where they stood, at least as far in the ring. */
function isInLog({ entries, ring }: RecordMeta, last: LastEntry | undefined): boolean {
  const first = entries[0]?.seq ?? 0;
  if (last === undefined || last.seq < first) return false;
  if (last.ring?.ring_id !== ring?.ring_id) return true;
  return (last.ring?.cursor ?? 0) >= (ring?.cursor ?? 0);
}
