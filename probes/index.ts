// What sonde can see: one folder each. A new probe is a folder and a line here.

import type { TableDefinition } from '../src/table/definition.ts';
import type { Probe } from '../src/table/probe.ts';
import { tcp } from './tcp/tcp.ts';
import { udp } from './udp/udp.ts';

export const probes: readonly Probe[] = [tcp, udp];

/** The tables of all probes, each once. */
export const tables: readonly TableDefinition[] = [
  ...new Set(probes.flatMap((probe) => probe.tables)),
];
