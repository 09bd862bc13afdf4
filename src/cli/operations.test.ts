// The catalogue's questions against a real store: rows of captures and of httpflow, as operations.

import assert from 'node:assert/strict';
import test from 'node:test';
import { apiCatalog } from '../../probes/capture/catalog.ts';
import { httpflow } from '../../probes/httpflow.ts';
import { Store } from '../store/client.ts';
import { rowsOf, temporaryDir } from '../store/testing.ts';
import { encodeBatch } from '../table/batch.ts';
import type { TableDefinition } from '../table/definition.ts';
import { Fold } from '../table/fold.ts';
import type { Questions } from './asking.ts';
import { operationsOf } from './operations.ts';

type Row = Readonly<Record<string, string | number>>;

const NOW = Date.now(); // older rows would go by their age

function arrow(table: TableDefinition, rows: readonly Row[]): Uint8Array {
  const fold = new Fold(table);
  for (const row of rows) {
    const dims = Float64Array.from(table.dimensions, ({ name, type }) =>
      type === 'string' ? fold.intern(String(row[name] ?? '')) : Number(row[name] ?? 0),
    );
    const measures = Float64Array.from(table.measures, ({ name, fold: how }) =>
      Number(row[name] ?? (how === 'sum' ? 0 : Number.NaN)),
    );
    fold.add(dims, measures);
  }
  const batch = fold.close(NOW);
  assert.ok(batch);
  return encodeBatch(batch);
}

const POST = { service: 'shop:80', role: 'server', method: 'POST', route: '/u/{id}' };
const CATALOG: readonly Row[] = [
  {
    ...POST,
    auth: 'bearer',
    media_type: 'text/x',
    requests: 3,
    status_2xx: 2,
    status_5xx: 1,
    first_seen: 2000,
    last_seen: 9000,
  },
  { ...POST, auth: 'none', requests: 1, unanswered: 1, first_seen: 1000, last_seen: 1000 },
  { ...POST, auth: 'bearer', place: 'path', parameter: 'id', kind: 'integer', requests: 4 },
  {
    ...POST,
    auth: 'bearer',
    place: 'body',
    parameter: 'a',
    kind: 'email',
    personal: 'email',
    media_type: 'application/json',
    requests: 1,
  },
  { ...POST, auth: 'none', place: 'body', parameter: 'a', kind: 'string', requests: 2 },
  {
    ...POST,
    service: "o'ther\\:1",
    auth: 'none',
    requests: 7,
    status_2xx: 7,
    first_seen: 1,
    last_seen: 1,
  },
];
const SHOP = { process_name: 'shop', src_port: 80, direction: 'incoming' };
const FLOWS: readonly Row[] = [
  { ...SHOP, method: 'POST', route: '/u/{id}', path: '/u/{id}', status_code: 200, count: 99 },
  { ...SHOP, method: 'GET', route: '/plain', path: '/plain', status_code: 404, count: 5 },
  { ...SHOP, method: 'GET', route: '/plain', path: '/plain', status_code: 0, count: 2 },
  { ...SHOP, direction: 'outgoing', method: 'GET', route: '/asked', status_code: 200, count: 5 },
];

test('operations of a store', async (t) => {
  const dir = temporaryDir();
  t.after(() => dir.remove());
  const store = await Store.open({ target: { dir: dir.path }, tables: [apiCatalog, httpflow] });
  t.after(() => store.close());
  const from = { collector_id: 'c', host: 'h' };
  for (const [table, rows] of [
    [apiCatalog, CATALOG],
    [httpflow, FLOWS],
  ] as const) {
    const { name } = table;
    const stored = await store.insert({ ...from, table: name, seq: 1, arrow: arrow(table, rows) });
    assert.ok(stored.ok, JSON.stringify(stored));
  }
  const questions = {
    rows: (sql: string) => rowsOf(store, sql),
  } as unknown as Questions; // the one that is asked
  const all = await operationsOf(questions, undefined);
  assert.deepEqual(
    all.map(({ service, method, route, requests }) => [service, method, route, requests]),
    [
      ["o'ther\\:1", 'POST', '/u/{id}', 7],
      ['shop:80', 'POST', '/u/{id}', 4],
      ['shop:80', 'GET', '/plain', 7],
    ],
  );
  const [, captured, plain] = all;
  assert.deepEqual(captured, {
    ...POST,
    requests: 4,
    statuses: { '2XX': 2, '5XX': 1 },
    unanswered: 1,
    auth: ['bearer', 'none'],
    media_types: ['text/x'],
    parameters: [
      {
        ...{ place: 'body', name: 'a', kinds: ['email', 'string'], personal: ['email'] },
        ...{ media_types: ['application/json'], requests: 3 },
      },
      {
        ...{ place: 'path', name: 'id', kinds: ['integer'], personal: [] },
        ...{ media_types: [], requests: 4 },
      },
    ],
    first_seen: '1970-01-01T00:00:01.000Z',
    last_seen: '1970-01-01T00:00:09.000Z',
  });
  assert.deepEqual([plain?.statuses, plain?.unanswered], [{ '4XX': 5 }, 2]);
  const one = await operationsOf(questions, "o'ther\\:1");
  assert.deepEqual(
    one.map(({ service }) => service),
    ["o'ther\\:1"],
  );
});
