// The table `netflow`: one row is one end's view of a flow, for one interval. Both the TCP and the UDP probe fill it.

import { type Dimension, defineTable, type Measure } from '../src/table/definition.ts';
import { flowColumns, kubernetesColumns, natColumns, socketOwnerColumns, sum } from './columns.ts';

const dimensions: readonly Dimension[] = [
  {
    name: 'direction',
    type: 'string',
    values: ['incoming', 'outgoing', 'unknown', '<other>'],
    help: 'who opened the connection (UDP: who sent first): the peer, or the local end',
  },
  {
    name: 'transport',
    type: 'string',
    values: ['tcp', 'udp', '<other>'],
    help: 'transport layer protocol',
  },
  ...flowColumns,
  ...socketOwnerColumns,
  {
    name: 'error_type',
    type: 'string',
    help: 'why a connect failed: ECONNREFUSED …, abandoned (by its program), not_sent (no route, or no leave); empty: it did not',
  },
  {
    name: 'dst_domain',
    type: 'string',
    help: 'domain that the peer was looked up by, of outgoing flows',
  },
  ...natColumns,
];

const measures: readonly Measure[] = [
  sum('bytes_read', 'By', 'bytes received'),
  sum('bytes_written', 'By', 'bytes sent, repeats not counted'),
  sum('packets_read', '1', 'segments or datagrams received'),
  sum('packets_written', '1', 'segments or datagrams sent'),
  sum('retransmits', '1', 'segments sent again'),
  {
    name: 'rtt',
    type: 'u64',
    unit: 'us',
    fold: 'mean',
    weight: 'rtt_samples',
    help: 'smoothed round trip time',
  },
  {
    name: 'rtt_var',
    type: 'u64',
    unit: 'us',
    fold: 'mean',
    weight: 'rtt_samples',
    help: 'its mean deviation',
  },
  sum('rtt_samples', '1', 'reports that carried a round trip time'),
  sum('tcp_established', '1', 'connections established, or found open at start'),
  sum('tcp_closed', '1', 'connections ended'),
  sum('connect_failures', '1', 'connects that failed; error_type says why'),
  {
    name: 'connect_latency',
    type: 'u64',
    unit: 'ns',
    fold: 'histogram',
    help: 'from SYN to established',
  },
  sum('resets_sent', '1', 'connections that this end reset'),
  sum('resets_received', '1', 'connections that the peer reset'),
  sum(
    'preexisting',
    '1',
    'connections that are older than sonde, in the row that first names them',
  ),
  sum('bytes_read_before_start', 'By', 'part of bytes_read that came before sonde started'),
  sum('bytes_written_before_start', 'By', 'part of bytes_written that went before sonde started'),
];

const enriched: readonly Dimension[] = [
  { name: 'sub_source', type: 'string', help: 'class of the flow: K8s for traffic of pods' },
  ...kubernetesColumns,
];

export const netflow = defineTable({
  name: 'netflow',
  help: 'connections and flows: each row is the view of one end, for one interval',
  kind: 'fold',
  dimensions,
  measures,
  enriched,
  rows_max: 65536,
});
