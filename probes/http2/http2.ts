// The HTTP/2 probe as data; its kernel part is http2.bpf.h, its records are decoded by decode.ts.

import type { Probe } from '../../src/table/probe.ts';
import { httpflow } from '../httpflow.ts';
import { packetVariants } from '../packets.ts';
import { http2Records } from './decode.ts';

export const http2: Probe = {
  name: 'http2',
  help: 'every HTTP/2 request in clear text, gRPC among them: method, route, status, sizes, times',
  tables: [httpflow],
  enabled_variable: 'http2_enabled',
  yields: 1,
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'frames',
      help: 'heads of frames and header blocks, from the packets of each socket',
      required: true,
      variants: packetVariants(),
    },
  ],
  sweeps: [],
  records: [http2Records],
  own_maps: ['http2_conns', 'http2_parked', 'http2_parking'],
  global_maps: ['http2_works'],
};
