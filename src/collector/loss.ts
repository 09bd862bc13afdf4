// Batches that are gone after they left the fold: what they held goes into the ledger, rows and each sum of theirs.

import type { Batch } from '../table/columns.ts';
import { Ledger, ledgerTable } from '../table/ledger.ts';

export interface LostRows {
  readonly table: string;
  readonly rows: number;
  /** By measure; of `sonde_ledger`: by account. */
  readonly counts: Readonly<Record<string, number>>;
}

/** The ledger's own batches are not lost: what they said is said again. */
export function bookLost(ledger: Ledger, { table, rows, counts }: LostRows, reason: string): void {
  ledger.seen('wire', table, rows);
  if (table === ledgerTable.name) {
    ledger.folded('wire', table, rows);
    ledger.giveBack(counts);
    return;
  }
  ledger.dropped('wire', table, reason, rows);
  for (const [measure, sum] of Object.entries(counts)) {
    const what = `${table}.${measure}`;
    ledger.seen('wire', what, Math.round(sum));
    ledger.dropped('wire', what, reason, Math.round(sum));
  }
}

/** The same as a ledger of its own, for what is in no other: a spool that must drop batches takes it in their place. */
export function lossBatch(
  lost: readonly LostRows[],
  reason: string,
  now_ms: number,
): Batch | undefined {
  const ledger = new Ledger();
  for (const one of lost) bookLost(ledger, one, reason);
  return ledger.takeDeltas(now_ms);
}
