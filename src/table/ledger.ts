// The conservation ledger: what came to each stage and what became of it. It is itself a table, so that it travels,
// is stored and is asked like every other. A sonde that lost nothing can show it; one that lost something says how
// much, where and why.

import { type Batch, isStringColumn } from './columns.ts';
import { defineTable } from './definition.ts';
import { Fold, type FoldCounts } from './fold.ts';

/** The stages of the path, in its order. */
export const STAGES = [
  'kernel',
  'ring',
  'decode',
  'fold',
  'filter',
  'spool',
  'wire',
  'intake',
  'store',
  'outlet',
] as const;
export type Stage = (typeof STAGES)[number];

export const OUTCOMES = ['seen', 'kept', 'folded', 'sampled', 'dropped'] as const;
export type Outcome = (typeof OUTCOMES)[number];

export const ledgerTable = defineTable({
  name: 'sonde_ledger',
  help: 'What became of every record: seen = kept + folded + sampled + dropped, at each stage',
  kind: 'fold',
  rows_max: 4096,
  dimensions: [
    { name: 'stage', type: 'string', help: 'Step of the path', values: STAGES },
    { name: 'table', type: 'string', help: 'Table that the records belong to' },
    { name: 'outcome', type: 'string', help: 'What became of them', values: OUTCOMES },
    { name: 'reason', type: 'string', help: 'Why they were dropped or sampled, else empty' },
  ],
  measures: [{ name: 'count', type: 'u64', unit: '1', fold: 'sum', help: 'Records' }],
});

export interface LedgerRow {
  readonly stage: Stage;
  readonly table: string;
  readonly outcome: Outcome;
  readonly reason: string;
  readonly count: number;
}

export interface LedgerBalance {
  readonly stage: Stage;
  readonly table: string;
  readonly seen: number;
  /** kept + folded + sampled + dropped */
  readonly accounted: number;
  /** seen - accounted: positive if records vanished, negative if some were counted twice. */
  readonly difference: number;
}

interface Account {
  readonly stage: Stage;
  readonly table: string;
  readonly outcome: Outcome;
  readonly reason: string;
  count: number;
  taken: number;
}

/** Between the parts of an account's name. */
const SEPARATOR = '\n';
/** Distinct reasons times tables times stages; what comes after is booked as table and reason `<other>`. */
const ACCOUNTS_MAX = 4096;

/** One per process or thread; others' ledgers come as batches, not here. Called once a batch, not once a record. */
export class Ledger {
  readonly #accounts = new Map<string, Account>();

  seen(stage: Stage, table: string, count: number): void {
    this.add(stage, table, 'seen', '', count);
  }

  kept(stage: Stage, table: string, count: number): void {
    this.add(stage, table, 'kept', '', count);
  }

  folded(stage: Stage, table: string, count: number): void {
    this.add(stage, table, 'folded', '', count);
  }

  sampled(stage: Stage, table: string, count: number): void {
    this.add(stage, table, 'sampled', '', count);
  }

  /** The reason is a short snake_case word from a closed set, never a message. */
  dropped(stage: Stage, table: string, reason: string, count: number): void {
    this.add(stage, table, 'dropped', reason, count);
  }

  add(stage: Stage, table: string, outcome: Outcome, reason: string, count: number): void {
    if (!(count >= 0 && Number.isSafeInteger(count))) {
      throw new Error(`ledger: ${count} is no count of ${outcome} at ${stage} of "${table}"`);
    }
    if (count > 0) this.#account(stage, table, outcome, reason).count += count;
  }

  /** All counts since the start. */
  rows(): readonly LedgerRow[] {
    return [...this.#accounts.values()].map(({ taken: _, ...row }) => row);
  }

  /** Stages and tables whose identity does not hold; none, where nothing is under way. */
  imbalance(): readonly LedgerBalance[] {
    return balance(this.rows()).filter(({ difference }) => difference !== 0);
  }

  /** What changed since the last call, as a batch of `sonde_ledger`; undefined if nothing did. */
  takeDeltas(time_ms: number): Batch | undefined {
    const fold = new Fold(ledgerTable);
    const dims = new Float64Array(4);
    const measures = new Float64Array(1);
    for (const account of this.#accounts.values()) {
      const delta = account.count - account.taken;
      if (delta === 0) continue;
      account.taken = account.count;
      dims[0] = fold.intern(account.stage);
      dims[1] = fold.intern(account.table);
      dims[2] = fold.intern(account.outcome);
      dims[3] = fold.intern(account.reason);
      measures[0] = delta;
      fold.add(dims, measures);
    }
    return fold.close(time_ms);
  }

  /** What a batch of `takeDeltas` said (its `ledgerCounts`) did not arrive: it is said again with the next. */
  giveBack(counts: Readonly<Record<string, number>>): void {
    for (const [key, count] of Object.entries(counts)) {
      const [stage, table, outcome, reason] = key.split(SEPARATOR);
      // Keys are our own, perhaps of a predecessor's spool.
      this.#account(stage as Stage, table ?? '', outcome as Outcome, reason ?? '').taken -= count;
    }
  }

  #account(stage: Stage, table: string, outcome: Outcome, reason: string): Account {
    const key = [stage, table, outcome, reason].join(SEPARATOR);
    const known = this.#accounts.get(key);
    if (known !== undefined) return known;
    const other = '<other>';
    if (this.#accounts.size >= ACCOUNTS_MAX && table !== other) {
      return this.#account(stage, other, outcome, reason === '' ? '' : other);
    }
    const account = { stage, table, outcome, reason, count: 0, taken: 0 };
    this.#accounts.set(key, account);
    return account;
  }
}

/** A batch of `sonde_ledger` as one count for each account, for `giveBack`. */
export function ledgerCounts(batch: Batch): Readonly<Record<string, number>> {
  const count = batch.measures[0];
  if (count === undefined || !('values' in count))
    throw new Error('ledger: a batch without counts');
  const texts = (row: number) =>
    batch.dimensions.map((column) =>
      isStringColumn(column) ? column.dictionary[column.ids[row]!]! : '',
    );
  const keys = Array.from({ length: batch.rows }, (_, row) => texts(row).join(SEPARATOR));
  return Object.fromEntries(keys.map((key, row) => [key, count.values[row]!]));
}

/** Sums per stage and table, in the order in which they first come. */
export function balance(rows: Iterable<LedgerRow>): readonly LedgerBalance[] {
  const sums = new Map<string, { stage: Stage; table: string; seen: number; accounted: number }>();
  for (const { stage, table, outcome, count } of rows) {
    const key = `${stage}\n${table}`;
    const sum = sums.get(key) ?? { stage, table, seen: 0, accounted: 0 };
    sums.set(key, sum);
    if (outcome === 'seen') sum.seen += count;
    else sum.accounted += count;
  }
  return [...sums.values()].map((sum) => ({ ...sum, difference: sum.seen - sum.accounted }));
}

/**
 * Books what a fold did since `before` (its `counts` then, undefined for the start). Right after `close`, when the
 * fold is empty, the identity holds.
 */
export function bookFold(ledger: Ledger, fold: Fold, before?: FoldCounts): FoldCounts {
  const { counts } = fold;
  const { name } = fold.definition;
  ledger.seen('fold', name, counts.added - (before?.added ?? 0));
  ledger.kept('fold', name, counts.closed - (before?.closed ?? 0));
  ledger.folded('fold', name, counts.folded - (before?.folded ?? 0));
  ledger.dropped('fold', name, 'rows_max', counts.dropped - (before?.dropped ?? 0));
  return counts;
}
