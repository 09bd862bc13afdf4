// What the reducer knows besides: each enricher gets a batch and gives one back, the same if it has nothing to say. Work is
// done once a distinct text of a dictionary, not once a row.

import { BlockList, isIP } from 'node:net';
import { type Batch, isStringColumn, type StringColumn } from '../table/columns.ts';
import type { TableDefinition } from '../table/definition.ts';

export interface Enricher {
  readonly name: string;
  enrich(batch: Batch): Batch;
}

const extended = new WeakMap<TableDefinition, TableDefinition>();

/** The definition with its enriched columns among the dimensions: that of a batch that an enricher widened. */
export function enrichedDefinition(def: TableDefinition): TableDefinition {
  const known = extended.get(def);
  if (known !== undefined) return known;
  const { enriched, ...rest } = def;
  const wide = { ...rest, dimensions: [...def.dimensions, ...(enriched ?? [])] };
  extended.set(def, wide);
  return wide;
}

/** A column of texts derived from another, where it is empty; undefined if nothing is. */
export function fillEmpty(
  target: StringColumn,
  source: StringColumn,
  derive: (text: string) => string,
): StringColumn | undefined {
  const empty = target.dictionary.indexOf('');
  if (empty < 0 || !target.ids.includes(empty)) return undefined;
  const dictionary = [...target.dictionary];
  const index = new Map(dictionary.map((text, id) => [text, id]));
  const derived = source.dictionary.map((text) => {
    const value = derive(text);
    const id = index.get(value) ?? dictionary.push(value) - 1;
    index.set(value, id);
    return id;
  });
  const ids = Int32Array.from(target.ids, (id, row) =>
    id === empty ? derived[source.ids[row]!]! : id,
  );
  return { ids, dictionary };
}

const PRIVATE = new BlockList();
for (const [address, bits] of [
  ['10.0.0.0', 8],
  ['127.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['169.254.0.0', 16],
  ['100.64.0.0', 10],
] as const) {
  PRIVATE.addSubnet(address, bits, 'ipv4');
}
PRIVATE.addSubnet('fc00::', 7, 'ipv6');
PRIVATE.addSubnet('fe80::', 10, 'ipv6');
PRIVATE.addAddress('::1', 'ipv6');

const MULTICAST = new BlockList();
MULTICAST.addSubnet('224.0.0.0', 4, 'ipv4');
MULTICAST.addSubnet('ff00::', 8, 'ipv6');

/** `private`, `multicast` or `other`, as the probes say it; empty for what is no address. */
export function addressType(text: string): string {
  const version = isIP(text);
  if (version === 0) return '';
  const family = version === 4 ? 'ipv4' : 'ipv6';
  if (PRIVATE.check(text, family)) return 'private';
  return MULTICAST.check(text, family) ? 'multicast' : 'other';
}

/** Fills `src_ip_type` and `dst_ip_type` for clients that do not: our own probes say it themselves. */
export const addressTypes: Enricher = {
  name: 'address_types',
  enrich: (batch) => fillType(fillType(batch, 'src_ip'), 'dst_ip'),
};

function fillType(batch: Batch, name: string): Batch {
  const { dimensions } = batch.definition;
  const at = dimensions.findIndex((dimension) => dimension.name === `${name}_type`);
  const from = dimensions.findIndex((dimension) => dimension.name === name);
  const target = batch.dimensions[at];
  const source = batch.dimensions[from];
  if (target === undefined || source === undefined) return batch;
  if (!isStringColumn(target) || !isStringColumn(source)) return batch;
  const filled = fillEmpty(target, source, addressType);
  if (filled === undefined) return batch;
  return { ...batch, dimensions: batch.dimensions.with(at, filled) };
}
