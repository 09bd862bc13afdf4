// The Redis probe as data; its kernel part is probes/db/db.bpf.h, its records are decoded by probes/db/decode.ts.

import type { Probe } from '../../src/table/probe.ts';
import { dbRecords } from '../db/decode.ts';
import { dbflow } from '../dbflow.ts';
import { packetVariants } from '../packets.ts';

export const redis: Probe = {
  name: 'redis',
  help: 'every command to Redis in clear text, at both ends: name, error, bytes, times',
  enabled_default: false,
  tables: [dbflow],
  enabled_variable: 'redis_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'every packet from or to a port of Redis',
      required: true,
      variants: packetVariants('Redis over TLS and over Unix sockets'),
    },
  ],
  sweeps: [],
  records: [dbRecords],
  constants: ({ redis: at }) =>
    Object.fromEntries([0, 1, 2, 3].map((i) => [`redis_port_${i}`, at?.ports[i] ?? 0])),
};
