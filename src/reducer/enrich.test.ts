import assert from 'node:assert/strict';
import { test } from 'node:test';
import { netflow } from '../../probes/netflow.ts';
import { flowArrow } from '../store/testing.ts';
import { decodeBatch } from '../table/batch.ts';
import { type Batch, isStringColumn } from '../table/columns.ts';
import { addressType, addressTypes, enrichedDefinition } from './enrich.ts';

function batchOf(rows: Parameters<typeof flowArrow>[0]): Batch {
  const decoded = decodeBatch(flowArrow(rows, 0), () => netflow);
  assert.ok(decoded.ok);
  return decoded.batch;
}

function texts(batch: Batch, name: string): readonly string[] {
  const column = batch.dimensions[netflow.dimensions.findIndex((each) => each.name === name)];
  assert.ok(column !== undefined && isStringColumn(column));
  return Array.from(column.ids, (id) => column.dictionary[id]!);
}

test('addresses are private, multicast or other, and texts that are none stay empty', () => {
  const cases: Readonly<Record<string, string>> = {
    '10.255.0.1': 'private',
    '172.15.0.1': 'other',
    '172.31.255.255': 'private',
    '100.64.0.1': 'private',
    '100.128.0.1': 'other',
    '127.9.9.9': 'private',
    '224.0.0.1': 'multicast',
    '240.0.0.1': 'other',
    '::1': 'private',
    '::': 'other',
    'fd00::1': 'private',
    'fe80::1': 'private',
    'ff02::1': 'multicast',
    '2001:db8::1': 'other',
    '<other>': '',
    '': '',
  };
  for (const [address, type] of Object.entries(cases)) {
    assert.equal(addressType(address), type, address);
  }
});

test('only empty types are filled, by row', () => {
  const batch = batchOf([
    { src_ip: '10.0.0.1', dst_ip: '8.8.8.8', dst_ip_type: 'said' },
    { src_ip: '8.8.4.4', dst_ip: '224.0.0.9' },
    { src_ip: '10.0.0.1', dst_ip: '', pid: 7 },
  ]);
  const result = addressTypes.enrich(batch);
  assert.deepEqual(texts(result, 'src_ip_type'), ['private', 'other', 'private']);
  assert.deepEqual(texts(result, 'dst_ip_type'), ['said', 'multicast', '']);
  assert.deepEqual(texts(batch, 'src_ip_type'), ['', '', '']);
});

test('a batch that says it all is given back as it is', () => {
  const batch = batchOf([{ src_ip: 'x', src_ip_type: 'a', dst_ip: 'y', dst_ip_type: 'b' }]);
  assert.equal(addressTypes.enrich(batch), batch);
});

test('the widened definition is one object, with the enriched columns last', () => {
  const wide = enrichedDefinition(netflow);
  assert.equal(wide, enrichedDefinition(netflow));
  assert.equal(wide.enriched, undefined);
  const names = (netflow.enriched ?? []).map(({ name }) => name);
  assert.deepEqual(
    wide.dimensions.slice(-names.length).map(({ name }) => name),
    names,
  );
});
