// The table `dbflow`: commands to databases, as one end of a connection saw them, for one interval. Both ends of a command
// that stays on the machine have a row each. Filled by `redis`, `postgresql`, `mysql`.

import { type Dimension, defineTable, type Measure } from '../src/table/definition.ts';
import {
  flowColumns,
  kubernetesColumns,
  peerDomainColumn,
  socketOwnerColumns,
  sum,
} from './columns.ts';

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
  ...flowColumns,
  peerDomainColumn,
  ...socketOwnerColumns,
  { name: 'db_system_name', type: 'string', help: 'the database: redis, postgresql, mysql' },
  {
    name: 'db_operation_name',
    type: 'string',
    help: 'command of Redis or MySQL, first word of a statement of SQL; empty: unknown; <other>: beyond the limit',
  },
  {
    name: 'error_type',
    type: 'string',
    help: 'first word of an error of Redis, SQLSTATE of PostgreSQL, number of MySQL; empty: no error, or no answer',
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
