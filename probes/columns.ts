// Columns that several tables have in the same words.

import type { Dimension, Measure, Unit } from '../src/table/definition.ts';

/** Where the process behind a row is: of its cgroup. */
export const placeColumns: readonly Dimension[] = [
  {
    name: 'cgroup_path',
    type: 'string',
    help: 'path of the cgroup, from the root of its hierarchy',
  },
  { name: 'container_id', type: 'string', help: 'container, where the cgroup path names one' },
];

/** The process behind a socket, and where both are. */
export const socketOwnerColumns: readonly Dimension[] = [
  {
    name: 'pid',
    type: 'u32',
    help: 'process that reads and writes the socket, as the host numbers it; 0: unknown',
  },
  { name: 'process_name', type: 'string', help: 'file name of the executable; empty: unknown' },
  { name: 'process_executable_path', type: 'string', help: 'path of the executable' },
  { name: 'uid', type: 'u32', help: 'user id of the process, as the host numbers it' },
  { name: 'cgroup_id', type: 'u64', help: 'cgroup v2 id of the process; 0: unknown' },
  ...placeColumns,
  { name: 'netns', type: 'u32', help: 'network namespace: inode number; 0: unknown' },
];

/** Who is at which end of a flow: `src` is the local end. */
const endColumns: readonly Dimension[] = (['src', 'dst'] as const).flatMap((end) => {
  const who = end === 'src' ? 'the local end' : 'the peer';
  return [
    { name: `${end}_ip`, type: 'string', help: `address of ${who}` },
    { name: `${end}_port`, type: 'u16', help: `port of ${who}; 0: an ephemeral port, folded` },
    {
      name: `${end}_ip_type`,
      type: 'string',
      help: 'kind of the address: other, private, multicast',
    },
  ] satisfies Dimension[];
});

/** The network layer of a flow, and its ends. */
export const flowColumns: readonly Dimension[] = [
  {
    name: 'family',
    type: 'string',
    values: ['IPv4', 'IPv6', '', '<other>'],
    help: 'network layer protocol',
  },
  ...endColumns,
];

/** Of what is asked of a peer: its name. */
export const peerDomainColumn: Dimension = {
  name: 'dst_domain',
  type: 'string',
  help: 'domain that the peer was looked up by; empty: unknown, or the peer opened the connection',
};

/** Of what a socket asks of others: where NAT leads it. */
export const natColumns: readonly Dimension[] = [
  { name: 'dst_nat_ip', type: 'string', help: 'address after DNAT, of outgoing flows' },
  { name: 'dst_nat_port', type: 'u16', help: 'port after DNAT, of outgoing flows' },
];

/** What the reducer adds to both ends of a flow. */
export const kubernetesColumns: readonly Dimension[] = ['src', 'dst'].flatMap((end) =>
  ['namespace', 'pod_name', 'deployment_name', 'service_name'].map(
    (what): Dimension => ({
      name: `${end}_k8s_${what}`,
      type: 'string',
      help: `Kubernetes ${what.replace('_', ' ')} of the ${end === 'src' ? 'local end' : 'peer'}`,
    }),
  ),
);

export function sum(name: string, unit: Unit, help: string): Measure {
  return { name, type: 'u64', unit, fold: 'sum', help };
}
