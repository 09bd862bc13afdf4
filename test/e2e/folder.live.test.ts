// The data folder is removed while sonde runs: it says so, ends when it is told to, and tells what is lost with the folder.

import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { NO_LIVE } from '../live.ts';
import { countLog, leftBehind, makePlace, type Place, readLog, startRun, until } from './sonde.ts';
import { exact, Load } from './truth.ts';

const LOAD = { connections: 200, request: 300, response: 2000 };
const REMOVED = /"folder":"[^"]*","msg":"the folder of the spool was removed while in use/g;
const LOST = /"rows":\{[^}]*"netflow":\d+[^}]*\}[^\n]*"msg":"rows are lost/g;

async function removed(place: Place, folder: string): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  await until(
    () => countLog(place, REMOVED) > 0,
    () => `the removed folder in ${readLog(place)}`,
  );
}

test('the data folder is removed under load', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const run = await startRun(place);
  const load = new Load(t, LOAD);
  await until(
    () => load.count > 3,
    () => 'the first talks',
  );
  await removed(place, join(place.dir, 'data'));
  await load.end();
  const { code, stderr } = await run.end();
  assert.equal(code, 1, stderr);
  assert.match(stderr, /no last table/);
  assert.match(readLog(place), /the folder of the store was removed/);
  assert.equal(countLog(place, LOST), 1, readLog(place));
  assert.doesNotMatch(readLog(place), /a fault in sonde itself/);
  assert.equal(existsSync(place.pin_path), false);
  assert.deepEqual(leftBehind(place), []);
});

test('the folder of the spool alone is removed under load', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const env = { SONDE_REDUCER_STORE_PATH: join(place.dir, 'store') };
  const run = await startRun(place, [], { env });
  const load = new Load(t, LOAD);
  await until(
    () => load.count > 3,
    () => 'the first talks',
  );
  await removed(place, join(place.dir, 'data'));
  const before = load.count;
  await until(
    () => load.count > before + 5,
    () => 'talks without a spool',
  );
  await exact(place, await load.end());
  const { code, stderr } = await run.end();
  assert.equal(code, 0, stderr);
  assert.equal(countLog(place, LOST), 0, readLog(place));
  assert.equal(existsSync(place.pin_path), false);
});
