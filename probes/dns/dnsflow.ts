// The table `dnsflow`: one row is one end's view of the queries for one name and type, for one interval.

import { type Dimension, defineTable, type Measure } from '../../src/table/definition.ts';
import { kubernetesColumns, placeColumns, sum } from '../columns.ts';

const ADDRESS_TYPES = 'other, private, multicast';

const dimensions: readonly Dimension[] = [
  {
    name: 'direction',
    type: 'string',
    values: ['incoming', 'outgoing', '<other>'],
    help: 'who asked: the peer, or the local end',
  },
  {
    name: 'transport',
    type: 'string',
    values: ['udp', 'tcp', '<other>'],
    help: 'transport layer protocol',
  },
  {
    name: 'family',
    type: 'string',
    values: ['IPv4', 'IPv6', '', '<other>'],
    help: 'network layer protocol',
  },
  { name: 'src_ip', type: 'string', help: 'address of the local end' },
  { name: 'src_port', type: 'u16', help: 'port of the local end; 0: an ephemeral port, folded' },
  { name: 'src_ip_type', type: 'string', help: `kind of the address: ${ADDRESS_TYPES}` },
  { name: 'dst_ip', type: 'string', help: 'address of the peer' },
  { name: 'dst_port', type: 'u16', help: 'port of the peer; 0: an ephemeral port, folded' },
  { name: 'dst_ip_type', type: 'string', help: `kind of the address: ${ADDRESS_TYPES}` },
  {
    name: 'rcode',
    type: 'i32',
    help: 'response code: 0 NoError, 1 FormErr, 2 ServFail, 3 NXDomain, 4 NotImp, 5 Refused …; -1: timed out',
  },
  { name: 'domain', type: 'string', help: 'name that was asked for, in lower case' },
  { name: 'query_type', type: 'string', help: 'type of record that was asked for: A, AAAA …' },
  {
    name: 'pid',
    type: 'u32',
    help: 'process that asked, or of an incoming query the one that answered; 0: unknown',
  },
  { name: 'process_name', type: 'string', help: 'file name of its executable; empty: unknown' },
  { name: 'cgroup_id', type: 'u64', help: 'cgroup v2 id of the process; 0: unknown' },
  ...placeColumns,
  { name: 'netns', type: 'u32', help: 'network namespace: inode number; 0: unknown' },
  {
    name: 'dst_domain',
    type: 'string',
    help: 'domain that the peer, as a resolver, was itself looked up by; of outgoing queries',
  },
];

const measures: readonly Measure[] = [
  sum('count', '1', 'queries that were answered or timed out, each transmission once'),
  {
    name: 'latency',
    type: 'u64',
    unit: 'ns',
    fold: 'mean',
    weight: 'latency_samples',
    help: 'from the query to its answer',
  },
  { name: 'latency_max', type: 'u64', unit: 'ns', fold: 'max', help: 'the longest of these' },
  sum('latency_samples', '1', 'queries whose answer was seen, and the query as well'),
  {
    name: 'latency_distribution',
    type: 'u64',
    unit: 'ns',
    fold: 'histogram',
    help: 'from the query to its answer',
  },
  sum('truncated', '1', 'answers with the flag TC: the client is to ask again over TCP'),
  sum('retransmits', '1', 'queries that repeat one which had no answer yet'),
  sum('late_answers', '1', 'answers that came after their query had timed out'),
  sum(
    'unmatched',
    '1',
    'of `count`: answers whose query was not seen, as when it was older than sonde',
  ),
  sum('bytes_query', 'By', 'length of the queries'),
  sum('bytes_answer', 'By', 'length of the answers'),
];

const enriched: readonly Dimension[] = [
  { name: 'sub_source', type: 'string', help: 'class of the flow: K8s for traffic of pods' },
  ...kubernetesColumns,
];

export const dnsflow = defineTable({
  name: 'dnsflow',
  help: 'DNS queries with their answers: each row is the view of one end, for one interval',
  kind: 'fold',
  dimensions,
  measures,
  enriched,
  rows_max: 32_768,
});
