// The table `dbflow`: commands to databases, as one end of a connection saw them, for one interval. Both ends of a command
// that stays on the machine have a row each. Filled by the sources `redis` and `postgresql`.

import { type Dimension, defineTable, type Measure } from '../src/table/definition.ts';
import { kubernetesColumns, socketOwnerColumns, sum } from './columns.ts';

const ADDRESS_TYPES = 'other, private, multicast';

const ends: readonly Dimension[] = (['src', 'dst'] as const).flatMap((end) => {
  const who = end === 'src' ? 'the local end' : 'the peer';
  return [
    { name: `${end}_ip`, type: 'string', help: `address of ${who}` },
    {
      name: `${end}_port`,
      type: 'u16',
      help: `port of ${who}; 0: an ephemeral port, folded`,
    },
    { name: `${end}_ip_type`, type: 'string', help: `kind of the address: ${ADDRESS_TYPES}` },
  ] satisfies Dimension[];
});

const dimensions: readonly Dimension[] = [
  {
    name: 'direction',
    type: 'string',
    values: ['incoming', 'outgoing', '<other>'],
    help: 'who sent the commands: the peer, or the local end',
  },
  {
    name: 'transport',
    type: 'string',
    values: ['tcp', '<other>'],
    help: 'transport layer protocol',
  },
  {
    name: 'family',
    type: 'string',
    values: ['IPv4', 'IPv6', '', '<other>'],
    help: 'network layer protocol',
  },
  ...ends,
  {
    name: 'dst_domain',
    type: 'string',
    help: 'domain that the peer was looked up by; empty: unknown, or the peer opened the connection',
  },
  ...socketOwnerColumns,
  { name: 'db_system_name', type: 'string', help: 'the database: redis, postgresql' },
  {
    name: 'db_operation_name',
    type: 'string',
    help: 'command of Redis, first word of a statement of SQL; empty: unknown; <other>: beyond the limit',
  },
  {
    name: 'error_type',
    type: 'string',
    help: 'first word of an error of Redis, SQLSTATE of PostgreSQL; empty: no error, or no answer',
  },
];

const measures: readonly Measure[] = [
  sum('count', '1', 'commands'),
  sum('bytes_read', 'By', 'bytes received: of commands by a server, else of answers'),
  sum('bytes_written', 'By', 'bytes sent'),
  {
    name: 'latency',
    type: 'u64',
    unit: 'ns',
    fold: 'histogram',
    help: 'from the first byte of the command to the first byte of its answer',
  },
  {
    name: 'latency_max',
    type: 'u64',
    unit: 'ns',
    fold: 'max',
    help: 'the longest of them',
  },
  sum('duration', 'ns', 'from the first byte of each command to the last byte of its answer'),
];

const enriched: readonly Dimension[] = [
  { name: 'sub_source', type: 'string', help: 'class of the flow: K8s for traffic of pods' },
  ...kubernetesColumns,
];

export const dbflow = defineTable({
  name: 'dbflow',
  help: 'commands to databases: each row is the view of one end, for one interval',
  kind: 'fold',
  dimensions,
  measures,
  enriched,
  rows_max: 65536,
});
