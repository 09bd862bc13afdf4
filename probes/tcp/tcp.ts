// The TCP probe as data; its kernel part is tcp.bpf.h, its rows are decoded by probes/netflow.ts.

import type { Probe } from '../../src/table/probe.ts';
import { flowRecords } from '../flow.ts';
import { netflow } from '../netflow.ts';

const LATE =
  'the owner of an accepted socket that only writes is known when it closes; ' +
  'the first read of a new owner counts as of the former one';

export const tcp: Probe = {
  name: 'tcp',
  help: 'every TCP connection of the host: who, with whom, how much, how long to connect, why it failed',
  tables: [netflow],
  enabled_variable: 'tcp_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'connections',
      help: 'begin and end of every connection',
      required: true,
      variants: [
        {
          name: 'tp_btf',
          programs: ['tcp_state', 'tcp_destroy'],
          needs: ['tp:inet_sock_set_state', 'atomics'],
        },
        {
          name: 'tp_btf without atomics',
          programs: ['tcp_state_510', 'tcp_destroy_510'],
          needs: ['tp:inet_sock_set_state', 'no-atomics'],
          misses: 'two reports of one connection within 50 ns of each other may count twice',
        },
      ],
    },
    {
      name: 'owner',
      help: 'which process reads and writes',
      required: true,
      variants: [
        {
          name: 'socket calls',
          programs: ['sock_recv', 'sock_send'],
          needs: ['tp:sock_recv_length', 'tp:sock_send_length', 'atomics'],
        },
        {
          name: 'receive window',
          programs: ['tcp_read'],
          needs: ['tp:tcp_rcv_space_adjust', 'atomics'],
          misses: LATE,
        },
        {
          name: 'receive window without atomics',
          programs: ['tcp_read_510'],
          needs: ['tp:tcp_rcv_space_adjust', 'no-atomics'],
          misses: LATE,
        },
      ],
    },
    {
      name: 'unsent',
      help: 'connects that fail before a SYN: no route, or no leave',
      required: false,
      variants: [
        {
          name: 'control group',
          programs: ['tcp_connect4', 'tcp_connect6', 'tcp_unsent'],
          needs: ['right:CAP_NET_ADMIN', 'atomics'],
          misses: 'why they fail',
        },
      ],
    },
    {
      name: 'live',
      help: 'what open connections did so far, each interval',
      required: false,
      variants: [
        { name: 'map walk', programs: ['tcp_sweep'], needs: ['atomics'] },
        { name: 'map walk without atomics', programs: ['tcp_sweep_510'], needs: ['no-atomics'] },
      ],
    },
    {
      name: 'older',
      help: 'connections that were open before sonde',
      required: false,
      variants: [
        { name: 'open files', programs: ['files_sweep'], needs: ['btf:bpf_iter__task_file'] },
      ],
    },
    {
      name: 'resets',
      help: 'RST sent and received',
      required: false,
      variants: [
        {
          name: 'tp_btf',
          programs: ['tcp_reset_in', 'tcp_reset_out'],
          needs: ['tp:tcp_receive_reset', 'tp:tcp_send_reset'],
        },
      ],
    },
  ],
  sweeps: [
    { programs: ['files_sweep'], when: 'start' },
    { programs: ['tcp_unsent'], map: 'tcp_attempts', when: 'interval' },
    { programs: ['tcp_sweep', 'tcp_sweep_510'], map: 'tcp_conns', when: 'interval' },
  ],
  records: [flowRecords],
  map_entries: ({ maps }) => ({ tcp_conns: maps.sockets_max }),
};
