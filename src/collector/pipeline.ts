// Ring → rows → batches → spool, in turns. One turn reads what waits; at the end of an interval, or when much was read
// and is not yet safe, the fold closes and goes to the spool together with the ring's cursor; then the ring is released.

import { kernel_count } from '../../probes/layout.gen.ts';
import { encodeBatch } from '../table/batch.ts';
import type { Batch } from '../table/columns.ts';
import { type Ledger, ledgerCounts, ledgerTable } from '../table/ledger.ts';
import type { FlightSender } from '../wire/client.ts';
import type { Spool, SpoolEntry, SpoolInput } from '../wire/spool.ts';
import type { Decode, DecodeTotals } from './decode.ts';
import { Drain } from './drain.ts';
import type { Kernel } from './kernel.ts';
import { KernelCounts } from './kernel_counts.ts';

/** A turn reads this much of the ring; the rest waits for the next, so that one turn stays short. */
const TURN_BYTES = 4 << 20;
/** With this share of the ring read and not safe, the interval's rows so far go to the spool. */
const UNCOMMITTED_SHARE = 4;
/** A full disk is tried again this often. */
const RETRY_MS = 1000;

export interface PipelineOptions {
  readonly kernel: Kernel;
  readonly spool: Spool;
  readonly sender: FlightSender;
  readonly decode: Decode;
  readonly ledger: Ledger;
  readonly ring_id: string;
  /** More tables of this moment, to go with the interval's: self-metrics. */
  readonly extra: (now_ms: number) => readonly Batch[];
}

export class Pipeline {
  readonly drain: Drain;
  readonly #options: PipelineOptions;
  readonly #decode: Decode;
  readonly #counts: KernelCounts;
  readonly #ring_bytes: number;
  /** Batches that no disk took and the reducer has not stored. Meanwhile nothing is read: the kernel keeps totals. */
  #held: readonly SpoolInput[] = [];
  #retry_ms = 0;
  /** Why the last append failed, '' while all is well. */
  disk_error = '';

  constructor(options: PipelineOptions) {
    this.#options = options;
    const { kernel, spool, decode, ring_id } = options;
    this.#decode = decode;
    this.#ring_bytes = kernel.ring.maxEntries;
    const last = spool.last()?.ring;
    const cursor = last?.ring_id === ring_id ? last.cursor : undefined;
    this.drain = new Drain(kernel.ring.fd, this.#ring_bytes, decode, cursor);
    this.#counts = new KernelCounts(kernel.counts, options.ledger);
  }

  /** Reads what waits, within a bound. True: more waits. */
  turn(now_ms: number): boolean {
    if (this.#held.length > 0) this.#retry(now_ms);
    if (this.#held.length > 0) return false;
    this.#decode.now_ms = now_ms;
    const more = this.drain.turn(TURN_BYTES);
    const share = this.#ring_bytes / UNCOMMITTED_SHARE;
    if (this.drain.uncommitted > share) this.#release(now_ms, false);
    return more;
  }

  /** Everything that the kernel has reported until now, as rows in the spool. */
  flushAll(now_ms: number): void {
    // Until now, not until empty: under load that never comes, and meanwhile nothing would be sent.
    const end = this.drain.cursor + this.drain.waiting;
    while (this.turn(now_ms) && this.drain.cursor < end) {
      // the next part
    }
    this.flush(now_ms);
  }

  /** Closes the rows so far and makes them safe; then the kernel may write over their records. */
  flush(now_ms: number): void {
    this.#release(now_ms, true);
  }

  /** `whole`: with self-report and ledger, which need not come more often than the interval does. */
  #release(now_ms: number, whole: boolean): void {
    if (this.#held.length > 0) return;
    const inputs = this.#close(now_ms, whole).map(input);
    for (const { table, rows } of inputs) this.#options.ledger.seen('spool', table, rows);
    this.#append(inputs, now_ms);
  }

  /** Connections that sweeps met without an owner, since the programs were loaded. */
  ownersSought(): number {
    return this.#counts.read()[kernel_count.COUNT_OWNER_SOUGHT] ?? 0;
  }

  /** The ring is as full as the sweeps let it become (bpf/ring.bpf.h: ring_nearly_full). */
  get crowded(): boolean {
    return this.drain.waiting + this.drain.uncommitted > this.#ring_bytes - this.#ring_bytes / 4;
  }

  /** True while a batch waits for disk space or for the reducer. */
  get holding(): boolean {
    return this.#held.length > 0;
  }

  #append(inputs: readonly SpoolInput[], now_ms: number): void {
    const { spool, sender, ring_id } = this.#options;
    const ring = { ring_id, cursor: this.drain.cursor };
    const result = spool.appendGroup(inputs, ring);
    if (result.ok) {
      this.disk_error = '';
      this.#safe(inputs);
      sender.kick();
      return;
    }
    this.disk_error = result.reason;
    this.#held = inputs;
    this.#retry_ms = now_ms + RETRY_MS;
    const { seqs } = result;
    if (seqs === undefined) return; // not even a sequence could be noted: tried again
    this.#retry_ms = Number.POSITIVE_INFINITY; // under way from memory, never twice
    const entries = inputs.map((one, i): SpoolEntry => ({ ...one, seq: seqs[i]! }));
    void sender.sendMemory(entries).then((stored) => {
      if (!stored) {
        this.#retry_ms = 0;
        return;
      }
      spool.noteRing(ring);
      this.#safe(inputs);
    });
  }

  #retry(now_ms: number): void {
    if (now_ms >= this.#retry_ms) this.#append(this.#held, now_ms);
  }

  /** The rows are on disk or in the store: the kernel may write over their records. */
  #safe(inputs: readonly SpoolInput[]): void {
    for (const { table, rows } of inputs) this.#options.ledger.kept('spool', table, rows);
    this.#held = [];
    this.drain.commit();
  }

  /** Process-wide counters since the start, for the metrics. */
  get totals(): DecodeTotals {
    return this.#decode.totals;
  }

  close(): void {
    this.drain.close();
  }

  /** The batches of this moment: flows, what the caller adds, and the ledger as the last. */
  #close(now_ms: number, whole: boolean): Batch[] {
    if (whole) this.#decode.tick(now_ms);
    const batches = this.#decode.close(now_ms);
    this.#book();
    if (!whole) return batches;
    batches.push(...this.#options.extra(now_ms));
    const ledger = this.#options.ledger.takeDeltas(now_ms);
    if (ledger !== undefined) batches.push(ledger);
    return batches;
  }

  #booked = { records: 0, decoded: 0, bad: 0 };

  #book(): void {
    const { ledger } = this.#options;
    const was = this.#booked;
    const { decoded, processes, bad } = this.#decode.totals;
    const is = { records: this.drain.records, decoded: decoded + processes, bad };
    this.#counts.book();
    ledger.seen('ring', 'records', is.records - was.records);
    ledger.kept('ring', 'records', is.records - was.records);
    ledger.seen('decode', 'records', is.records - was.records);
    ledger.kept('decode', 'records', is.decoded - was.decoded);
    ledger.dropped('decode', 'records', 'bad_record', is.bad - was.bad);
    this.#booked = is;
    this.#decode.book();
  }
}

function input(batch: Batch): SpoolInput {
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
