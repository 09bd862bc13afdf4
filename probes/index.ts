// What sonde can see: one folder each. A new probe is a folder and a line here.

import type { TableDefinition } from '../src/table/definition.ts';
import { ledgerTable } from '../src/table/ledger.ts';
import type { Probe } from '../src/table/probe.ts';
import { selfTables } from '../src/table/self.ts';
import { bash } from './bash/bash.ts';
import { blockIo } from './block_io/block_io.ts';
import { capture } from './capture/capture.ts';
import { cgroup } from './cgroup/cgroup.ts';
import { dns } from './dns/dns.ts';
import { fileio } from './fileio/fileio.ts';
import { http } from './http/http.ts';
import { http2 } from './http2/http2.ts';
import { memory } from './memory/memory.ts';
import { mysql } from './mysql/mysql.ts';
import { nat } from './nat/nat.ts';
import { network } from './network/network.ts';
import { postgresql } from './postgresql/postgresql.ts';
import { process } from './process/process.ts';
import { redis } from './redis/redis.ts';
import { scheduler } from './scheduler/scheduler.ts';
import { syscalls } from './syscalls/syscalls.ts';
import { tcp } from './tcp/tcp.ts';
import { tcpstate } from './tcpstate/tcpstate.ts';
import { tls } from './tls/tls.ts';
import { udp } from './udp/udp.ts';

export const probes: readonly Probe[] = [
  tcp,
  udp,
  http,
  http2,
  tls,
  dns,
  nat,
  redis,
  postgresql,
  mysql,
  bash,
  capture,
  cgroup,
  network,
  tcpstate,
  syscalls,
  fileio,
  scheduler,
  memory,
  process,
  blockIo,
];

/** All tables that a collector sends, each once: the probes', and those about sonde itself. */
export const tables: readonly TableDefinition[] = [
  ...new Set(probes.flatMap((probe) => probe.tables)),
  ...selfTables,
  ledgerTable,
];
