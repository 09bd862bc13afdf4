// What the embedded store is inserting right now, on disk. The engine reads the Arrow file from here; a file that is
// still here at the next start is a batch of which nobody knows how far it got, and recovery.ts puts it right.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export interface JournalEntry {
  readonly table: string;
  readonly collector_id: string;
  readonly seq: number;
  readonly host: string;
  readonly rows: number;
  /** Names of the columns in the Arrow stream. */
  readonly columns: readonly string[];
}

export interface Journal {
  /** Writes an entry and gives the path of its Arrow file. Throws what the file system says (ENOSPC). */
  write(entry: JournalEntry, arrow: Uint8Array): string;
  arrowPath(entry: JournalEntry): string;
  remove(entry: JournalEntry): void;
  /** That somebody removed the folder, and with it the store; undefined: it is there. */
  gone(): string | undefined;
  /** Entries that a former process left, oldest first. */
  leftovers(): readonly JournalEntry[];
}

const META = '.json';
const ARROW = '.arrow';

export function openJournal(dir: string): Journal {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const stem = (entry: JournalEntry) =>
    join(dir, `${entry.table}~${entry.collector_id}~${entry.seq}`);
  const remove = (entry: JournalEntry) => {
    // The description goes first: an Arrow file alone means nothing and is swept at the next start.
    rmSync(stem(entry) + META, { force: true });
    rmSync(stem(entry) + ARROW, { force: true });
  };
  return {
    write: (entry, arrow) => {
      const path = stem(entry) + ARROW;
      try {
        writeFileSync(path, arrow, { mode: 0o600 });
        writeFileSync(`${stem(entry)}.part`, JSON.stringify(entry), { mode: 0o600 });
        renameSync(`${stem(entry)}.part`, stem(entry) + META);
      } catch (error) {
        rmSync(`${stem(entry)}.part`, { force: true });
        remove(entry);
        throw error;
      }
      return path;
    },
    arrowPath: (entry) => stem(entry) + ARROW,
    remove,
    gone: () => (existsSync(dir) ? undefined : `the folder of the store was removed: no "${dir}"`),
    leftovers: () => sweep(dir),
  };
}

function sweep(dir: string): readonly JournalEntry[] {
  const files = readdirSync(dir);
  const metas = files.filter((file) => file.endsWith(META));
  const known = new Set(metas.map((file) => file.slice(0, -META.length)));
  for (const file of files) {
    if (file.endsWith(META)) continue;
    if (file.endsWith(ARROW) && known.has(file.slice(0, -ARROW.length))) continue;
    rmSync(join(dir, file), { force: true });
  }
  // We wrote these files, and a rename put each in place whole.
  const entries = metas.map(
    (file) => JSON.parse(readFileSync(join(dir, file), 'utf8')) as JournalEntry,
  );
  return entries.sort((a, b) => a.seq - b.seq);
}
