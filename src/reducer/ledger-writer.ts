// The reducer's own ledger on its way to the store, as a collector of its own. Deltas that could not be stored are kept
// and tried again: the ledger of a full disk is what one wants to read afterwards.

import type { PrometheusOutlet } from '../outlet/prometheus.ts';
import type { Store, StoreBatch } from '../store/client.ts';
import { encodeBatch } from '../table/batch.ts';
import type { Batch } from '../table/columns.ts';
import { type Ledger, ledgerTable } from '../table/ledger.ts';

export interface LedgerWriterParts {
  readonly store: Store;
  readonly ledger: Ledger;
  readonly host: string;
  readonly outlet: PrometheusOutlet | undefined;
  readonly log: (line: string) => void;
}

const ID_PREFIX = 'reducer@';

export class LedgerWriter {
  readonly #parts: LedgerWriterParts;
  readonly #collector_id: string;
  #seq: number;
  #pending: { readonly batch: Batch; readonly row: StoreBatch } | undefined;
  #writing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #said = '';

  private constructor(parts: LedgerWriterParts, collector_id: string, seq: number) {
    this.#parts = parts;
    this.#collector_id = collector_id;
    this.#seq = seq;
  }

  static async start(parts: LedgerWriterParts, period_ms: number): Promise<LedgerWriter> {
    const collector_id = ID_PREFIX + parts.host.replaceAll(/[^A-Za-z0-9_.-]/g, '_').slice(0, 100);
    const stored = (await parts.store.maxSeqs()).get(collector_id)?.get(ledgerTable.name) ?? 0;
    // Several reducers of one host may share a server: the clock keeps their numbers apart.
    const seq = Math.max(stored, Date.now() * 1000);
    const writer = new LedgerWriter(parts, collector_id, seq);
    writer.#timer = setInterval(() => void writer.write(), period_ms);
    writer.#timer.unref();
    return writer;
  }

  /** Stores what changed since the last call; one call after another. */
  write(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.write();
  }

  async #write(): Promise<void> {
    const { store, outlet, host, log } = this.#parts;
    this.#pending ??= this.#take();
    if (this.#pending === undefined) return;
    const { batch, row } = this.#pending;
    const result = await store.insert(row);
    if (result.ok) {
      this.#pending = undefined;
      this.#said = '';
      outlet?.add(batch, host, Date.now());
      return;
    }
    if (this.#said !== result.reason)
      log(`ledger: not stored: ${result.reason}: ${result.message}`);
    this.#said = result.reason;
  }

  #take() {
    const batch = this.#parts.ledger.takeDeltas(Date.now());
    if (batch === undefined) return undefined;
    this.#seq += 1;
    const { host } = this.#parts;
    const arrow = encodeBatch(batch);
    const row: StoreBatch = {
      table: ledgerTable.name,
      collector_id: this.#collector_id,
      seq: this.#seq,
      host,
      arrow,
    };
    return { batch, row };
  }
}
