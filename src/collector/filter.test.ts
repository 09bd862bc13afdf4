// Which rows pass the lists, and that every row is accounted for.

import assert from 'node:assert/strict';
import test from 'node:test';
import type { Batch } from '../table/columns.ts';
import { isHistogramColumn, isStringColumn } from '../table/columns.ts';
import { defineTable } from '../table/definition.ts';
import { Fold } from '../table/fold.ts';
import { Ledger } from '../table/ledger.ts';
import { type FilterOptions, ProcessFilter } from './filter.ts';

const def = defineTable({
  name: 'sample',
  help: 'about processes',
  kind: 'fold',
  rows_max: 16,
  dimensions: [
    { name: 'pid', type: 'u32', help: '' },
    { name: 'process_name', type: 'string', help: '' },
    { name: 'cgroup_path', type: 'string', help: '' },
  ],
  measures: [
    { name: 'count', type: 'u64', unit: '1', fold: 'sum', help: '' },
    { name: 'time', type: 'u64', unit: 'ns', fold: 'histogram', help: '' },
  ],
});

const other = defineTable({
  name: 'other',
  help: 'about none',
  kind: 'fold',
  rows_max: 4,
  dimensions: [{ name: 'device', type: 'string', help: '' }],
  measures: [{ name: 'count', type: 'u64', unit: '1', fold: 'sum', help: '' }],
});

const ROWS = [
  [1, 'init', '/'],
  [20, 'nginx', '/system.slice/nginx.service'],
  [21, 'nginx', '/kubepods/pod1/c1'],
  [30, 'postgres', '/system.slice/pg.service'],
  [31, 'php-fpm8.2', '/kubepods/pod10/c2'],
] as const;

function batch(): Batch {
  const fold = new Fold(def);
  for (const [pid, name, cgroup] of ROWS) {
    const dims = Float64Array.of(pid, fold.intern(name), fold.intern(cgroup));
    fold.add(dims, Float64Array.of(pid * 100, pid));
  }
  return fold.close(0)!;
}

const NONE: FilterOptions = {
  include_names: [],
  exclude_names: [],
  include_pids: [],
  exclude_pids: [],
  include_cgroups: [],
  exclude_cgroups: [],
};

/** The pids that pass; each row has to come whole. */
function passing(options: Partial<FilterOptions>): readonly number[] {
  const ledger = new Ledger();
  const filter = new ProcessFilter({ ...NONE, ...options }, ledger);
  const [out] = filter.apply([batch()]);
  assert.deepEqual(
    ledger.imbalance().filter(({ difference }) => difference !== 0),
    [],
  );
  if (out === undefined) return [];
  const [pids, names, cgroups] = out.dimensions;
  const [counts, times] = out.measures;
  assert.ok(pids && names && cgroups && counts && times);
  assert.ok(!isStringColumn(pids) && isStringColumn(names) && isStringColumn(cgroups));
  assert.ok(!isHistogramColumn(counts) && isHistogramColumn(times));
  assert.equal(new Set(names.ids).size, names.dictionary.length, 'strings that do not occur');
  return Array.from({ length: out.rows }, (_, row) => {
    const pid = pids.values[row]!;
    const text = [pid, names.dictionary[names.ids[row]!], cgroups.dictionary[cgroups.ids[row]!]];
    assert.deepEqual(
      text,
      ROWS.find(([one]) => one === pid),
    );
    assert.equal(counts.values[row], pid * 100);
    assert.equal(times.sums[row], pid);
    assert.equal(times.offsets[row + 1]! - times.offsets[row]!, 1);
    return pid;
  });
}

test('without lists all rows pass, the batch itself', () => {
  const ledger = new Ledger();
  const one = batch();
  assert.equal(new ProcessFilter(NONE, ledger).apply([one])[0], one);
  assert.deepEqual(ledger.rows(), []);
});

test('by name, pid and cgroup; what one list excludes no other brings back', () => {
  assert.deepEqual(passing({ include_names: ['nginx'] }), [20, 21]);
  assert.deepEqual(passing({ include_names: ['php-fpm*'] }), [31]);
  assert.deepEqual(passing({ include_names: ['php.fpm8.2', 'ngin'] }), []);
  assert.deepEqual(passing({ exclude_names: ['nginx', 'init'] }), [30, 31]);
  assert.deepEqual(passing({ include_pids: [30, 1] }), [1, 30]);
  assert.deepEqual(passing({ exclude_pids: [30] }), [1, 20, 21, 31]);
  assert.deepEqual(passing({ include_cgroups: ['/system.slice'] }), [20, 30]);
  assert.deepEqual(passing({ include_cgroups: ['/kubepods/pod1'] }), [21]);
  assert.deepEqual(passing({ include_cgroups: ['/kubepods/*/c2'] }), [31]);
  assert.deepEqual(passing({ exclude_cgroups: ['/'] }), []);
  assert.deepEqual(passing({ include_names: ['init'], include_pids: [30] }), [1, 30]);
  assert.deepEqual(passing({ include_names: ['nginx'], exclude_cgroups: ['kubepods'] }), [20]);
});

test('tables that are not about processes pass whole; what is left out is counted', () => {
  const ledger = new Ledger();
  const filter = new ProcessFilter({ ...NONE, include_names: ['nginx'] }, ledger);
  const fold = new Fold(other);
  fold.add(Float64Array.of(fold.intern('sda')), Float64Array.of(1));
  const device = fold.close(0)!;
  const out = filter.apply([batch(), device]);
  assert.equal(out[1], device);
  assert.deepEqual(
    ledger.rows().map(({ stage, table, outcome, count }) => [stage, table, outcome, count]),
    [
      ['filter', 'sample', 'seen', 5],
      ['filter', 'sample', 'kept', 2],
      ['filter', 'sample', 'sampled', 3],
    ],
  );
  filter.update(NONE);
  assert.equal(filter.apply([batch()])[0]?.rows, 5);
});
