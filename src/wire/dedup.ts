// At least once on the wire, once in the store: the highest stored sequence of each collector's table.

export interface StoredSequence {
  readonly collector_id: string;
  readonly table: string;
  readonly seq: number;
}

/** A collector sends a table's batches in ascending sequence, so one number for each table tells all. */
export class Dedup {
  /** Repeats that were acknowledged and not stored. */
  repeats = 0;
  /** Collectors forgotten for the limit's sake, the one that was silent longest first. */
  forgotten = 0;
  private readonly collectors_max: number;
  private readonly by_collector = new Map<string, Map<string, number>>();

  constructor(options: { collectors_max?: number } = {}) {
    this.collectors_max = options.collectors_max ?? 100_000;
  }

  /** At the reducer's start: what the store has. */
  seed(rows: Iterable<StoredSequence>): void {
    for (const row of rows) this.stored(row.collector_id, row.table, row.seq);
  }

  /** True when the store has it already; counts the repeat. */
  isRepeat(collector_id: string, table: string, seq: number): boolean {
    const repeat = seq <= this.highest(collector_id, table);
    if (repeat) this.repeats++;
    return repeat;
  }

  /** 0 when nothing is known. */
  highest(collector_id: string, table: string): number {
    return this.by_collector.get(collector_id)?.get(table) ?? 0;
  }

  /** After the store has it, never before. */
  stored(collector_id: string, table: string, seq: number): void {
    const tables = this.by_collector.get(collector_id) ?? new Map<string, number>();
    // Insertion order is the order of last use: the first key is the one to forget.
    this.by_collector.delete(collector_id);
    this.by_collector.set(collector_id, tables);
    tables.set(table, Math.max(seq, tables.get(table) ?? 0));
    if (this.by_collector.size <= this.collectors_max) return;
    for (const oldest of this.by_collector.keys()) {
      this.by_collector.delete(oldest);
      this.forgotten++;
      break;
    }
  }
}
