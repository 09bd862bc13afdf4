// Which maps are made, and how large: the kernel's memory goes to what is on and, where the kernel can, to what is in use.

import type { BpfObject } from '../bpf/object.ts';
import type { Need, Probe, ProbeOptions } from '../table/probe.ts';
import type { Plan } from './plan.ts';

const BPF_F_NO_PREALLOC = 1;

/**
 * The allocator that programs may call wherever they run, in the scheduler too (6.1): hash maps need not be made whole.
 * A kernel without it may lock up there, so with that one they are.
 */
export const ALLOCATOR: Need = 'btf:bpf_mem_alloc';

export interface MapShapes {
  readonly probes: readonly Probe[];
  readonly options: Readonly<ProbeOptions>;
  readonly unmet: (need: Need) => string | undefined;
  /** Entries of maps by name, and bytes of the ring. */
  readonly sizes: Readonly<Record<string, number>>;
}

/** Maps of probes and parts that are not on, unless one that is names them too. */
export function idleMaps(plan: Plan, probes: readonly Probe[]): ReadonlySet<string> {
  const idle = new Set<string>();
  const used = new Set<string>();
  for (const { name, parts, own_maps = [] } of probes) {
    const report = plan.sources.find(({ source }) => source === name);
    const on = report?.state === 'on';
    for (const map of own_maps) (on ? used : idle).add(map);
    for (const part of parts) {
      const state = report?.parts.find((one) => one.part === part.name)?.state;
      for (const map of part.own_maps ?? []) (on && state === 'on' ? used : idle).add(map);
    }
  }
  return idle.difference(used);
}

/** To be called before the object is loaded. */
export function shapeMaps(object: BpfObject, plan: Plan, shapes: MapShapes): void {
  for (const [name, entries] of Object.entries(shapes.sizes)) object.map(name).maxEntries = entries;
  for (const name of stubs(plan, shapes.probes)) object.map(name).maxEntries = 1;
  for (const name of idleMaps(plan, shapes.probes)) object.map(name).autocreate = false;
  if (shapes.unmet(ALLOCATOR) !== undefined) return;
  for (const map of object.maps.values()) {
    if (map.typeName === 'hash' && map.flags === 0) map.flags = BPF_F_NO_PREALLOC;
  }
}

/** Maps that have to be, and that nobody who is on uses. */
function stubs(plan: Plan, probes: readonly Probe[]): ReadonlySet<string> {
  const isOn = ({ name }: Probe) =>
    plan.sources.some(({ source, state }) => source === name && state === 'on');
  const of = (which: readonly Probe[]) =>
    new Set(which.flatMap(({ global_maps = [] }) => global_maps));
  return of(probes).difference(of(probes.filter(isOn)));
}
