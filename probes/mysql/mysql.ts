// The MySQL probe as data; its kernel part is probes/db/db.bpf.h, its records are decoded by probes/db/decode.ts.

import type { Probe } from '../../src/table/probe.ts';
import { dbRecords } from '../db/decode.ts';
import { dbflow } from '../dbflow.ts';
import { packetVariants } from '../packets.ts';

export const mysql: Probe = {
  name: 'mysql',
  help: 'every command to MySQL or MariaDB in clear text, at both ends: first word, error, bytes, times',
  enabled_default: false,
  tables: [dbflow],
  enabled_variable: 'mysql_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'],
  parts: [
    {
      name: 'packets',
      help: 'every packet from or to a port of MySQL',
      required: true,
      variants: packetVariants('MySQL over TLS, compressed, and over Unix sockets'),
    },
  ],
  sweeps: [],
  records: [dbRecords],
  constants: ({ mysql: at }) =>
    Object.fromEntries([0, 1, 2, 3].map((i) => [`mysql_port_${i}`, at?.ports[i] ?? 0])),
};
