// Pressure by control group, from a tree of files like the kernel's.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { type Batch, isStringColumn } from '../table/columns.ts';
import { Pressure } from './pressure.ts';

const CONTAINER = 'c'.repeat(64);

function say(folder: string, resource: string, some: number, full: number): void {
  const line = (what: string, total: number) =>
    `${what} avg10=0.12 avg60=0.03 avg300=0.00 total=${total}\n`;
  writeFileSync(join(folder, `${resource}.pressure`), line('some', some) + line('full', full));
}

function rows(batches: readonly Batch[]): readonly string[] {
  return batches.flatMap((batch) =>
    Array.from({ length: batch.rows }, (_, row) => {
      const words = batch.dimensions.map((column) =>
        isStringColumn(column) ? column.dictionary[column.ids[row]!] : column.values[row],
      );
      const sums = batch.measures.map((column) => ('values' in column ? column.values[row] : '?'));
      return [...words, ...sums].join(' ');
    }).sort(),
  );
}

test('what the totals of each group grew by', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'sonde-pressure-'));
  t.after(() => rmSync(root, { recursive: true }));
  const group = join(root, 'docker', CONTAINER);
  mkdirSync(group, { recursive: true });
  say(root, 'memory', 1000, 100);
  say(group, 'memory', 50, 5);
  const pressure = new Pressure(root);
  assert.deepEqual(rows(pressure.batches(1)), []);
  say(root, 'memory', 1030, 107);
  say(root, 'io', 9, 0); // the kernel began to keep it
  say(group, 'memory', 70, 5);
  const path = `/docker/${CONTAINER}`;
  assert.deepEqual(rows(pressure.batches(2)), [
    `/  io 9 0`,
    `/  memory 30 7`,
    `${path} ${CONTAINER} memory 20 0`,
  ]);
  const fresh = join(root, 'new');
  mkdirSync(fresh);
  say(fresh, 'cpu', 4, 3);
  rmSync(group, { recursive: true });
  assert.deepEqual(rows(pressure.batches(3)), ['/new  cpu 4 3']);
  assert.deepEqual(rows(pressure.batches(4)), []);
});
