// The rows of the cgroup probe.

import { defineTable } from '../../src/table/definition.ts';

export const cgroup_packets = defineTable({
  name: 'cgroup_packets',
  help: 'packets of the sockets of each cgroup v2, of one interval',
  kind: 'fold',
  dimensions: [
    {
      name: 'direction',
      type: 'string',
      values: ['ingress', 'egress', '<other>'],
      help: 'ingress: to the processes of the cgroup; egress: from them',
    },
    {
      name: 'family',
      type: 'string',
      values: ['IPv4', 'IPv6', '<other>'],
      help: 'network layer protocol of the packet',
    },
    { name: 'cgroup_id', type: 'u64', help: 'cgroup v2 id; 0: unknown' },
    { name: 'cgroup_path', type: 'string', help: 'path from the root of the hierarchy' },
    { name: 'container_id', type: 'string', help: 'container, where the path names one' },
    { name: 'k8s_pod_uid', type: 'string', help: 'pod of Kubernetes, where the path names one' },
  ],
  measures: [
    {
      name: 'packets',
      type: 'u64',
      unit: '1',
      fold: 'sum',
      help: 'packets as the kernel hands them over: one may hold many segments (GSO, GRO)',
    },
    {
      name: 'bytes',
      type: 'u64',
      unit: 'By',
      fold: 'sum',
      help: 'bytes of these packets, from the network header on',
    },
    {
      name: 'segments',
      type: 'u64',
      unit: '1',
      fold: 'sum',
      help: 'segments in these packets: what goes over a wire',
    },
  ],
  rows_max: 65536,
});
