// Kill -9 under load: of the collector, of the reducer, of both, of the supervisor, of everything. Afterwards the sums are
// exact (or, where the whole machine's traffic filled the ring meanwhile, accounted for), nothing is attached twice, and
// nothing stays behind.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NO_LIVE } from '../live.ts';
import { talk } from '../traffic/traffic.ts';
import {
  attached,
  command,
  killHard,
  leftBehind,
  makePlace,
  type Place,
  type Running,
  role,
  startRun,
  until,
} from './sonde.ts';
import { exact, exactOrFolded, Load } from './truth.ts';

const LOAD = { connections: 200, request: 300, response: 2000 };
const ROUNDS = 3;
const SEED = 20_261;

/** Moments in milliseconds, the same in each run. */
function moments(seed: number, count: number): readonly number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return 100 + (state % 1500);
  });
}

/** Each program once: a second set would use the same maps, or the pins would be another's. */
async function attachedOnce(place: Place): Promise<void> {
  const now = await attached(place);
  if (now === undefined) return;
  assert.ok(now.programs.length > 0, 'nothing is attached');
  assert.deepEqual(now.programs, [...new Set(now.programs)], 'a program is attached twice');
}

async function roleIsBack(run: Running, name: 'kernel-collector' | 'reducer', was: number) {
  const back = () => {
    try {
      return role(run, name) !== was;
    } catch {
      return false; // not yet
    }
  };
  await until(back, () => `another ${name} than ${was}`, run);
}

const VICTIMS = {
  'the collector': ['kernel-collector'],
  'the reducer': ['reducer'],
  both: ['kernel-collector', 'reducer'],
} as const;

for (const [who, names] of Object.entries(VICTIMS)) {
  test(`kill -9 of ${who} under load loses nothing`, { skip: NO_LIVE }, async (t) => {
    const place = await makePlace(t);
    const run = await startRun(place);
    const maps = (await attached(place))?.maps;
    const load = new Load(t, LOAD);
    for (const ms of moments(SEED + who.length, ROUNDS)) {
      await delay(ms);
      const victims = names.map((name) => ({ name, pid: role(run, name) }));
      for (const { pid } of victims) killHard(pid);
      for (const { name, pid } of victims) await roleIsBack(run, name, pid);
    }
    const talks = await load.end();
    const how = await exactOrFolded(place, talks);
    t.diagnostic(`${talks.length * LOAD.connections} connections: ${how}`);
    await attachedOnce(place);
    assert.deepEqual((await attached(place))?.maps, maps, 'the programs were not taken over');
    const ledger = await command(place, [
      'ledger',
      '--json',
      '--reducer',
      `127.0.0.1:${place.port}`,
    ]);
    const { lost, differences } = JSON.parse(ledger.stdout.toString('utf8'));
    assert.deepEqual({ lost, differences }, { lost: [], differences: [] });
    const { code, stderr } = await run.end();
    assert.equal(code, 0, stderr);
    assert.equal(existsSync(place.pin_path), false);
  });
}

test('kill -9 of the supervisor: both roles end in order', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t, { SONDE_COLLECTOR_INTERVAL: '1h' });
  const run = await startRun(place);
  const maps = (await attached(place))?.maps;
  const before = await talk(t, 'tcp', LOAD, LOAD);
  run.child.kill('SIGKILL');
  await until(
    () => leftBehind(place).length === 0,
    () => JSON.stringify(leftBehind(place)),
  );
  assert.equal(existsSync(place.pin_path), false, 'pins are left');
  if (maps) assert.deepEqual((await attached(place, maps))?.programs, []);
  const next = await startRun(place);
  const after = await talk(t, 'tcp', LOAD, LOAD);
  await exact(place, [before, after]);
  assert.equal((await next.end()).code, 0);
});

test('kill -9 of everything: the next run goes on without a gap', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const first = await startRun(place);
  const load = new Load(t, LOAD);
  for (const [round, ms] of moments(SEED, 3).entries()) {
    await delay(ms);
    const run = round === 0 ? first : await startRun(place);
    if (round > 0) await delay(ms);
    const pids = [run.pid, role(run, 'kernel-collector'), role(run, 'reducer')];
    for (const pid of pids) killHard(pid);
    await until(
      () => leftBehind(place).length === 0,
      () => 'the end of all processes',
    );
    assert.ok(existsSync(place.pin_path), 'the programs stay for a successor');
  }
  const run = await startRun(place);
  t.diagnostic(await exactOrFolded(place, await load.end()));
  await attachedOnce(place);
  assert.equal((await run.end()).code, 0);
  assert.equal(existsSync(place.pin_path), false);
});

test('sonde detach removes what a killed collector left', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const run = await startRun(place);
  const maps = (await attached(place))?.maps;
  const busy = await command(place, ['detach']);
  assert.equal(busy.code, 2, 'detach took the programs from a running collector');
  for (const pid of [run.pid, role(run, 'kernel-collector'), role(run, 'reducer')]) killHard(pid);
  await until(
    () => leftBehind(place).length === 0,
    () => 'the end of all processes',
  );
  const detach = await command(place, ['detach']);
  assert.equal(detach.code, 0, detach.stderr);
  assert.match(detach.stdout.toString('utf8'), /^removed what was pinned in /);
  assert.equal(existsSync(place.pin_path), false);
  if (maps) assert.deepEqual((await attached(place, maps))?.programs, []);
  const again = await command(place, ['detach']);
  assert.match(again.stdout.toString('utf8'), /^nothing is pinned in /);
});
