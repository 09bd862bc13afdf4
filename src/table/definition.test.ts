import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defineTable, type Measure, type TableDefinition } from './definition.ts';
import { sampleTable } from './testing.ts';

const count: Measure = { name: 'count', type: 'u64', unit: '1', fold: 'sum', help: 'Count' };

function refuses(change: Partial<TableDefinition>, message: RegExp): void {
  assert.throws(() => defineTable({ ...sampleTable, ...change }), message);
}

test('a definition is frozen all the way down, and the original is left alone', () => {
  const values = ['x'];
  const dimension = { name: 'a', type: 'string', help: 'A', values } as const;
  const def = defineTable({
    ...sampleTable,
    dimensions: [dimension],
    measures: [count],
    enriched: [{ name: 'pod', type: 'string', help: 'Pod' }],
  });
  const parts = [def, def.dimensions, def.dimensions[0], def.dimensions[0]?.values];
  for (const part of [...parts, def.measures, def.measures[0], def.enriched, def.enriched?.[0]]) {
    assert.ok(Object.isFrozen(part), JSON.stringify(part));
  }
  assert.ok(!Object.isFrozen(dimension));
  values.push('y');
  assert.deepEqual(def.dimensions[0]?.values, ['x']);
});

test('errors name the table and the column', () => {
  refuses({ name: 'Sample' }, /table "Sample": name is not snake_case/);
  refuses({ name: 'a'.repeat(64) }, /snake_case of 1 to 63/);
  refuses({ name: 'a__b' }, /snake_case/);
  refuses({ rows_max: 0 }, /rows_max 0/);
  refuses({ rows_max: 1.5 }, /rows_max 1.5/);
  refuses({ dimensions: [], measures: [] }, /no columns/);
  for (const name of ['time', 'collector_id', 'batch_seq', 'bytes', 'latency_counts']) {
    const dimensions = [{ name, type: 'u8', help: '' }] as const;
    refuses({ dimensions }, new RegExp(`table "sample": column "${name}" is reserved or stands`));
  }
  refuses({ enriched: [{ name: 'text', type: 'string', help: '' }] }, /column "text".*twice/);
  refuses({ dimensions: [{ name: 'a', type: 'u8', help: '', values: ['x'] }] }, /"a": values are/);
  const twice = { name: 'a', type: 'string', help: '', values: ['x', 'x'] } as const;
  refuses({ dimensions: [twice] }, /"a": a value stands twice/);
});

test('a mean needs a sum that weighs it, a histogram a scale that exists', () => {
  const mean: Measure = { ...count, name: 'rtt', fold: 'mean' };
  const most: Measure = { ...count, name: 'most', fold: 'max' };
  refuses({ measures: [count, mean] }, /"rtt": weight goes with mean/);
  refuses({ measures: [{ ...count, weight: 'count' }] }, /"count": weight goes with mean/);
  refuses({ measures: [{ ...mean, weight: 'absent' }] }, /"rtt": weight "absent" is no measure/);
  refuses({ measures: [most, { ...mean, weight: 'most' }] }, /"rtt": weight "most" is not a sum/);
  refuses({ measures: [{ ...count, scale: 3 }] }, /scale is for histogram/);
  for (const scale of [9, -11, 0.5]) {
    refuses({ measures: [{ ...count, fold: 'histogram', scale }] }, /"count": scale/);
  }
  const long = { ...count, name: 'a'.repeat(60), fold: 'histogram' } as const;
  refuses({ measures: [long] }, /_buckets" is not snake_case of 1 to 63/);
});
