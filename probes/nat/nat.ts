// The NAT probe as data; its kernel part is nat.bpf.h. It adds `dst_nat_ip` and `dst_nat_port` to the flows of others.

import type { Probe } from '../../src/table/probe.ts';
import { netflow } from '../netflow.ts';
import { packetVariants } from '../packets.ts';
import { natRecords } from './decode.ts';

export const nat: Probe = {
  name: 'nat',
  help: 'where outgoing flows go after destination NAT: dst_nat_ip and dst_nat_port of netflow and httpflow',
  tables: [netflow],
  enabled_variable: 'nat_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'destinations in the headers that are not those of the sockets',
      required: true,
      variants: packetVariants('NAT in another network namespace than the socket'),
    },
    {
      name: 'conntrack',
      help: 'what the host translates for containers, as its connection tracking tells',
      required: false,
      wanted: ({ nat }) => nat?.conntrack !== false,
      variants: [
        {
          name: 'netlink',
          programs: [],
          needs: [],
          misses: 'NAT in network namespaces that are neither the socket’s nor listened to',
        },
      ],
    },
  ],
  records: [natRecords],
  sweeps: [],
  own_maps: ['nat_peers', 'nat_services'],
};
