// Exchanges → rows of the catalogue: kinds and names, never values; and limits on what clients choose.

import assert from 'node:assert/strict';
import test from 'node:test';
import { isStringColumn } from '../../src/table/columns.ts';
import { Fold } from '../../src/table/fold.ts';
import type { Head } from '../http/head.ts';
import { routeOf } from '../http/route.ts';
import { apiCatalog, authOf, Catalog, parametersOf, serviceName } from './catalog.ts';
import type { Message } from './message.ts';
import { captureStats, probeLine, statsLine, statsRow } from './stats.ts';
import { isCardNumber, kindOfText, personalOf } from './values.ts';

function message(head: Partial<Head>, body = ''): Message {
  return {
    head: {
      ...{ kind: 'request', method: 'GET', target: '/', status: 0, version: '1.1', headers: [] },
      ...{ headers_cut: 0, head_bytes: 0, framing: { type: 'none' } },
      ...head,
    },
    ...{ begin_ns: 0, end_ns: 0, body: Buffer.from(body), body_bytes: body.length },
    ...{ trailers: [], cut: '', complete: true, ended: true },
  };
}

type Row = Record<string, string | number>;

function rowsOf(fold: Fold): readonly Row[] {
  const batch = fold.close(1);
  return Array.from({ length: batch?.rows ?? 0 }, (_, r) => {
    const row: Row = {};
    batch!.dimensions.forEach((column, i) => {
      const { name } = apiCatalog.dimensions[i]!;
      row[name] = isStringColumn(column) ? column.dictionary[column.ids[r]!]! : column.values[r]!;
    });
    batch!.measures.forEach((column, i) => {
      if ('values' in column) row[apiCatalog.measures[i]!.name] = column.values[r]!;
    });
    return row;
  });
}

const SHOP = { process_name: 'shop', container_id: '', server: true, port: 8080 };

test('kinds of values', () => {
  const kinds = ['7', '-1', '1.5', 'true', 'x', '', '9'.repeat(40), '2026-11-26T10:00:00Z'];
  assert.deepEqual(kinds.map(kindOfText), [
    ...['integer', 'integer', 'number', 'boolean', 'string', 'string', 'string', 'date'],
  ]);
  assert.equal(kindOfText('3fa85f64-5717-4562-b3fc-2c963f66afa6'), 'uuid');
  assert.equal(kindOfText('ann@example.org'), 'email');
});

test('hints at personal data, by name and by value', () => {
  assert.deepEqual(
    [
      ...[personalOf('x', 'ann@example.org'), personalOf('x', '+49 30 1234567')],
      ...[personalOf('x', '4111 1111 1111 1111'), personalOf('x', '4111 1111 1111 1112')],
      ...[personalOf('first_name', 'Ann'), personalOf('birthDate', ''), personalOf('id', '7')],
    ],
    ['email', 'phone', 'card', '', 'name', 'birth', ''],
  );
  assert.ok(isCardNumber('5500-0000-0000-0004') && !isCardNumber('1234567890123'));
});

test('who asks', () => {
  assert.deepEqual(
    [
      authOf([]),
      authOf(['authorization', 'Basic x']),
      authOf(['Authorization', 'bearer x', 'Cookie', 'a']),
      authOf(['authorization', 'Negotiate x']),
      authOf(['authorization', 'Digest username="x"']),
      authOf(['X-API-Key', 'x']),
      authOf(['cookie', 'a=b']),
    ],
    ['none', 'basic', 'bearer', 'other', 'digest', 'api_key', 'cookie'],
  );
});

test('names of services', () => {
  const container = { ...SHOP, container_id: '0123456789abcdef' };
  assert.deepEqual(
    [
      serviceName(SHOP, 'h'),
      serviceName(container, 'h'),
      serviceName({ ...SHOP, server: false }, 'API.example.org'),
      serviceName({ ...SHOP, server: false }, '"bad"'),
    ],
    ['shop:8080', '0123456789ab:8080', 'api.example.org', 'shop:8080'],
  );
});

test('parameters of path, query, form and JSON', () => {
  const json = '{"user":{"email":"a@b.org","tags":["x"]},"items":[{"sku":1}],"n":null}';
  const found = parametersOf(
    '/a/7/b/9?x=1&y=&%C3%BC=a%40b.org&broken=%',
    '/a/{id}/b/{id}',
    ['Content-Type', 'application/json; charset=utf-8'],
    Buffer.from(json),
  );
  assert.deepEqual(
    found.map(({ place, name, kind, personal }) => `${place} ${name} ${kind} ${personal}`.trim()),
    [
      ...['path id integer', 'path id2 integer', 'query x integer', 'query y string'],
      ...['query ü email email', 'query broken string', 'body user object'],
      ...['body user.email email email', 'body user.tags array', 'body items array'],
      ...['body items[].sku integer', 'body n null'],
    ],
  );
  const form = parametersOf(
    '/',
    '/',
    ['content-type', 'application/x-www-form-urlencoded'],
    Buffer.from('a=1&b=true'),
  );
  assert.deepEqual(
    form.map(({ name, kind }) => [name, kind]),
    [
      ['a', 'integer'],
      ['b', 'boolean'],
    ],
  );
  const deep = Buffer.from('['.repeat(100_000));
  assert.deepEqual(parametersOf('/', '/', ['content-type', 'application/json'], deep), []);
});

test('fields and files of multipart bodies', () => {
  const field = 'Content-Disposition: form-data; name=';
  const lines = [
    ...['before', '--B', `${field}"mail"`, '', 'ann@example.org', '--B', `${field}n`, '', '7'],
    ...['--B', `${field}"f"; filename="a name=b.txt"`, 'Content-Type: text/plain', '', '12'],
    ...['--B', `${field.slice(0, -1)}*=UTF-8''%C3%BC`, '', '', '--B', 'X: name=y', '', '', '--B--'],
  ];
  const found = parametersOf(
    '/',
    '/',
    ['content-type', 'multipart/form-data; boundary=B'],
    Buffer.from(`${lines.join('\r\n')}\r\n`),
  );
  assert.deepEqual(
    found.map(({ place, name, kind, personal }) => `${place} ${name} ${kind} ${personal}`.trim()),
    ['body mail email email', 'body n integer', 'body f string', 'body ü string'],
  );
});

test('a part of a path is what stands there, whatever its route calls it', () => {
  const kinds = (target: string): readonly string[] =>
    parametersOf(target, routeOf(target), [], Buffer.alloc(0)).map(({ name, kind, personal }) =>
      `${name} ${kind} ${personal}`.trim(),
    );
  assert.deepEqual(kinds('/ip/10.0.0.3'), ['id string ip']);
  assert.deepEqual(kinds('/v/1.5;a=b/7.jpg?x'), ['id number', 'id2 integer', 'x string']);
  assert.deepEqual(kinds('http://h/o/6f1c0b52-3a3e-4f0a-9a83-0d9d5a7a8c11/items/order-1234'), [
    'uuid uuid',
    'id integer',
  ]);
  assert.deepEqual(kinds('/api/{tmpl}/{id}'), ['id string']);
});

test('an operation and its parameters are rows; a value is in none of them', () => {
  const fold = new Fold(apiCatalog);
  const catalog = new Catalog(fold);
  const request = message({ method: 'POST', target: '/u/77?mail=ann%40example.org' });
  const response = message({ status: 201, headers: ['content-type', 'application/json;x'] });
  catalog.add(SHOP, { request, response }, 5000);
  catalog.add(SHOP, { request, response: undefined }, 7000);
  const rows = rowsOf(fold);
  const whole = rows.filter(({ place }) => place === '');
  assert.deepEqual(
    whole.map((row) => [row.route, row.media_type, row.requests, row.status_2xx, row.unanswered]),
    [
      ['/u/{id}', 'application/json', 1, 1, 0],
      ['/u/{id}', '', 1, 0, 1],
    ],
  );
  const query = rows.find(({ place }) => place === 'query');
  assert.deepEqual(
    [query?.parameter, query?.kind, query?.personal, query?.requests],
    ['mail', 'email', 'email', 2],
  );
  assert.deepEqual([query?.first_seen, query?.last_seen], [5000, 7000]);
  assert.ok(!JSON.stringify(rows).includes('ann'));
});

test('names that clients make up have a limit', () => {
  const fold = new Fold(apiCatalog);
  const catalog = new Catalog(fold);
  for (let i = 0; i < 1000; i += 1) {
    catalog.add(SHOP, { request: message({ target: `/?n${i}=1` }), response: undefined }, 1);
  }
  const rows = rowsOf(fold);
  assert.equal(rows.length, 202);
  assert.equal(rows.find(({ parameter }) => parameter === '<other>')?.requests, 800);
  assert.equal(catalog.refused, 800);
});

test('the statistics lines have the names that operators know', () => {
  const names = captureStats.measures.map(({ name }, i) => [name, i + 1]);
  const totals = Object.fromEntries(names); // each value differs, so that a swapped one shows
  assert.equal(
    statsLine(totals),
    'stats {"ControlEventReceived":1,"DataEventReceived":2,"TotalRequestsParsed":3,' +
      '"ReqParsingErrors":4,"ResParsingErrors":5,"EventLost":6,"TotalRequestsSent":7,' +
      '"TotalEventsDroppedAtEventQueueLimit":8,"TotalEventsDroppedAtParsing":9,' +
      '"KprobeEventMaxQueueSizeTillNow":16}',
  );
  assert.equal(probeLine({ skb_in: [5, 4] }), 'probe stat {"skb_in":[5,4]}');
  const row = statsRow({ ...totals, control_events: 100 }, totals);
  assert.deepEqual([row[0], row[1], row[15]], [99, 0, 16]);
});
