// What the kernel side is opened with, from the configuration; `sonde doctor` tries the same.

import { KernelBtf } from '../bpf/kernel-btf.ts';
import { missingRights } from '../config/rights.ts';
import type { Config } from '../config/schema.ts';
import { isWanted, type Need, type Probe, type Right } from '../table/probe.ts';
import { hostPaths } from './host.ts';
import type { KernelOptions } from './kernel.ts';
import { ALLOCATOR } from './map_shapes.ts';

export function kernelOptions({ collector }: Config, probes: readonly Probe[]): KernelOptions {
  const missing = new Set<string>(missingRights(probes.flatMap(({ rights }) => rights)));
  const unmet = askKernel(probes, collector.btf_path);
  return {
    probes,
    isEnabled: (probe) => isWanted(probe, collector.probes),
    options: collector,
    unmet: (need) => unmet.get(need),
    lacking: ({ rights }) => rights.filter((right) => missing.has(right)),
    pin_path: collector.pin_path,
    ...(collector.btf_path !== undefined && { btf_path: collector.btf_path }),
    cgroup_root: hostPaths(collector.host_dir).cgroup_root,
    sizes: {
      sonde_ring: collector.ring_bytes,
      sonde_procs: collector.maps.processes_max,
      ...Object.assign({}, ...probes.map((probe) => probe.map_entries?.(collector) ?? {})),
    },
    kernel_prefix: collector.kernel_prefix,
    fail_sources: collector.fail_sources,
  };
}

/** All needs in one opening of the type information, which is the one large thing here. */
export function askKernel(
  probes: readonly Probe[],
  btf_path: string | undefined,
): ReadonlyMap<Need, string | undefined> {
  const variants = probes.flatMap(({ parts }) => parts.flatMap((part) => part.variants));
  const needs = [ALLOCATOR, ...variants.flatMap((variant) => variant.needs)];
  const btf = KernelBtf.open(btf_path);
  const answers = new Map(needs.map((need) => [need, whyUnmet(need, btf)]));
  btf.close();
  return answers;
}

function whyUnmet(need: Need, btf: KernelBtf): string | undefined {
  const [kind, name = ''] = need.split(':');
  if (kind === 'right' && missingRights([name as Right]).length > 0) {
    return `this user lacks ${name} (sonde doctor --grant)`;
  }
  if (kind === 'tp' && !btf.has('tracepoint', name)) return `no tracepoint ${name}`;
  if (kind === 'enum' && !btf.has('enum', name)) return `no enum ${name}`;
  if (kind === 'btf' && !btf.has('struct', name)) return `no ${name}`;
  // Neither leaves a trace of its own in the type information; this iterator came with both (5.12).
  const atomics = btf.has('struct', 'bpf_iter__task_vma');
  if (kind === 'task storage' && !atomics) return 'no storage of a task for programs (before 5.12)';
  if (kind === 'atomics' && !atomics) return 'no compare-and-exchange in programs (before 5.12)';
  if (kind === 'no-atomics' && atomics) return 'not needed';
  return undefined;
}
