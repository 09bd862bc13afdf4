// The check of the ledger: what was lost, and where.

import { type Check, ok, skip, warn, wordsOf } from './check.ts';

/** Reasons → what helps. */
const CURES: ReadonlyMap<string, string> = new Map([
  ['spool_full', 'Bring the reducer back, or give the spool more room: collector.spool_bytes_max.'],
  ['spool_damaged', 'The disk of the spool gave back other bytes than were written: replace it.'],
  ['process_name_ring_full', 'Give the ring more room: collector.ring_bytes.'],
  ['tcp_map_full', 'Let the kernel side hold more sockets: collector.maps.sockets_max.'],
  [
    'rows_max',
    'More different rows than a table takes in one interval: shorten collector.interval.',
  ],
]);

export const losses: Check = {
  id: 'losses',
  what: 'nothing was lost in the last hour',
  why: 'every stage counts what it had to drop and why: what is shown elsewhere is too small by as much',
  cure: `The ledger has every stage and reason. Usual cures: collector.ring_bytes for bursts, collector.spool_bytes_max for a reducer
that was away, collector.maps for many sockets:
  sonde ledger`,
  look: async ({ running }) => {
    try {
      const lost = await running.losses();
      if (lost.length === 0) return ok('nothing');
      const words = lost.map(({ stage, reason, count }) => `${count} in ${stage} (${reason})`);
      const cures = new Set(lost.map(({ reason }) => CURES.get(reason) ?? ''));
      const cure = [...cures].filter((text) => text !== '').join('\n');
      return cure === '' ? warn(words.join(', ')) : warn(words.join(', '), cure);
    } catch (error) {
      return skip(`no reducer gives the ledger: ${wordsOf(error)}`);
    }
  },
};
