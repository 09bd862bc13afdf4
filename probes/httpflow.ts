// The table `httpflow`: requests of HTTP, as one end of a connection saw them, for one interval. Both ends of a request
// that stays on the machine have a row each. Filled by the sources `http`, `http2` and `tls`.

import { type Dimension, defineTable, type Measure } from '../src/table/definition.ts';
import {
  flowColumns,
  kubernetesColumns,
  natColumns,
  peerDomainColumn,
  socketOwnerColumns,
  sum,
} from './columns.ts';

const dimensions: readonly Dimension[] = [
  {
    name: 'direction',
    type: 'string',
    values: ['incoming', 'outgoing', 'unknown', '<other>'],
    help: 'who sent the requests: the peer, or the local end',
  },
  {
    name: 'transport',
    type: 'string',
    values: ['tcp', 'unix', '<other>'],
    help: 'transport layer protocol',
  },
  ...flowColumns,
  peerDomainColumn,
  ...natColumns,
  ...socketOwnerColumns,
  { name: 'method', type: 'string', help: 'method of the requests; <other>: beyond the limit' },
  {
    name: 'path',
    type: 'string',
    help: 'path without its query: as a route template, or as it was with collector.http.raw_path',
  },
  {
    name: 'route',
    type: 'string',
    help: 'path as a route template: what varies is {id}, {uuid}, {hash} …',
  },
  {
    name: 'status_code',
    type: 'u16',
    help: 'status of the response; 0: there was none, or it is unknown',
  },
  { name: 'http_version', type: 'string', help: '1.0, 1.1, 2; empty: unknown' },
  { name: 'rpc_system', type: 'string', help: 'grpc, of requests over HTTP/2; empty: none' },
  { name: 'rpc_service', type: 'string', help: 'service of a gRPC call, with its package' },
  { name: 'rpc_method', type: 'string', help: 'method of a gRPC call' },
  {
    name: 'rpc_grpc_status_code',
    type: 'string',
    help: 'grpc-status of a gRPC call, a number; empty: none was sent, or it is unknown',
  },
  { name: 'tls', type: 'u8', help: '1: seen as plain text within a TLS library' },
  {
    name: 'truncated',
    type: 'u8',
    help: '1: the path was longer than what is collected of it, and is cut',
  },
];

const measures: readonly Measure[] = [
  sum('count', '1', 'requests'),
  sum(
    'bytes_read',
    'By',
    'bytes of messages received: of requests by a server, else of responses; of HTTP/2 the bodies alone',
  ),
  sum('bytes_written', 'By', 'bytes of messages sent'),
  {
    name: 'latency',
    type: 'u64',
    unit: 'ns',
    fold: 'histogram',
    help: 'from the first byte of the request to the first byte of the response (TTFB)',
  },
  {
    name: 'latency_max',
    type: 'u64',
    unit: 'ns',
    fold: 'max',
    help: 'the longest of them',
  },
  sum('duration', 'ns', 'from the first byte of each request to the last byte of its response'),
];

const enriched: readonly Dimension[] = [
  { name: 'sub_source', type: 'string', help: 'class of the flow: K8s for traffic of pods' },
  ...kubernetesColumns,
];

export const httpflow = defineTable({
  name: 'httpflow',
  help: 'requests of HTTP: each row is the view of one end, for one interval',
  kind: 'fold',
  dimensions,
  measures,
  enriched,
  rows_max: 65536,
});
