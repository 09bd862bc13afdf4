// Counters of the kernel side over a successor, who knows from the spool what its predecessor booked.

import assert from 'node:assert/strict';
import test from 'node:test';
import { capture_count, kernel_count } from '../../probes/layout.gen.ts';
import { Ledger } from '../table/ledger.ts';
import { KernelCounts } from './kernel_counts.ts';

const CPUS = 2;

/** A map whose counters are spread over the CPUs. */
function counters(of: Map<number, number>) {
  return {
    valueStride: CPUS * 8,
    lookup: (key: Uint8Array, out: Uint8Array) => {
      const what = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
      const count = of.get(what) ?? 0;
      new BigUint64Array(out.buffer, out.byteOffset, CPUS).set([BigInt(count) - 1n, 1n]);
      return true;
    },
  };
}

function kernel() {
  const all = new Map<number, number>();
  for (let what = 0; what < kernel_count.COUNT_MAX; what += 1) all.set(what, 1);
  const capture = new Map([[capture_count.CAPTURE_LOST, 1]]);
  return { all, capture, maps: { all: counters(all), capture: counters(capture) } };
}

function dropped(ledger: Ledger, what: string): number {
  const isIt = (stage: string, table: string, reason: string): boolean =>
    stage === 'kernel' && table === what && reason === 'ring_full';
  const rows = ledger.rows().filter(({ stage, table, reason }) => isIt(stage, table, reason));
  return rows.reduce((sum, { count }) => sum + count, 0);
}

test('what a predecessor booked is not booked again, and what came since is', () => {
  const { all, capture, maps } = kernel();
  const before = new KernelCounts(maps, new Ledger());
  before.book();
  const { told } = before;
  all.set(kernel_count.COUNT_DNS_FULL, 8); // while nobody looks
  capture.set(capture_count.CAPTURE_LOST, 4);
  const ledger = new Ledger();
  const after = new KernelCounts(maps, ledger, JSON.parse(JSON.stringify(told)));
  after.book();
  after.book();
  assert.equal(dropped(ledger, 'dns_packets_ring_full'), 7);
  assert.equal(dropped(ledger, 'capture_records'), 3);
});

test('of a predecessor that is not known, nothing is booked', () => {
  const ledger = new Ledger();
  new KernelCounts(kernel().maps, ledger).book();
  assert.equal(dropped(ledger, 'dns_packets_ring_full'), 0);
});
