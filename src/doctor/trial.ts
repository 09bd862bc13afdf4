// The trial: all sources loaded and attached as the collector does it, under pins of its own, and taken off at once.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { findMount } from '../bpf/features.ts';
import { KernelBtf } from '../bpf/kernel-btf.ts';
import { openKernel } from '../collector/kernel.ts';
import { Pins } from '../collector/pins.ts';
import type { SourceReport } from '../collector/plan.ts';
import type { Config } from '../config/schema.ts';
import type { Need, Probe } from '../table/probe.ts';
import type { Machine } from './machine.ts';

const FOLDER = /^sonde-doctor-(\d+)$/;

/** @throws {BpfError} when nothing can be loaded at all. */
export async function tryProbes(
  probes: readonly Probe[],
  config: Config,
  machine: Machine,
): Promise<readonly SourceReport[]> {
  const bpffs = findMount('bpf') ?? '/sys/fs/bpf';
  clearAbandoned(bpffs, machine);
  const pin_path = join(bpffs, `sonde-doctor-${process.pid}`);
  mkdirSync(pin_path, { mode: 0o700 }); // fails here, with its name, where there is no bpffs
  try {
    const kernel = await openKernel({ ...kernelOptions(probes, config), pin_path });
    kernel.detach();
    kernel.release();
    return kernel.plan.sources;
  } finally {
    new Pins(pin_path, '').clear();
  }
}

/** What a doctor left that was killed in the middle of its trial. */
export function clearAbandoned(bpffs: string, machine: Machine): void {
  for (const name of machine.list(bpffs)) {
    const pid = FOLDER.exec(name)?.[1];
    if (pid !== undefined && !machine.has(`/proc/${pid}`)) new Pins(join(bpffs, name), '').clear();
  }
}

/** As in src/collector/collector.ts, which keeps its own to itself. */
function kernelOptions(
  probes: readonly Probe[],
  { collector }: Config,
): Omit<Parameters<typeof openKernel>[0], 'pin_path'> {
  const needs = probes.flatMap(({ parts }) =>
    parts.flatMap(({ variants }) => variants.flatMap((variant) => variant.needs)),
  );
  const btf = KernelBtf.open(collector.btf_path);
  const unmet = new Map(needs.map((need) => [need, whyUnmet(need, btf)]));
  btf.close();
  return {
    probes,
    isEnabled: (source) => collector.probes[source]?.enabled ?? true,
    unmet: (need) => unmet.get(need),
    ...(collector.btf_path !== undefined && { btf_path: collector.btf_path }),
    cgroup_root: findMount('cgroup2') ?? '/sys/fs/cgroup',
    sizes: {
      sonde_ring: collector.ring_bytes,
      tcp_conns: collector.maps.sockets_max,
      udp_flows: collector.maps.sockets_max,
      sonde_procs: collector.maps.processes_max,
    },
    fail_sources: collector.fail_sources,
  };
}

function whyUnmet(need: Need, btf: KernelBtf): string | undefined {
  const [kind, name = ''] = need.split(':');
  if (kind === 'tp' && !btf.has('tracepoint', name)) return `no tracepoint ${name}`;
  if (kind === 'btf' && !btf.has('struct', name)) return `no ${name}`;
  return undefined; // instructions are found out by trying
}
