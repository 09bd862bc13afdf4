// What the maps of the six sources that the agents' documents list take of the kernel's memory, all switched on with the sizes
// of a default configuration: at most what those documents say.

import assert from 'node:assert/strict';
import test from 'node:test';
import { probes } from '../../probes/index.ts';
import { NO_LIVE, startLive } from '../../test/live.ts';

const SIX = ['syscalls', 'network', 'fileio', 'scheduler', 'memory', 'tcpstate'];
const BYTES_MAX = 8 << 20;

test('the maps of the six sources take at most 8 MiB', { skip: NO_LIVE }, async (t) => {
  const on = Object.fromEntries(SIX.map((name) => [name, { enabled: true }]));
  const { collector } = await startLive(t, { collector: { probes: on } });
  const six = probes.filter(({ name }) => SIX.includes(name));
  assert.equal(six.length, SIX.length);
  const names = new Set(
    six.flatMap(({ own_maps = [], parts }) => [
      ...own_maps,
      ...parts.flatMap((part) => part.own_maps ?? []),
    ]),
  );
  const maps = collector.kernel.maps.filter(({ name }) => names.has(name));
  const bytes = maps.reduce((sum, map) => sum + map.memoryBytes, 0);
  for (const { name, memoryBytes } of maps) t.diagnostic(`${name} ${memoryBytes}`);
  t.diagnostic(`${bytes} bytes in ${maps.length} maps`);
  assert.ok(maps.length > 10 && bytes <= BYTES_MAX, `${bytes} bytes`);
});
