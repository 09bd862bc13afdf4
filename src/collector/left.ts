// What a collector of another build left in the kernel when it was killed. This one cannot know its layout, so it is lost;
// how much there was goes to the ledger.

import { existsSync, readdirSync } from 'node:fs';
import { BpfMap, MapBuffer } from '../bpf/map.ts';
import { Ring } from '../bpf/ring.ts';
import type { Ledger } from '../table/ledger.ts';
import type { Pins } from './pins.ts';

export interface Left {
  /** In the ring, read by nobody. */
  readonly records: number;
  /** Entries of the maps that are taken in turns: of processes, kinds of requests and so on, each with what it counted. */
  readonly totals: number;
}

export const NOTHING: Left = { records: 0, totals: 0 };

/** The maps of such a pair (bpf/turns.bpf.h). */
const OF_A_PAIR = /_[01]$/;

export function leftBehind(pins: Pins): Left {
  if (!existsSync(pins.map('sonde_ring'))) return NOTHING;
  const pairs = readdirSync(pins.root).filter((name) => OF_A_PAIR.test(name));
  const totals = pairs.reduce((sum, name) => sum + entriesIn(pins.map(name)), 0);
  return { records: recordsIn(pins.map('sonde_ring')), totals };
}

export function bookLeft({ records, totals }: Left, ledger: Ledger): void {
  const drop = (what: string, count: number) => {
    ledger.seen('kernel', what, count);
    ledger.dropped('kernel', what, 'unknown_layout', count);
  };
  drop('left_by_another_build', records);
  drop('totals_left_by_another_build', totals);
}

function recordsIn(path: string): number {
  using map = BpfMap.openPinned(path);
  using ring = Ring.open(map.fd, map.maxEntries);
  return ring.read(ring.consumerPosition, new Uint8Array(map.maxEntries)).records;
}

function entriesIn(path: string): number {
  using map = BpfMap.openPinned(path);
  return new MapBuffer(map).read();
}
