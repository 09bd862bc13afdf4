// What benchmarks attach by turns: nothing, programs that do nothing on the same hooks, and sonde's of some sources.

import { probes } from '../probes/index.ts';
import { BpfObject } from '../src/bpf/object.ts';
import type { BpfProgram } from '../src/bpf/program.ts';
import { isWanted } from '../src/table/probe.ts';
import { loadFloor, OBJECT } from './floor.ts';
import { later } from './process.ts';
import { Collector, Reducer } from './sonde.ts';
import { askedLists, askedSources } from './web.ts';

/** Nobody reads it meanwhile, and it must not be full before the end. */
const RING_BYTES = 256 << 20;

/** Something to be attached: none, the empty programs, sonde's. */
export interface Arm {
  readonly name: string;
  readonly programs: readonly BpfProgram[];
}

/** The sources of an arm; undefined: what is on by default. */
const ARMS: readonly (readonly [name: string, sources: readonly string[] | undefined])[] = [
  ['tcp and udp', ['tcp', 'udp']],
  ['and http', ['tcp', 'udp', 'http']],
  ['all by default', undefined],
];

/** Those of `--sources` instead of the usual ones. */
function armsAsked(): typeof ARMS {
  const asked = askedSources().map((sources) => [sources.join(','), sources] as const);
  return asked.length > 0 ? asked : ARMS;
}

/** The programs that a collector attaches to hooks on this machine; sweeps are no hooks. */
async function chosen(sources: readonly string[] | undefined): Promise<ReadonlySet<string>> {
  const reducer = await Reducer.start();
  const collector = await Collector.start(reducer, '10s', sources);
  const running = collector.programs();
  for (const { program } of running) program.close();
  await collector.stop();
  await reducer.stop();
  return new Set(running.map(({ name }) => name));
}

async function loadSonde(sources: readonly string[] | undefined): Promise<readonly BpfProgram[]> {
  const names = await chosen(sources);
  const object = BpfObject.open(OBJECT, { name: 'bench' });
  later(() => object.close());
  for (const [name, program] of object.programs) {
    program.autoload = names.has(name) && !program.section.startsWith('iter/');
  }
  const on = probes.map((probe) => [
    probe.enabled_variable,
    sources?.includes(probe.name) ?? isWanted(probe, {}),
  ]);
  object.rodata(Object.fromEntries(on));
  object.map('sonde_ring').maxEntries = RING_BYTES;
  object.load();
  // as after the sweep of open files: a socket that is not known is a new one
  object.map('sonde_swept').update(new Uint8Array(4), Uint8Array.of(1, 0, 0, 0));
  return [...object.programs.values()].filter(({ autoload }) => autoload);
}

/** Nothing, empty programs on all hooks of the others, and sonde's; or empty ones on the hooks of each `--empty` alone. */
export async function loadArms(): Promise<readonly Arm[]> {
  const nothing: Arm = { name: 'nothing', programs: [] };
  const hooks = askedLists('--empty');
  if (hooks.length > 0) return [nothing, ...(await Promise.all(hooks.map(emptyOn)))];
  const sonde: Arm[] = [];
  for (const [name, sources] of armsAsked()) {
    sonde.push({ name, programs: await loadSonde(sources) });
  }
  const sections = new Set(sonde.flatMap(({ programs }) => programs.map(({ section }) => section)));
  const floor = await loadFloor(sections);
  return [nothing, { name: 'empty programs', programs: floor }, ...sonde];
}

async function emptyOn(sections: readonly string[]): Promise<Arm> {
  const programs = await loadFloor(new Set(sections));
  if (programs.length < sections.length)
    throw new Error(`--empty ${sections.join(',')}: floor.bpf.c has no program for one of these`);
  return { name: `empty on ${sections.join(', ')}`, programs };
}

/** What `measure` says of each arm, a round at a time; the order turns, so that none has always the same neighbour. */
export async function turnAbout<Sample>(
  arms: readonly Arm[],
  rounds: number,
  measure: (arm: Arm) => Promise<Sample>,
): Promise<readonly (readonly Sample[])[]> {
  const done: Sample[][] = [];
  while (done.length < rounds) {
    const order = arms.map((_, i) => (i + done.length) % arms.length);
    const round: Sample[] = [];
    for (const i of done.length % 2 === 0 ? order : order.reverse()) {
      round[i] = await measure(arms[i]!);
    }
    done.push(round);
  }
  return done;
}
