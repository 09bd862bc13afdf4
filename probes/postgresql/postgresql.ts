// The PostgreSQL probe as data; its kernel part is probes/db/db.bpf.h, its records are decoded by probes/db/decode.ts.

import type { Probe } from '../../src/table/probe.ts';
import { dbRecords } from '../db/decode.ts';
import { dbflow } from '../dbflow.ts';
import { packetVariants } from '../packets.ts';

export const postgresql: Probe = {
  name: 'postgresql',
  help: 'every statement to PostgreSQL in clear text, at both ends: first word, SQLSTATE, bytes, times',
  enabled_default: false,
  tables: [dbflow],
  enabled_variable: 'postgresql_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'every packet from or to a port of PostgreSQL',
      required: true,
      variants: packetVariants('PostgreSQL over TLS and over Unix sockets'),
    },
  ],
  sweeps: [],
  records: [dbRecords],
  constants: ({ postgresql: at }) =>
    Object.fromEntries([0, 1, 2, 3].map((i) => [`postgresql_port_${i}`, at?.ports[i] ?? 0])),
};
