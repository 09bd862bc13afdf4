// The table of requests, until the probe `http` brings it.

import { type Dimension, defineTable, type Measure } from '../../src/table/definition.ts';

const dimensions: readonly Dimension[] = [
  { name: 'direction', type: 'string', help: 'incoming: this end serves' },
  { name: 'family', type: 'string', help: 'network layer protocol' },
  { name: 'src_ip', type: 'string', help: 'address of the local end' },
  { name: 'src_port', type: 'u16', help: 'port of the local end; 0: an ephemeral port, folded' },
  { name: 'dst_ip', type: 'string', help: 'address of the peer' },
  { name: 'dst_port', type: 'u16', help: 'port of the peer; 0: an ephemeral port, folded' },
  { name: 'pid', type: 'u32', help: 'process' },
  { name: 'process_name', type: 'string', help: 'file name of the executable' },
  { name: 'method', type: 'string', help: 'method' },
  { name: 'path', type: 'string', help: 'route template' },
  { name: 'status_code', type: 'u16', help: 'status; 0: none' },
  { name: 'http_version', type: 'string', help: 'version' },
  { name: 'rpc_system', type: 'string', help: 'grpc' },
  { name: 'rpc_service', type: 'string', help: 'service of gRPC' },
  { name: 'rpc_method', type: 'string', help: 'method of gRPC' },
  { name: 'rpc_grpc_status_code', type: 'string', help: 'status of gRPC' },
];

const measures: readonly Measure[] = [
  { name: 'requests', type: 'u64', unit: '1', fold: 'sum', help: 'requests' },
  { name: 'bytes_request', type: 'u64', unit: 'By', fold: 'sum', help: 'bytes of bodies' },
  { name: 'bytes_response', type: 'u64', unit: 'By', fold: 'sum', help: 'bytes of bodies' },
];

export const requests = defineTable({
  name: 'httpflow',
  help: 'requests',
  kind: 'fold',
  dimensions,
  measures,
  rows_max: 65536,
});
