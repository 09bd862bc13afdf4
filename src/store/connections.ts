// Where the two ends of a connection meet. A row of `netflow` is one end's view; both ends' rows carry the same key here:
// client address, server address, server port, transport. A loopback address names another thing on every host and in
// every network namespace, so that for it these two are part of the key.

import type { TableDefinition } from '../table/definition.ts';
import type { Dependent, StoreColumn, StoreTable } from './shape.ts';
import { identifier } from './sql.ts';

export const CONNECTIONS = 'connections';

/** Columns without which a table has no connections to speak of. */
const NEEDED = [
  'direction',
  'src_ip',
  'src_port',
  'dst_ip',
  'dst_port',
  'transport',
  'bytes_read',
  'bytes_written',
] as const;

/** Names of a dimension that one key may gather; the first to come stay. */
const NAMES_MAX = 16;

const CLIENT = "s.direction = 'outgoing'";
const SERVER = "s.direction = 'incoming'";

const KEYS = ['client_ip', 'server_ip', 'server_port', 'transport', 'scope_host', 'scope_netns'];

/** What each side counts: `[column, measure of the table]`. */
const SUMS = [
  ['bytes_sent', 'bytes_written'],
  ['bytes_received', 'bytes_read'],
  ['packets_sent', 'packets_written'],
  ['packets_received', 'packets_read'],
  ['retransmits', 'retransmits'],
  ['connections', 'tcp_established'],
  ['closed', 'tcp_closed'],
  ['connect_failures', 'connect_failures'],
] as const;

/** What each side is called: `[column, dimension of the table]`. */
const NAMES = [
  ['processes', 'process_name'],
  ['containers', 'container_id'],
  ['domains', 'dst_domain'],
] as const;

/** The view over `def`, if it has the columns of a flow. */
export function connectionsDependent(def: TableDefinition, ttl_s: number): Dependent | undefined {
  const names = columnNames(def);
  if (def.name !== 'netflow' || !NEEDED.every((name) => names.has(name))) return undefined;
  const parts = [...sideParts('client', CLIENT, names), ...sideParts('server', SERVER, names)];
  const list = [
    "toStartOfMinute(s.time, 'UTC') AS time",
    ...keyExpressions(names),
    ...parts.map((part) => `${part.select} AS ${identifier(part.column.name)}`),
  ].join(',\n  ');
  const select = (where?: string) =>
    `SELECT ${list}\nFROM ${identifier(def.name)} AS s\n` +
    `WHERE s.direction IN ('outgoing', 'incoming')${where === undefined ? '' : ` AND (${where})`}\n` +
    `GROUP BY time, ${KEYS.join(', ')}`;
  const table = connectionsTable(
    parts.map((part) => part.column),
    ttl_s,
  );
  return { table, view: `${CONNECTIONS}_mv`, bucket_s: 60, select };
}

function columnNames(def: TableDefinition): ReadonlySet<string> {
  const all = [...def.dimensions, ...(def.enriched ?? []), ...def.measures];
  return new Set(all.map((column) => column.name));
}

function keyExpressions(names: ReadonlySet<string>): readonly string[] {
  // After address translation, the far end knows itself by the translated address.
  const dst_ip = names.has('dst_nat_ip')
    ? "if(s.dst_nat_ip != '', s.dst_nat_ip, s.dst_ip)"
    : 's.dst_ip';
  const dst_port = names.has('dst_nat_port')
    ? 'if(s.dst_nat_port != 0, s.dst_nat_port, s.dst_port)'
    : 's.dst_port';
  // By either end: a redirection to this host leads from an address of the wire to the loopback one.
  const local = (ip: string) => `startsWith(${ip}, '127.') OR ${ip} = '::1'`;
  const loopback = `(${local('s.src_ip')} OR ${local(dst_ip)})`;
  const netns = names.has('netns') ? `if(${loopback}, toUInt64(s.netns), 0)` : 'toUInt64(0)';
  return [
    `if(${CLIENT}, s.src_ip, s.dst_ip) AS client_ip`,
    `if(${CLIENT}, ${dst_ip}, s.src_ip) AS server_ip`,
    `toUInt16(if(${CLIENT}, ${dst_port}, s.src_port)) AS server_port`,
    's.transport AS transport',
    `if(${loopback}, s.host, '') AS scope_host`,
    `${netns} AS scope_netns`,
  ];
}

interface SidePart {
  readonly column: StoreColumn;
  readonly select: string;
}

function sideParts(side: string, test: string, names: ReadonlySet<string>): readonly SidePart[] {
  const parts: SidePart[] = [];
  for (const [name, measure] of SUMS) {
    if (!names.has(measure)) continue;
    parts.push({
      column: {
        name: `${side}_${name}`,
        type: 'SimpleAggregateFunction(sum, UInt64)',
        comment: `Sum of ${measure} as the ${side} counted it`,
      },
      select: `sumIf(s.${identifier(measure)}, ${test})`,
    });
  }
  for (const [name, dimension] of NAMES) {
    if (!names.has(dimension)) continue;
    parts.push(namesPart(`${side}_${name}`, `s.${identifier(dimension)}`, side, test));
  }
  parts.push(namesPart(`${side}_hosts`, 's.host', side, test));
  return parts;
}

function namesPart(name: string, column: string, side: string, test: string): SidePart {
  return {
    column: {
      name,
      type: `SimpleAggregateFunction(groupUniqArrayArray(${NAMES_MAX}), Array(String))`,
      comment: `At most ${NAMES_MAX} names seen on the ${side}'s side`,
    },
    select: `groupUniqArrayIf(${NAMES_MAX})(toString(${column}), ${test} AND ${column} != '')`,
  };
}

function connectionsTable(columns: readonly StoreColumn[], ttl_s: number): StoreTable {
  const text = 'LowCardinality(String)';
  const order = [
    'server_ip',
    'server_port',
    'client_ip',
    'time',
    'transport',
    'scope_host',
    'scope_netns',
  ];
  return {
    name: CONNECTIONS,
    columns: [
      { name: 'time', type: "DateTime('UTC')", comment: 'Start of the minute' },
      { name: 'client_ip', type: text, comment: 'Address of the end that opened it' },
      { name: 'server_ip', type: text, comment: 'Address of the other, after translation' },
      { name: 'server_port', type: 'UInt16', comment: 'Port of the server' },
      { name: 'transport', type: text, comment: 'As in netflow' },
      { name: 'scope_host', type: text, comment: 'For loopback: the host' },
      { name: 'scope_netns', type: 'UInt64', comment: 'For loopback: the network namespace' },
      ...columns,
    ],
    engine: 'AggregatingMergeTree',
    partition: 'toMonday(time)',
    primary: order.slice(0, 4),
    order,
    ttl_s,
    comment: 'Connections: both ends of netflow under one key, by minute',
  };
}
