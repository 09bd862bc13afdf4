// The UDP probe as data; its kernel part is udp.bpf.h, its rows are decoded by probes/netflow.ts.

import type { Probe } from '../../src/table/probe.ts';
import { flowRecords } from '../flow.ts';
import { level_source } from '../layout.gen.ts';
import { netflow } from '../netflow.ts';

const MISSES =
  'datagrams that a full receive buffer drops are counted as read; ' +
  'what two processes read of one peer with one socket counts for the last of them';

export const udp: Probe = {
  name: 'udp',
  help: 'every UDP flow of the host: a socket and a peer, with what the programs sent and received',
  tables: [netflow],
  enabled_variable: 'udp_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'datagrams',
      help: 'every datagram sent and received, and by whom',
      required: true,
      variants: [
        {
          name: 'socket calls',
          programs: [
            'sock_recv',
            'sock_send',
            'udp_sendmsg4',
            'udp_sendmsg6',
            'udp_recvmsg4',
            'udp_recvmsg6',
          ],
          needs: ['tp:sock_recv_length', 'tp:sock_send_length', 'atomics'],
          misses:
            'the peer of a datagram that an unconnected socket reads without asking who sent it',
        },
        {
          name: 'packets',
          programs: ['udp_egress', 'udp_ingress', 'udp_owner4', 'udp_owner6'],
          needs: ['atomics'],
          misses: MISSES,
        },
        {
          name: 'packets without atomics',
          programs: ['udp_egress_510', 'udp_ingress', 'udp_owner4', 'udp_owner6'],
          needs: ['no-atomics'],
          misses: MISSES,
        },
      ],
    },
    {
      name: 'report',
      help: 'what each flow did so far, each interval',
      required: true,
      variants: [
        { name: 'map walk', programs: ['udp_sweep'], needs: ['atomics'] },
        { name: 'map walk without atomics', programs: ['udp_sweep_510'], needs: ['no-atomics'] },
      ],
    },
  ],
  reducible: {
    slot: level_source.LEVEL_UDP,
    steps: [
      {
        name: 'totals',
        help: 'all datagrams and bytes, by direction alone, in rows with <other>; no flows',
      },
    ],
  },
  sweeps: [{ programs: ['udp_sweep', 'udp_sweep_510'], map: 'udp_flows', when: 'interval' }],
  records: [flowRecords],
  map_entries: ({ maps }) => ({ udp_flows: Math.ceil(maps.sockets_max / 2) }),
};
