// What maps take of the kernel's memory: of the six sources that the agents' documents list, of the sources that `sonde run`
// has on, and of `sonde start`, its ring included: at most what those documents say.

import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { probes } from '../../probes/index.ts';
import { type Live, type LiveOptions, NO_LIVE, startLive } from '../../test/live.ts';
import type { BpfMap } from '../bpf/map.ts';
import { loadConfig } from '../config/load.ts';
import { isWanted, type Probe } from '../table/probe.ts';
import { askKernel } from './kernel_options.ts';
import { ALLOCATOR } from './map_shapes.ts';

const SIX = ['syscalls', 'network', 'fileio', 'scheduler', 'memory', 'tcpstate'];
const RING = 'sonde_ring';
const BYTES_MAX = 8 << 20;
const WHOLE_BYTES_MAX = 8e6;

const NO_ALLOCATOR: string | false =
  NO_LIVE ||
  (askKernel([], undefined).get(ALLOCATOR) !== undefined &&
    'this kernel makes maps whole, and they take more (before 6.1: no bpf_mem_alloc)');

function memoryOf(t: TestContext, maps: readonly BpfMap[]): number {
  const bytes = maps.reduce((sum, map) => sum + map.memoryBytes, 0);
  for (const { name, memoryBytes } of maps) t.diagnostic(`${name} ${memoryBytes}`);
  t.diagnostic(`${bytes} bytes in ${maps.length} maps`);
  assert.ok(maps.length > 10);
  return bytes;
}

/** Why the memory of maps cannot be told; false: it can. Before 6.4 a map's greatest size stands there, and 0 for a ring. */
function untold({ collector }: Live): string | false {
  return collector.kernel.map(RING).memoryBytes === 0
    ? 'this kernel tells how large a map may grow, not what it takes (before 6.4)'
    : false;
}

function ownMaps(which: readonly Probe[]): ReadonlySet<string> {
  const names = which.flatMap(({ own_maps = [], parts }) => [
    ...own_maps,
    ...parts.flatMap((part) => part.own_maps ?? []),
  ]);
  return new Set(names);
}

test('the maps of the six sources take at most 8 MiB', { skip: NO_ALLOCATOR }, async (t) => {
  const on = Object.fromEntries(SIX.map((name) => [name, { enabled: true }]));
  const { collector } = await startLive(t, { collector: { probes: on } });
  const six = probes.filter(({ name }) => SIX.includes(name));
  assert.equal(six.length, SIX.length);
  const names = ownMaps(six);
  const maps = collector.kernel.maps.filter(({ name }) => names.has(name));
  assert.ok(memoryOf(t, maps) <= BYTES_MAX);
});

test('the maps of the default sources take at most 8 MB', { skip: NO_ALLOCATOR }, async (t) => {
  const live = await startLive(t);
  const missing = untold(live);
  if (missing) return t.skip(missing);
  const { collector } = live;
  const maps = collector.kernel.maps.filter(({ name }) => name !== RING);
  assert.ok(memoryOf(t, maps) <= WHOLE_BYTES_MAX);
});

test('maps and ring of the agent take at most 8 MB', { skip: NO_ALLOCATOR }, async (t) => {
  const options = agentOptions();
  const live = await startLive(t, { collector: options });
  const missing = untold(live);
  if (missing) return t.skip(missing);
  const { collector } = live;
  const { maps } = collector.kernel;
  assert.ok(maps.some(({ name }) => name === RING));
  assert.ok(memoryOf(t, maps) <= WHOLE_BYTES_MAX);
  const off = probes.filter((probe) => !isWanted(probe, options.probes ?? {}));
  const made = ownMaps(probes.filter((probe) => !off.includes(probe)));
  for (const name of ownMaps(off)) assert.equal(collector.kernel.hasMap(name), made.has(name));
  for (const name of off.flatMap(({ global_maps = [] }) => global_maps)) {
    assert.equal(collector.kernel.map(name).maxEntries, 1, `${name} is for sources that are off`);
  }
});

/** As `sonde start` has them; folders and names in the kernel are the test's own. */
function agentOptions(): LiveOptions {
  const sources = probes.map(({ name }) => name);
  const { collector } = loadConfig({ role: 'agent', flags: {}, sources }).config;
  const { maps, ring_bytes, syscalls, fileio, probes: on } = collector;
  return { maps, ring_bytes, syscalls, fileio, probes: on };
}
