// Ring → rows → batches → delivery, in turns. One turn reads what waits; at the end of an interval, or when much was read
// and is not yet safe, the fold closes, its rows are made safe together with how far they reach, and the ring is released.

import { kernel_count } from '../../probes/layout.gen.ts';
import type { Batch } from '../table/columns.ts';
import type { Ledger } from '../table/ledger.ts';
import type { RingPosition } from '../wire/spool_state.ts';
import type { Decode, DecodeTotals } from './decode.ts';
import type { Delivery } from './delivery.ts';
import { Drain } from './drain.ts';
import type { ProcessFilter } from './filter.ts';
import type { Kernel } from './kernel.ts';
import { KernelCounts } from './kernel_counts.ts';

/** A turn reads this much of the ring; the rest waits for the next, so that one turn stays short. */
const TURN_BYTES = 4 << 20;
/** With this share of the ring read and not safe, the interval's rows so far are made so. */
const UNCOMMITTED_SHARE = 4;

export interface PipelineOptions {
  readonly kernel: Kernel;
  readonly delivery: Delivery;
  readonly decode: Decode;
  readonly filter: ProcessFilter;
  readonly ledger: Ledger;
  readonly ring_id: string;
  /** How far the rows of a predecessor reach. */
  readonly told: RingPosition | undefined;
  /** Called before the ring is read: for what its records are read with. */
  readonly before?: ((now_ms: number) => void) | undefined;
  /** More tables of this moment, to go with the interval's: self-metrics. */
  readonly extra: (now_ms: number) => readonly Batch[];
}

export class Pipeline {
  readonly drain: Drain;
  readonly #options: PipelineOptions;
  readonly #decode: Decode;
  readonly #counts: KernelCounts;
  readonly #ring_bytes: number;
  /** The collector ends: what decoders still wait for will not come to this one. */
  ending = false;

  constructor(options: PipelineOptions) {
    this.#options = options;
    const { kernel, decode, told } = options;
    this.#decode = decode;
    this.#ring_bytes = kernel.ring.maxEntries;
    this.drain = new Drain(kernel.ring.fd, this.#ring_bytes, decode, told?.cursor);
    const capture = kernel.hasMap('capture_counts') ? kernel.map('capture_counts') : undefined;
    const counts = { all: kernel.counts, capture };
    this.#counts = new KernelCounts(counts, options.ledger, told?.counts);
  }

  /** Reads what waits, within a bound. True: more waits. */
  turn(now_ms: number): boolean {
    const { delivery } = this.#options;
    if (delivery.holding) delivery.retry();
    if (delivery.holding) return false;
    this.#decode.now_ms = now_ms;
    // What is learnt before the reading is older than no record that is read: none may come in between.
    const { end } = this.drain;
    this.#options.before?.(now_ms);
    const more = this.drain.turn(TURN_BYTES, end);
    const share = this.#ring_bytes / UNCOMMITTED_SHARE;
    if (this.drain.uncommitted > share) this.#release(now_ms, false);
    return more;
  }

  /** Everything that the kernel has reported until now, as rows that are delivered. */
  flushAll(now_ms: number): void {
    // Until now, not until empty: under load that never comes, and meanwhile nothing would be sent.
    const end = this.drain.cursor + this.drain.waiting;
    while (this.turn(now_ms) && this.drain.cursor < end) {
      // the next part
    }
    this.flush(now_ms);
  }

  /** Closes the rows so far and hands them on; then the kernel may write over their records. */
  flush(now_ms: number): void {
    if (this.#decode.left) this.#release(now_ms, true);
    this.#release(now_ms, true);
  }

  /** `whole`: with what need not come more often than the interval does: sweeps of maps, and the report on sonde itself. */
  #release(now_ms: number, whole: boolean): void {
    const { delivery, ring_id } = this.#options;
    if (delivery.holding) return;
    const batches = this.#close(now_ms, whole);
    const { turn } = this.#decode;
    const ring = { ring_id, cursor: this.drain.cursor, turn, counts: this.#counts.told };
    const safe = () => {
      this.drain.commit();
      this.#decode.settle();
    };
    if (whole) delivery.take(batches, ring, now_ms, safe);
    else delivery.keep(batches, ring, now_ms, safe);
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
    return this.#options.delivery.holding;
  }

  /** Process-wide counters since the start, for the metrics. */
  get totals(): DecodeTotals {
    return this.#decode.totals;
  }

  close(): void {
    this.drain.close();
  }

  /** The batches of this moment: flows, and what the caller adds. All is booked. */
  #close(now_ms: number, whole: boolean): readonly Batch[] {
    if (whole) this.#decode.tick(now_ms, this.ending);
    const batches = this.#options.filter.apply(this.#decode.close(now_ms));
    this.#book();
    if (!whole) return batches;
    return [...batches, ...this.#options.extra(now_ms)];
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
