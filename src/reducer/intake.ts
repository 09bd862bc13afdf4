// One batch's way through the reducer: decode, enrich, store, show, acknowledge. Nothing is acknowledged that the store
// does not have; what is refused for good stands in the ledger with its reason.

import type { PrometheusOutlet } from '../outlet/prometheus.ts';
import type { Store } from '../store/client.ts';
import type { StoreFailure } from '../store/failure.ts';
import { decodeBatch, encodeBatch } from '../table/batch.ts';
import type { Batch } from '../table/columns.ts';
import type { TableDefinition } from '../table/definition.ts';
import type { Ledger } from '../table/ledger.ts';
import type { WireBatch } from '../wire/assembler.ts';
import { joinStream } from '../wire/ipc.ts';
import type { Ack, Sender } from '../wire/put.ts';
import type { Enricher } from './enrich.ts';

export interface IntakeParts {
  readonly store: Store;
  readonly ledger: Ledger;
  readonly tables: ReadonlyMap<string, TableDefinition>;
  readonly enrichers: readonly Enricher[];
  readonly outlet: PrometheusOutlet | undefined;
  readonly log: (line: string) => void;
}

export interface IntakeStats {
  readonly rows: number;
  readonly batches: number;
  /** Batches being decoded, enriched or stored. */
  readonly queue: number;
  readonly rejected: number;
  readonly failures: number;
  /** The last failure of the store; empty after a batch was stored again. */
  readonly last_failure: string;
}

/** Ledger rows of what came under a name that no table has: strangers choose names. */
const UNKNOWN_TABLE = '<unknown>';

export class Intake {
  readonly #parts: IntakeParts;
  #rows = 0;
  #batches = 0;
  #queue = 0;
  #rejected = 0;
  #failures = 0;
  #last_failure = '';
  #foreign = 0;

  constructor(parts: IntakeParts) {
    this.#parts = parts;
  }

  get stats(): IntakeStats {
    return {
      rows: this.#rows,
      batches: this.#batches,
      queue: this.#queue,
      rejected: this.#rejected,
      failures: this.#failures,
      last_failure: this.#last_failure,
    };
  }

  /** The handler of the Flight server: called in order for each collector. */
  async put(sender: Sender, wire: WireBatch): Promise<Ack> {
    this.#queue += 1;
    try {
      return await this.#put(sender, wire);
    } finally {
      this.#queue -= 1;
    }
  }

  async #put(sender: Sender, wire: WireBatch): Promise<Ack> {
    const { tables, enrichers, store, outlet } = this.#parts;
    const definition = tables.get(wire.table);
    if (definition === undefined) return this.#reject(UNKNOWN_TABLE, 'unknown_table', wire.rows);
    const decoded = decodeBatch(joinStream(wire), () => definition);
    if (!decoded.ok) return this.#reject(wire.table, decoded.reason, wire.rows);
    let batch: Batch = decoded.batch;
    for (const enricher of enrichers) batch = enricher.enrich(batch);
    const { host, collector_id, seq } = this.#identify(sender);
    // Encoded anew, so that the engine reads only what we wrote.
    const arrow = encodeBatch(batch);
    const result = await store.insert({ table: wire.table, collector_id, seq, host, arrow });
    if (!result.ok) return this.#notStored(wire, result);
    this.#stored(wire.table, batch.rows);
    outlet?.add(batch, host, Date.now());
    return { ok: true };
  }

  /**
   * A client without our metadata counts its batches by stream, from a port that another will have tomorrow: such a
   * batch gets a number that no other has, and is stored whenever it comes.
   */
  #identify(sender: Sender): { host: string; collector_id: string; seq: number } {
    const { collector_id, host, seq, peer, version } = sender;
    if (version !== '' || !collector_id.startsWith('flight:')) return { collector_id, host, seq };
    const address = peer.replace(/:\d+$/, '').replaceAll(/[^A-Za-z0-9.:-]/g, '');
    this.#foreign = (this.#foreign + 1) % 1024;
    const number = Date.now() * 1024 + this.#foreign;
    return { host: host || address, collector_id: `flight:${address}`, seq: number };
  }

  #stored(table: string, rows: number): void {
    const { ledger } = this.#parts;
    this.#rows += rows;
    this.#batches += 1;
    this.#last_failure = '';
    // Booked when it is decided: a batch that is sent again was not seen twice.
    for (const stage of ['intake', 'store'] as const) {
      ledger.seen(stage, table, rows);
      ledger.kept(stage, table, rows);
    }
  }

  #notStored(wire: WireBatch, failure: StoreFailure): Ack {
    if (failure.reason === 'bad_batch') return this.#reject(wire.table, 'bad_batch', wire.rows);
    this.#failures += 1;
    const line = `store: ${failure.reason}: ${failure.message}`;
    if (this.#last_failure !== failure.reason) this.#parts.log(line);
    this.#last_failure = failure.reason;
    return { ok: false, reason: line.slice(0, 200), retry: true };
  }

  #reject(table: string, reason: string, rows: number): Ack {
    this.#rejected += 1;
    const { ledger } = this.#parts;
    ledger.seen('intake', table, rows);
    ledger.dropped('intake', table, reason, rows);
    return { ok: false, reason, retry: false };
  }
}
