// Where the rows of an interval go. The pipeline reads on only while nothing is held back, and lets the kernel write over
// the records of rows that are safe.

import { encodeBatch } from '../table/batch.ts';
import type { Batch } from '../table/columns.ts';
import { Gather } from '../table/gather.ts';
import { type Ledger, ledgerCounts, ledgerTable } from '../table/ledger.ts';
import type { FlightSender } from '../wire/client.ts';
import type { Spool, SpoolEntry, SpoolInput } from '../wire/spool.ts';
import type { RingPosition } from '../wire/spool_state.ts';

export interface Delivery {
  /** How far rows of this ring are safe from a run before this one; undefined: none are. */
  positionOf(ring_id: string): RingPosition | undefined;
  /**
   * Takes rows, and the ledger with them as the last batch: what it says of these rows arrives with them, or neither does.
   * `safe` is called once, when they are safe. Not called while `holding`.
   */
  take(batches: readonly Batch[], ring: RingPosition, now_ms: number, safe: () => void): void;
  /** The same of an interval that goes on: its rows are made safe, and go off with those that `take` brings at its end. */
  keep(batches: readonly Batch[], ring: RingPosition, now_ms: number, safe: () => void): void;
  /** True while rows wait for room. Meanwhile nothing is read: the kernel keeps totals. */
  readonly holding: boolean;
  /** Tries again what is held. */
  retry(): void;
  /** Why rows wait; '' while all is well. */
  readonly error: string;
  /** Why the reducer takes nothing; '' while it does, or was not tried. */
  readonly unreachable: string;
  /** What had to go since the start, for want of room. */
  readonly dropped: { readonly batches: number; readonly rows: number };
  /** The folder of the spool, if it was removed while in use; else ''. */
  readonly gone: string;
  /** Rows by table that would be lost with this process now, since no disk holds them and the reducer does not yet. */
  unsaved(): ReadonlyMap<string, number>;
  /** For the report on sonde itself. */
  readonly waiting: { readonly bytes: number; readonly batches: number };
  /** Resolves when all that was taken has arrived. */
  flush(): Promise<void>;
  close(): void;
}

/** A full disk is tried again this often. */
const RETRY_MS = 1000;
/** An interval with more rows goes off in parts: to join and write them again and again would cost more than it spares. */
const OPEN_ROWS_MAX = 4096;

interface Held {
  readonly inputs: readonly SpoolInput[];
  readonly ring: RingPosition;
  readonly safe: () => void;
}

/** To a reducer: into the spool on disk, from there over the network. */
export class SpoolDelivery implements Delivery {
  readonly #spool: Spool;
  readonly #sender: FlightSender;
  readonly #ledger: Ledger;
  /** The rows of this interval that are kept so far. */
  readonly #open = new Gather();
  /** Batches that no disk took and the reducer has not stored. */
  #held: Held | undefined;
  /** By the clock that nobody sets, as all waits. */
  #retry_ms = 0;
  #closed = false;
  error = '';
  gone = '';

  constructor(spool: Spool, sender: FlightSender, ledger: Ledger) {
    this.#spool = spool;
    this.#sender = sender;
    this.#ledger = ledger;
    const left = spool.leftOpen();
    if (left === undefined) spool.forgetOpen();
    else this.#append({ inputs: left.entries, ring: left.ring, safe: () => undefined });
  }

  get holding(): boolean {
    return this.#held !== undefined;
  }

  get unreachable(): string {
    return this.#sender.stats.last_error;
  }

  get dropped(): { readonly batches: number; readonly rows: number } {
    const { dropped_batches, dropped_rows } = this.#spool.stats;
    return { batches: dropped_batches, rows: dropped_rows };
  }

  get waiting(): { readonly bytes: number; readonly batches: number } {
    const batches = (this.#spool.last()?.seq ?? 0) - this.#spool.settled();
    return { bytes: this.#spool.bytes(), batches: Math.max(0, batches) };
  }

  positionOf(ring_id: string): RingPosition | undefined {
    const last = this.#held?.ring ?? this.#spool.last()?.ring;
    return last?.ring_id === ring_id ? last : undefined;
  }

  take(batches: readonly Batch[], ring: RingPosition, now_ms: number, safe: () => void): void {
    this.#gather(batches, now_ms);
    this.#release(ring, safe);
  }

  keep(batches: readonly Batch[], ring: RingPosition, now_ms: number, safe: () => void): void {
    this.#gather(batches, now_ms);
    const is_small = this.#open.rows <= OPEN_ROWS_MAX;
    const is_safe = is_small && this.#spool.keepOpen(this.#inputs(), ring) === undefined;
    if (is_safe) safe();
    else this.#release(ring, safe);
  }

  /** The interval's rows so far, into the log. */
  #release(ring: RingPosition, safe: () => void): void {
    const inputs = this.#inputs();
    this.#open.clear();
    this.#append({ inputs, ring, safe });
    this.#look();
  }

  #inputs(): readonly SpoolInput[] {
    return this.#open.batches.map(spoolInput);
  }

  /** The rows, and the ledger with them in it; of its own rows the next one tells. */
  #gather(batches: readonly Batch[], now_ms: number): void {
    for (const batch of batches) this.#add(batch);
    const said = this.#ledger.takeDeltas(now_ms);
    if (said !== undefined) this.#add(said);
  }

  #add(batch: Batch): void {
    const { name } = batch.definition;
    const kept = this.#open.add(batch);
    this.#ledger.seen('spool', name, batch.rows);
    this.#ledger.kept('spool', name, kept);
    this.#ledger.folded('spool', name, batch.rows - kept);
  }

  unsaved(): ReadonlyMap<string, number> {
    const held = this.#held?.inputs ?? [];
    const is_gone = this.#spool.isGone();
    const spooled = is_gone ? this.#spool.pending() : [];
    const open = is_gone ? this.#open.batches : [];
    const rows = new Map<string, number>();
    const count = (table: string, more: number) => rows.set(table, (rows.get(table) ?? 0) + more);
    for (const one of [...held, ...spooled]) count(one.table, one.rows);
    for (const one of open) count(one.definition.name, one.rows);
    return rows;
  }

  #look(): void {
    this.gone = this.#spool.isGone() ? this.#spool.dir : '';
  }

  retry(): void {
    this.#look();
    if (this.#held !== undefined && performance.now() >= this.#retry_ms) this.#append(this.#held);
  }

  async flush(): Promise<void> {
    await this.#sender.flush();
  }

  close(): void {
    this.#closed = true;
    void this.#sender.close();
    this.#spool.close();
  }

  #append(held: Held): void {
    const { inputs, ring } = held;
    const result = this.#spool.appendGroup(inputs, ring);
    if (result.ok) {
      this.error = '';
      this.#safe(held);
      this.#sender.kick();
      return;
    }
    this.error = result.reason;
    this.#held = held;
    this.#retry_ms = performance.now() + RETRY_MS;
    const { seqs } = result;
    if (seqs === undefined) return; // not even a sequence could be noted: tried again
    this.#retry_ms = Number.POSITIVE_INFINITY; // under way from memory, never twice
    const entries = inputs.map((one, i): SpoolEntry => ({ ...one, seq: seqs[i]! }));
    void this.#sender.sendMemory(entries).then((stored) => {
      if (this.#closed) return; // the ring is closed too
      if (!stored) {
        this.#retry_ms = 0;
        return;
      }
      this.#spool.noteRing(ring);
      this.#safe(held);
    });
  }

  /** The rows are on disk or in the store: the kernel may write over their records. */
  #safe({ safe }: Held): void {
    this.#held = undefined;
    this.#spool.forgetOpen();
    safe();
  }
}

/** To whoever reads the batches in this process. Nothing outlives it, so nothing is written down. */
export class DirectDelivery implements Delivery {
  readonly holding = false;
  readonly error = '';
  readonly gone = '';
  readonly unreachable = '';
  readonly dropped = { batches: 0, rows: 0 };
  readonly waiting = { bytes: 0, batches: 0 };
  readonly #reader: (batch: Batch, now_ms: number) => void;
  readonly #ledger: Ledger;

  constructor(reader: (batch: Batch, now_ms: number) => void, ledger: Ledger) {
    this.#reader = reader;
    this.#ledger = ledger;
  }

  positionOf(): undefined {
    return undefined;
  }

  take(batches: readonly Batch[], _ring: RingPosition, now_ms: number, safe: () => void): void {
    for (const batch of batches) this.#give(batch, now_ms);
    const said = this.#ledger.takeDeltas(now_ms);
    if (said !== undefined) this.#give(said, now_ms);
    safe();
  }

  keep(batches: readonly Batch[], ring: RingPosition, now_ms: number, safe: () => void): void {
    this.take(batches, ring, now_ms, safe);
  }

  #give(batch: Batch, now_ms: number): void {
    this.#reader(batch, now_ms);
    const { definition, rows } = batch;
    // Seen and kept at once: rows that do not arrive take along the ledger that says so.
    this.#ledger.seen('outlet', definition.name, rows);
    this.#ledger.kept('outlet', definition.name, rows);
  }

  retry(): void {
    // holds nothing
  }

  unsaved(): ReadonlyMap<string, number> {
    return new Map();
  }

  async flush(): Promise<void> {
    // what was taken has arrived
  }

  close(): void {
    // holds nothing
  }
}

/** The batch as the spool takes it, with what the ledger must say when it is lost. */
export function spoolInput(batch: Batch): SpoolInput {
  const { name } = batch.definition;
  const counts = name === ledgerTable.name ? ledgerCounts(batch) : sums(batch);
  return { table: name, payload: encodeBatch(batch), rows: batch.rows, counts };
}

/** The sums of a batch by measure: what the ledger must say when the batch is lost. */
function sums(batch: Batch): Record<string, number> {
  const counts: Record<string, number> = {};
  batch.definition.measures.forEach((measure, i) => {
    const column = batch.measures[i];
    if (measure.fold !== 'sum' || column === undefined || !('values' in column)) return;
    counts[measure.name] = column.values.reduce((total, value) => total + value, 0);
  });
  return counts;
}
