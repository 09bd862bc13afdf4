// The kernel side as the collector holds it: the loaded object or, after a crash, what the predecessor left running.
// One object with all programs; a program that the kernel refuses takes its variant out of the plan, and the rest is
// loaded again.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { BpfError } from '../bpf/error.ts';
import { BpfIter } from '../bpf/iter.ts';
import { BpfLink } from '../bpf/link.ts';
import { BpfMap } from '../bpf/map.ts';
import { BpfObject, type OpenOptions } from '../bpf/object.ts';
import { BpfProgram } from '../bpf/program.ts';
import type { Need, Probe, ProbeOptions, Right, Sweep } from '../table/probe.ts';
import { type Left, leftBehind, NOTHING } from './left.ts';
import { idleMaps, shapeMaps } from './map_shapes.ts';
import { Pins } from './pins.ts';
import { giveWay, makePlan, type Plan } from './plan.ts';

const OBJECT = new URL('../../build/sonde.bpf.o', import.meta.url);
const REFUSALS_MAX = 64;
const SWEEP_BUFFER_BYTES = 4096;

/** Programs that every source shares and that none is lost without. */
const SHARED = ['process_exec', 'overflow_sweep'] as const;

export interface KernelOptions {
  readonly probes: readonly Probe[];
  readonly isEnabled: (probe: Probe) => boolean;
  /** For the constants of the object that follow from the configuration. */
  readonly options: Readonly<ProbeOptions>;
  readonly unmet: (need: Need) => string | undefined;
  /** Rights that this process lacks for a source. */
  readonly lacking: (probe: Probe) => readonly Right[];
  readonly pin_path: string;
  readonly btf_path?: string;
  readonly cgroup_root: string;
  /** Entries of maps by name, and bytes of the ring. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Before the names of maps and programs in the kernel; '' leaves them as they are in the object. */
  readonly kernel_prefix: string;
  /** Sources that are made to fail, for tests. */
  readonly fail_sources: readonly string[];
}

export interface RunningProgram {
  readonly name: string;
  readonly program: BpfProgram;
}

export class Kernel {
  readonly plan: Plan;
  readonly ring: BpfMap;
  readonly counts: BpfMap;
  readonly processes: BpfMap;
  /** True: went on with what a predecessor left; nothing was missed meanwhile. */
  readonly taken_over: boolean;
  /** What a predecessor of another build left: lost, and to be accounted for. */
  readonly left: Left;
  readonly programs: readonly RunningProgram[];
  readonly #maps: ReadonlyMap<string, BpfMap>;
  readonly #links: Map<string, BpfLink>;
  readonly #pins: Pins;
  readonly #probes: readonly Probe[];
  readonly #object: BpfObject | undefined;
  readonly #attach: ((program: string) => BpfLink) | undefined;
  readonly #sweep_buffer = new Uint8Array(SWEEP_BUFFER_BYTES);

  constructor(parts: {
    plan: Plan;
    taken_over: boolean;
    maps: ReadonlyMap<string, BpfMap>;
    links: ReadonlyMap<string, BpfLink>;
    programs: readonly RunningProgram[];
    pins: Pins;
    probes: readonly Probe[];
    left: Left;
    object?: BpfObject;
    /** Attaches a program of the loaded object again. */
    attach?: (program: string) => BpfLink;
  }) {
    this.left = parts.left;
    this.plan = parts.plan;
    this.taken_over = parts.taken_over;
    this.#maps = parts.maps;
    this.#links = new Map(parts.links);
    this.#attach = parts.attach;
    this.programs = parts.programs;
    this.#pins = parts.pins;
    this.#probes = parts.probes;
    this.#object = parts.object;
    this.ring = this.map('sonde_ring');
    this.counts = this.map('sonde_counts');
    this.processes = this.map('sonde_procs');
  }

  map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new Error(`the kernel object has no map '${name}'`);
    return map;
  }

  /** False: its probe, or its part of one, is off. */
  hasMap(name: string): boolean {
    return this.#maps.has(name);
  }

  isOn(source: string): boolean {
    return this.plan.sources.some((one) => one.source === source && one.state === 'on');
  }

  get maps(): readonly BpfMap[] {
    return [...this.#maps.values()];
  }

  /** Runs the sweeps of this kind once; each sends its records through the ring. */
  sweep(when: Sweep['when']): void {
    const sweeps = this.#probes.flatMap((probe) => probe.sweeps);
    const due = sweeps.filter((one) => one.when === when).flatMap(({ programs }) => programs);
    for (const program of new Set(due)) this.#run(program); // probes may share one
    if (when === 'interval') this.#run('overflow_sweep');
  }

  /** Tells the programs that the sweeps of the start are done. */
  markSwept(): void {
    const one = new Uint8Array(Uint32Array.of(1).buffer);
    this.map('sonde_swept').update(new Uint8Array(4), one);
  }

  #run(program: string): void {
    const link = this.#links.get(program);
    if (link !== undefined) new BpfIter(link).run(this.#sweep_buffer); // its programs write no text
  }

  /** False for programs of a predecessor: their object is gone, and what is detached stays so. */
  get can_reattach(): boolean {
    return this.#attach !== undefined;
  }

  programsOf(source: string): readonly string[] {
    const found = this.plan.sources.find((one) => one.source === source);
    return found?.parts.flatMap(({ programs }) => programs) ?? [];
  }

  /** How many sources that are on have a use for a program. */
  usersOf(program: string): number {
    const on = this.plan.sources.filter(({ state }) => state === 'on');
    return on.filter(({ source }) => this.programsOf(source).includes(program)).length;
  }

  /** Tells the programs of a source how much to do (bpf/level.bpf.h). */
  writeLevel(slot: number, level: number): void {
    const [key, value] = [slot, level].map((n) => new Uint8Array(Uint32Array.of(n).buffer));
    this.map('sonde_levels').update(key!, value!);
  }

  /** Detaches what only this source uses. Its pins go: a successor has to know that they are not all there. */
  suspend(source: string): void {
    this.sweep('interval'); // what it has counted until now
    for (const program of this.#ownOf(source)) {
      const link = this.#links.get(program);
      if (link === undefined) continue;
      this.#pins.remove(program);
      link.close();
      this.#links.delete(program);
    }
  }

  resume(source: string): void {
    for (const program of this.#ownOf(source)) {
      const running = this.programs.find(({ name }) => name === program);
      if (this.#attach === undefined || running === undefined || this.#links.has(program)) continue;
      const link = this.#attach(program);
      this.#links.set(program, link);
      link.pin(this.#pins.link(program));
      running.program.pin(this.#pins.program(program));
    }
    this.sweep('start'); // what began meanwhile
    this.sweep('start');
  }

  #ownOf(source: string): readonly string[] {
    return this.programsOf(source).filter((program) => this.usersOf(program) === 1);
  }

  /** Folder of the pins of what is placed in files. */
  get uprobe_pins(): string {
    return this.#pins.uprobes;
  }

  /** Detaches everything and removes the pins; what the ring and the maps hold can still be read. */
  detach(): void {
    this.#pins.clear();
    for (const link of this.#links.values()) link.close();
  }

  /** Lets go of the handles; what is still pinned keeps running for a successor. */
  release(): void {
    for (const link of this.#links.values()) link.close();
    for (const { program } of this.programs) program.close();
    this.#object?.close();
    for (const map of this.#maps.values()) map.close();
  }
}

/**
 * Takes over what a predecessor of the same build left, or loads and attaches anew.
 *
 * @throws {BpfError} when nothing can be loaded at all: no rights, no BTF, no bpffs.
 */
export async function openKernel(options: KernelOptions): Promise<Kernel> {
  const bytes = readFileSync(OBJECT);
  const refused = new Map<string, string>();
  const gave_way = new Map<string, string>();
  for (let round = 0; round < REFUSALS_MAX; round += 1) {
    const plan = makePlan({ ...options, refused, gave_way });
    const pins = new Pins(options.pin_path, buildName(bytes, plan, options));
    const before = takeOver(plan, pins, options);
    if (before !== undefined) return before;
    const loaded = load(bytes, plan, pins, options, refused);
    if (loaded instanceof Kernel) return loaded;
    const { program, reason } = loaded;
    const source = giveWay(program, plan, options.probes);
    if (source === undefined) refused.set(program, reason);
    else gave_way.set(source, `${program}: ${reason}; it gave way, so that the others go on`);
    await delay(0);
  }
  throw new Error(`the kernel refused ${REFUSALS_MAX} programs, which are more than there are`);
}

function buildName(bytes: Uint8Array, plan: Plan, options: KernelOptions): string {
  const constants = Object.fromEntries(constantsOf(plan, options));
  const what = JSON.stringify([
    [...plan.programs].sort(),
    options.sizes,
    options.cgroup_root,
    options.kernel_prefix,
    constants,
  ]);
  return createHash('sha256').update(bytes).update(what).digest('hex').slice(0, 16);
}

function takeOver(plan: Plan, pins: Pins, options: KernelOptions): Kernel | undefined {
  const names = pins.links();
  const wanted = wantedPrograms(plan, new Map());
  const attached = wanted.filter((name) => pins.programs().includes(name));
  if (names.length === 0 || attached.length < wanted.length) return undefined;
  const links = new Map(names.map((name) => [name, BpfLink.openPinned(pins.link(name))]));
  const programs = pins.programs().map((name) => ({
    name,
    program: BpfProgram.openPinned(pins.program(name)),
  }));
  const maps = new Map(
    mapNames(plan, options).map((name) => [name, BpfMap.openPinned(pins.map(name))]),
  );
  return new Kernel({
    plan,
    taken_over: true,
    left: NOTHING,
    maps,
    links,
    programs,
    pins,
    probes: options.probes,
  });
}

let map_names: readonly string[] | undefined;

/** Maps that exist: the object's own without its sections, and without those of sources that are not on. */
function mapNames(plan: Plan, { probes }: KernelOptions): readonly string[] {
  const idle = idleMaps(plan, probes);
  return allMaps().filter((name) => !idle.has(name));
}

function allMaps(): readonly string[] {
  if (map_names === undefined) {
    const object = BpfObject.open(readFileSync(OBJECT));
    map_names = [...object.maps.keys()].filter((name) => !name.startsWith('.'));
    object.close();
  }
  return map_names;
}

interface Refusal {
  readonly program: string;
  readonly reason: string;
}

/** A refusal: plan again without that program, or without who made it too large. */
function load(
  bytes: Uint8Array,
  plan: Plan,
  pins: Pins,
  options: KernelOptions,
  refused: ReadonlyMap<string, string>,
): Kernel | Refusal {
  const object = openObject(bytes, plan, options, refused);
  try {
    object.load();
  } catch (error) {
    object.close();
    if (!(error instanceof BpfError) || error.program === undefined) throw error;
    if (refused.has(error.program)) throw error; // it is not planned any more, yet it was loaded
    return { program: error.program, reason: error.message };
  }
  const left = leftBehind(pins);
  pins.clear(); // another build's programs, if any: from here on nothing of them runs
  pins.create();
  const links = new Map<string, BpfLink>();
  for (const name of attachOrder(wantedPrograms(plan, refused))) {
    if (isPlaced(object.program(name).section)) continue;
    try {
      links.set(name, attach(object, name, options));
    } catch (error) {
      for (const link of links.values()) link.close();
      object.close();
      return { program: name, reason: error instanceof Error ? error.message : String(error) };
    }
  }
  for (const [name, link] of links) link.pin(pins.link(name));
  const maps = new Map(mapNames(plan, options).map((name) => [name, object.map(name)]));
  for (const [name, map] of maps) map.pin(pins.map(name));
  const loaded = wantedPrograms(plan, refused);
  const programs = loaded.map((name) => ({ name, program: object.program(name) }));
  for (const { name, program } of programs) program.pin(pins.program(name));
  const { probes } = options;
  const again = (name: string) => attach(object, name, options);
  const parts = { plan, maps, links, programs, pins, probes, object, attach: again };
  return new Kernel({ ...parts, taken_over: false, left });
}

/** Those of the plan, and the shared ones that were not refused. */
function wantedPrograms(plan: Plan, refused: ReadonlyMap<string, string>): readonly string[] {
  return [...new Set([...plan.programs, ...SHARED.filter((name) => !refused.has(name))])];
}

function openObject(
  bytes: Uint8Array,
  plan: Plan,
  options: KernelOptions,
  refused: ReadonlyMap<string, string>,
): BpfObject {
  const object = BpfObject.open(bytes, {
    ...kernelNames(options.kernel_prefix),
    ...(options.btf_path !== undefined && { btfPath: options.btf_path }),
  });
  const wanted = new Set(wantedPrograms(plan, refused));
  for (const [name, program] of object.programs) program.autoload = wanted.has(name);
  shapeMaps(object, plan, options);
  for (const [name, value] of constantsOf(plan, options)) object.rodata({ [name]: value });
  return object;
}

/** `sonde_ring` is called `tfo_ring` under the prefix `tfo`, and `tcp_conns` is `tfo_tcp_conns`. */
function kernelNames(prefix: string): Pick<OpenOptions, 'name' | 'rename'> {
  if (prefix === '') return { name: 'sonde' };
  return { name: prefix, rename: (name) => `${prefix}_${name.replace(/^sonde_/, '')}` };
}

/** Constants of the object: which sources are on, and what their configuration says. */
function constantsOf(plan: Plan, { probes, options }: KernelOptions): [string, number | boolean][] {
  const isOn = ({ name }: Probe) =>
    plan.sources.some(({ source, state }) => source === name && state === 'on');
  const places = probes.some((probe) => probe.uprobes !== undefined && isOn(probe));
  const each = probes.flatMap((probe): [string, number | boolean][] => [
    [probe.enabled_variable, isOn(probe)],
    ...Object.entries(probe.constants?.(options) ?? {}),
  ]);
  return [...each, ['exec_announced', places]];
}

/** Programs that are loaded with the others and attached later, by who knows the places: functions of a library, CPUs. */
function isPlaced(section: string): boolean {
  return /^(uprobe|uretprobe|perf_event)/.test(section);
}

/** Owners before connections, so that no connection begins while its first calls would be missed. */
function attachOrder(names: readonly string[]): readonly string[] {
  const last = (name: string) => Number(name.startsWith('tcp_state'));
  return [...names].sort((a, b) => last(a) - last(b));
}

function attach(object: BpfObject, name: string, options: KernelOptions): BpfLink {
  const program = object.program(name);
  if (program.section.startsWith('cgroup')) return program.attachCgroup(options.cgroup_root);
  if (!program.section.startsWith('iter/')) return program.attach();
  const map = iteratedMap(name, options.probes);
  return program.attachIter(map === undefined ? {} : { map: object.map(map) });
}

function iteratedMap(program: string, probes: readonly Probe[]): string | undefined {
  if (program === 'overflow_sweep') return 'sonde_overflow';
  const sweeps = probes.flatMap((probe) => probe.sweeps);
  return sweeps.find(({ programs }) => programs.includes(program))?.map;
}
