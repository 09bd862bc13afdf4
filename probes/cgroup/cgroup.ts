// The cgroup probe as data; its kernel part is cgroup.bpf.h, its decoders are in decode.ts.

import type { Probe } from '../../src/table/probe.ts';
import { frontOf } from '../kernel_maps.ts';
import { packetVariants } from '../packets.ts';
import { cgroupGone, cgroupMade, cgroupRest, cgroupTraffic } from './decode.ts';
import { cgroup_packets } from './table.ts';

export const cgroup: Probe = {
  name: 'cgroup',
  help: 'packets and bytes of every pod, container and other cgroup, both ways',
  enabled_default: true,
  tables: [cgroup_packets],
  enabled_variable: 'cgroup_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'every packet that a socket sends or is to get',
      required: true,
      variants: packetVariants(
        'packets without a socket: forwarded, refused, of connections in TIME_WAIT',
      ),
    },
    {
      name: 'names',
      help: 'paths of cgroups that are gone before the interval ends',
      required: false,
      variants: [
        {
          name: 'tp_btf',
          programs: ['cgroup_mkdir', 'cgroup_release'],
          needs: ['tp:cgroup_mkdir', 'tp:cgroup_release'],
        },
      ],
    },
  ],
  sweeps: [],
  // In this order: names before what is counted under them, and forgotten last.
  map_sources: [cgroupMade, cgroupTraffic, cgroupRest, cgroupGone],
  own_maps: [
    'cgroup_traffic_0',
    'cgroup_traffic_1',
    frontOf('cgroup_traffic'),
    'cgroup_rest_0',
    'cgroup_rest_1',
    'cgroup_made',
    'cgroup_gone',
  ],
};
