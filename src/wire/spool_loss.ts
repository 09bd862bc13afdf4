// What goes when entries leave the spool before they are stored: their sums by table, for the ledger.

import type { EntryMeta } from './spool_segment.ts';

export interface Lost {
  readonly table: string;
  readonly batches: number;
  readonly rows: number;
  /** Of `rows`: those that were on the wire already. They may be stored nevertheless; nobody can tell any more. */
  readonly rows_sent: number;
  readonly counts: Readonly<Record<string, number>>;
}

/** One for each table, in the order in which they first come. */
export function lossesOf(entries: readonly EntryMeta[], sent_seq: number): readonly Lost[] {
  const tables = new Map<string, EntryMeta[]>();
  for (const entry of entries) {
    const known = tables.get(entry.table);
    if (known === undefined) tables.set(entry.table, [entry]);
    else known.push(entry);
  }
  return [...tables].map(([table, own]) => {
    const counts: Record<string, number> = {};
    for (const entry of own) {
      for (const [name, count] of Object.entries(entry.counts)) {
        counts[name] = (counts[name] ?? 0) + count;
      }
    }
    const rows = rowsOf(own);
    const rows_sent = rowsOf(own.filter(({ seq }) => seq <= sent_seq));
    return { table, batches: own.length, rows, rows_sent, counts };
  });
}

function rowsOf(entries: readonly EntryMeta[]): number {
  return entries.reduce((sum, { rows }) => sum + rows, 0);
}
