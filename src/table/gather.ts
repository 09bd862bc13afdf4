// Batches of one table that came one after another, as one: what an interval closes in several parts has one row for each
// key in the end, as if it had closed once.

import type { Batch } from './columns.ts';
import type { TableDefinition } from './definition.ts';
import { Fold } from './fold.ts';
import { mergeBatch } from './merge.ts';

export class Gather {
  readonly #batches = new Map<TableDefinition, Batch>();

  get rows(): number {
    let rows = 0;
    for (const batch of this.#batches.values()) rows += batch.rows;
    return rows;
  }

  /** How many rows it brought that were not there; the others joined those with their key. */
  add(batch: Batch): number {
    const { definition } = batch;
    const known = this.#batches.get(definition);
    const all = known === undefined ? batch : joined(known, batch);
    this.#batches.set(definition, all);
    return all.rows - (known?.rows ?? 0);
  }

  /** One a table, in the order in which the tables came first. */
  get batches(): readonly Batch[] {
    return [...this.#batches.values()];
  }

  clear(): void {
    this.#batches.clear();
  }
}

function joined(a: Batch, b: Batch): Batch {
  const fold = new Fold(a.definition, { rows_max: a.rows + b.rows });
  mergeBatch(fold, a);
  mergeBatch(fold, b);
  // Neither is empty, so neither is the fold.
  return fold.close(b.times_ms[0] ?? 0) ?? b;
}
