// Memory of the collector under rounds of short-lived processes, each reported by itself: what a round takes is given back.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NO_LIVE } from '../live.ts';
import { Traffic } from '../traffic/traffic.ts';
import { makePlace, role, startRun } from './sonde.ts';

const PROCESSES = 24_000;
const ROUNDS = 4;
/** Between rounds: an interval ends, and the C library's free memory is given back (`keepSmall`). */
const REST_MS = 15_000;
/** Of some 110 MB, from the second round on: the first fills caches. A leak of 1 KB a process would be 47 MB after the last. */
const GROWN_KB_MAX = 12 * 1024;

function residentKb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
}

/** The least within a while: what lies between two collections of garbage is not held. */
async function restingKb(pid: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (const end = Date.now() + REST_MS; Date.now() < end; await delay(500)) {
    least = Math.min(least, residentKb(pid));
  }
  return least;
}

test(`${ROUNDS} rounds of ${PROCESSES} processes`, { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t, { SONDE_COLLECTOR_INTERVAL: '10s' });
  const file = join(place.dir, 'sonde.yaml');
  writeFileSync(file, 'collector: { probes: { process: { enabled: true } } }\n');
  const run = await startRun(place, ['--config', file]);
  const pid = role(run, 'kernel-collector');
  const resting_kb: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const traffic = await Traffic.start(t, 'processes', { count: PROCESSES });
    const [counts] = await traffic.counts();
    assert.equal(counts?.connections, PROCESSES);
    resting_kb.push(await restingKb(pid));
  }
  t.diagnostic(`resident after each round: ${resting_kb.join(', ')} KiB`);
  const grown_kb = resting_kb.at(-1)! - resting_kb[1]!;
  assert.ok(grown_kb <= GROWN_KB_MAX, `grown by ${grown_kb} KiB`);
  assert.equal((await run.end()).code, 0);
});
