// What the log says of the delivery: a line when something changes, not one for each try.

import type { Logger } from 'pino';
import type { Delivery } from './delivery.ts';

/** A spool that overflows does so again with each interval. */
const DROPS_MS = 60_000;

type Seen = Pick<Delivery, 'error' | 'gone' | 'unreachable' | 'dropped'>;

export class DeliveryLog {
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** HOST:PORT. */
  readonly #reducer: string;
  #error = '';
  #gone = '';
  #unreachable = '';
  #dropped: Seen['dropped'] = { batches: 0, rows: 0 };
  #drops_said_ms = Number.NEGATIVE_INFINITY;

  constructor(log: Pick<Logger, 'info' | 'warn' | 'error'>, reducer: string) {
    this.#log = log;
    this.#reducer = reducer;
  }

  /** `last`: what was not said yet must be said now. */
  note(delivery: Seen, last = false): void {
    this.#noteReducer(delivery.unreachable);
    this.#noteDrops(delivery.dropped, last);
    this.#noteDisk(delivery);
  }

  #noteReducer(reason: string): void {
    if (reason === this.#unreachable) return;
    this.#unreachable = reason;
    const reducer = this.#reducer;
    if (reason === '') this.#log.info({ reducer }, 'the reducer takes rows again');
    else this.#log.warn({ reducer, reason }, 'the reducer takes no rows; they wait in the spool');
  }

  #noteDrops(dropped: Seen['dropped'], last: boolean): void {
    const batches = dropped.batches - this.#dropped.batches;
    const now = performance.now();
    if (batches === 0 || (!last && now - this.#drops_said_ms < DROPS_MS)) return;
    const rows = dropped.rows - this.#dropped.rows;
    this.#dropped = { ...dropped };
    this.#drops_said_ms = now;
    const cure = 'bring the reducer back, or raise collector.spool_bytes_max';
    this.#log.warn({ batches, rows, cure }, 'the spool is full: its oldest batches were dropped');
  }

  #noteDisk({ error, gone }: Seen): void {
    if (gone !== this.#gone) {
      this.#gone = gone;
      const what = 'the folder of the spool was removed while in use; rows wait in memory alone';
      if (gone !== '') this.#log.error({ folder: gone }, what);
    }
    if (error === this.#error) return;
    this.#error = error;
    if (error === '') this.#log.info('the spool can be written again');
    else this.#log.warn({ reason: error }, 'the spool cannot be written; rows wait in memory');
  }
}
