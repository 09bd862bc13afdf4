// The HTTP probe as data; its kernel part is http.bpf.h, its rows are decoded by decode.ts.

import type { Probe } from '../../src/table/probe.ts';
import { httpflow } from '../httpflow.ts';
import { pair } from '../kernel_maps.ts';
import { httpRecords } from './decode.ts';
import { httpConstants, httpTotals } from './totals.ts';

export const http: Probe = {
  name: 'http',
  help: 'every request of HTTP/1 in clear text, at both ends: method, path, status, bytes, times',
  tables: [httpflow],
  enabled_variable: 'http_enabled',
  yields: 3,
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'what sockets send and receive, and when they close',
      required: true,
      variants: [
        {
          name: 'cgroup_skb',
          programs: ['skb_in', 'skb_out', 'tcp_state', 'tcp_destroy'],
          needs: ['tp:inet_sock_set_state', 'atomics'],
        },
      ],
    },
    {
      name: 'report',
      help: 'what each connection did so far, each interval',
      required: true,
      variants: [
        {
          name: 'map walk',
          programs: ['http_sweep', 'http_slot_sweep', 'http_rest_sweep'],
          needs: ['atomics'],
        },
      ],
    },
  ],
  sweeps: [
    { programs: ['http_sweep'], map: 'http_conns', when: 'interval' },
    { programs: ['http_slot_sweep'], map: 'http_slots', when: 'interval' },
    { programs: ['http_rest_sweep'], map: 'http_rests', when: 'interval' },
  ],
  records: [httpRecords],
  map_sources: [httpTotals],
  map_entries: ({ maps }) => ({ http_conns: Math.ceil(maps.sockets_max / 4) }),
  own_maps: ['http_slots', 'http_conns', 'http_spares', 'http_blank', 'http_parked'],
  global_maps: pair(httpTotals.map),
  constants: httpConstants,
};
