import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { Gather } from './gather.ts';
import { batchRows, foldRows, SEED, sampleEvents, sampleRow, sampleTable } from './testing.ts';

/** A weighted mean rounds differently on another way (`merge.test.ts` looks at it). */
const RTT = sampleTable.measures.findIndex(({ name }) => name === 'rtt');

const withoutMean = <Part extends { readonly measures: readonly unknown[] }>(part: Part): Part => ({
  ...part,
  measures: part.measures.toSpliced(RTT, 1),
});

for (const table of [sampleTable, sampleEvents].map(withoutMean)) {
  test(`parts of an interval are together what it would be at once: ${table.kind} (seed ${SEED})`, () => {
    const row = sampleRow.map(withoutMean);
    const parts = fc.array(fc.array(row, { minLength: 1, maxLength: 20 }), { minLength: 1 });
    fc.assert(
      fc.property(parts, (some) => {
        const gather = new Gather();
        const grown = some.map((rows) => gather.add(foldRows(table, rows).close(5000)!));
        const whole = foldRows(table, some.flat()).close(5000)!;
        const [batch, ...more] = gather.batches;
        assert.deepEqual(more, []);
        assert.deepEqual(batchRows(batch), batchRows(whole));
        assert.deepEqual([gather.rows, batch!.times_ms], [whole.rows, whole.times_ms]);
        const sum = grown.reduce((all, one) => all + one, 0);
        assert.equal(sum, whole.rows);
      }),
      { seed: SEED, numRuns: 100 },
    );
  });
}

test('tables stay apart, and nothing is left after clear', () => {
  const row = { dimensions: ['a', 'client', 1, 2, 3, 4, 5], measures: Array<number>(8).fill(1) };
  const gather = new Gather();
  for (const table of [sampleTable, sampleEvents, sampleTable]) {
    gather.add(foldRows(table, [row]).close(1000)!);
  }
  assert.deepEqual(
    gather.batches.map(({ definition, rows }) => [definition.name, rows]),
    [
      ['sample', 1],
      ['sample_event', 1],
    ],
  );
  gather.clear();
  assert.equal(gather.rows, 0);
  assert.deepEqual(gather.batches, []);
});
