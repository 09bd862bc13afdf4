// What sonde can see: one folder each. A new probe is a folder and a line here.

import type { TableDefinition } from '../src/table/definition.ts';
import { ledgerTable } from '../src/table/ledger.ts';
import type { Probe } from '../src/table/probe.ts';
import { selfTables } from '../src/table/self.ts';
import { capture } from './capture/capture.ts';
import { http } from './http/http.ts';
import { tcp } from './tcp/tcp.ts';
import { udp } from './udp/udp.ts';

export const probes: readonly Probe[] = [tcp, udp, http, capture];

/** All tables that a collector sends, each once: the probes', and those about sonde itself. */
export const tables: readonly TableDefinition[] = [
  ...new Set(probes.flatMap((probe) => probe.tables)),
  ...selfTables,
  ledgerTable,
];
