// The kernel's choice of a bucket (bpf/histogram.bpf.h), compiled for this machine, against OpenTelemetry's of scale 0.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { bucketScale, ZERO_BUCKET } from '../src/table/buckets.ts';
import { defineTable } from '../src/table/definition.ts';
import { Fold } from '../src/table/fold.ts';
import { histogram } from './layout.gen.ts';
import { addSlots } from './slots.ts';

const HEADER = join(import.meta.dirname, '../bpf/histogram.bpf.h');

const PROGRAM = `
#define SONDE_KERNEL_H /* not the kernel's types */
#include <stdio.h>
#include <stdlib.h>
typedef unsigned int u32;
typedef unsigned long long u64;
#include "${HEADER}"
int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		printf("%u\\n", histogram_slot(strtoull(argv[i], NULL, 10)));
	return 0;
}
`;

/** Each power of two with its neighbours, and some between. */
function values(): readonly number[] {
  const all = [0, 1, 2, 3, 5, 1000, 999_999_999];
  for (let power = 2; power < 38; power += 1) all.push(2 ** power - 1, 2 ** power, 2 ** power + 1);
  return all;
}

test('the kernel puts a value into the bucket of scale 0', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-slots-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'slots.c'), PROGRAM);
  const tool = join(folder, 'slots');
  execFileSync('cc', ['-O1', '-Wall', '-Werror', '-o', tool, join(folder, 'slots.c')]);
  const all = [...values(), 2 ** 38 + 1, 2 ** 52];
  const slots = execFileSync(tool, all.map(String), { encoding: 'utf8' }).trim().split('\n');
  const scale = bucketScale(0);
  for (const [i, value] of values().entries()) {
    const slot = Number(slots[i]);
    assert.equal(slot === 0 ? ZERO_BUCKET : slot - 2, scale.index(value), `${value}`);
  }
  // What is above all others has the last.
  assert.deepEqual(slots.slice(-2).map(Number), [39, 39]);
});

test('each slot goes into its bucket, with the sum', () => {
  const table = defineTable({
    name: 'sample',
    help: 'one histogram',
    kind: 'fold',
    dimensions: [],
    measures: [
      { name: 'latency', type: 'u64', unit: 'ns', fold: 'histogram', scale: 0, help: 'it' },
    ],
    rows_max: 4,
  });
  const fold = new Fold(table);
  const bytes = new Uint8Array(8 + histogram.SIZE);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(8 + histogram.sum, 5_000_000_001n, true);
  for (let slot = 0; slot < histogram.slots_length; slot += 1) {
    view.setUint32(8 + histogram.slots + slot * 4, slot % 3 === 0 ? slot + 1 : 0, true);
  }
  const row = fold.addRow(new Float64Array(0), Float64Array.of(Number.NaN), 0);
  addSlots(fold, row, 0, view, 8);
  const column = fold.close(0)!.measures[0]!;
  assert.ok('buckets' in column);
  const expected = Array.from({ length: 14 }, (_, i) => i * 3);
  assert.deepEqual(
    [...column.buckets],
    expected.map((slot) => (slot === 0 ? ZERO_BUCKET : slot - 2)),
  );
  assert.deepEqual(
    [...column.counts],
    expected.map((slot) => slot + 1),
  );
  assert.deepEqual([...column.sums], [5_000_000_001]);
});
