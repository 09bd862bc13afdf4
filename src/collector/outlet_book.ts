// What became of the lines that the outlet took, booked into the ledger: those that still wait are booked when they are settled.

import type { Ledger } from '../table/ledger.ts';
import type { LineOutlet, OutletCounts } from '../table/outlet.ts';

/** Turned away before the outlet took them: booked by who offered them. */
const REFUSED = 'queue_full';
const NAME = 'capture_lines';

export class OutletBook {
  readonly #outlet: LineOutlet;
  readonly #ledger: Ledger;
  #before: OutletCounts = { seen: 0, sent: 0, dropped: {}, waiting: 0 };

  constructor(outlet: LineOutlet, ledger: Ledger) {
    this.#outlet = outlet;
    this.#ledger = ledger;
  }

  book(): void {
    const now = this.#outlet.counts;
    const before = this.#before;
    this.#before = now;
    const sent = now.sent - before.sent;
    this.#ledger.seen('outlet', NAME, sent);
    this.#ledger.kept('outlet', NAME, sent);
    for (const [reason, count] of Object.entries(now.dropped)) {
      if (reason === REFUSED) continue;
      const lost = count - (before.dropped[reason] ?? 0);
      this.#ledger.seen('outlet', NAME, lost);
      this.#ledger.dropped('outlet', NAME, reason, lost);
    }
  }
}
