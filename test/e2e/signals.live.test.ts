// What an operator does to a running sonde: HUP, log rotation, INT, TERM, INT twice, and parents that die.
//
// Not here: a step of the clock. Time namespaces hold the monotonic clocks alone, and a step of the machine's own would
// fall on everything that runs beside the tests.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NO_LIVE } from '../live.ts';
import { talk } from '../traffic/traffic.ts';
import {
  ask,
  countLog,
  leftBehind,
  makePlace,
  type Place,
  Running,
  readLog,
  role,
  startCollector,
  startReducer,
  startRun,
  until,
} from './sonde.ts';
import { exact } from './truth.ts';

const TALK = { connections: 100 };

async function gone(place: Place): Promise<void> {
  await until(
    () => leftBehind(place).length === 0,
    () => `the end of ${JSON.stringify(leftBehind(place))}`,
  );
  assert.equal(existsSync(place.pin_path), false, 'pins are left');
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} ends run with 0, detached, all rows stored`, { skip: NO_LIVE }, async (t) => {
    const place = await makePlace(t, { SONDE_COLLECTOR_INTERVAL: '1h' });
    const run = await startRun(place);
    const done = await talk(t, 'tcp', TALK, TALK);
    const { code, stderr } = await run.end(signal);
    assert.equal(code, 0, stderr);
    await gone(place);
    const reducer = await startReducer(place);
    const sql = `SELECT toUInt32(sum(tcp_closed)) AS n FROM netflow WHERE dst_port = ${done.port}`;
    assert.deepEqual(await ask(place, sql, []), [{ n: TALK.connections }]);
    assert.equal((await reducer.end(signal)).code, 0);
  });
}

test('each role alone ends with 0 by INT and TERM', { skip: NO_LIVE }, async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const place = await makePlace(t);
    const collector = await startCollector(place);
    assert.equal((await collector.end(signal)).code, 0, `collector, without a reducer, ${signal}`);
    await gone(place);
  }
});

test('a second INT ends at once with 1, and a new run cleans up', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  // Without a reducer a collector that stops waits for a while: time for the second.
  const collector = await startCollector(place);
  await talk(t, 'tcp', TALK, TALK);
  collector.child.kill('SIGINT');
  await collector.says(/"msg":"stopping: SIGINT"/, 1, () => readLog(place));
  assert.equal((await collector.end('SIGINT')).code, 1);
  await gone(place);
});

test('a supervisor that dies while its roles start leaves none', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  for (const up of [/^/, /^sonde: reducer: intake/, /^sonde: collector: tcp/]) {
    const run = new Running(place, ['run']);
    await run.says(up);
    await run.end('SIGKILL');
    await gone(place);
  }
});

test('HUP changes interval and level while it runs', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t, { SONDE_COLLECTOR_INTERVAL: '' });
  const file = join(place.dir, 'sonde.yaml');
  writeFileSync(file, 'collector: { interval: 1h }\nlog: { level: info }\n');
  const run = await startRun(place, ['--config', file]);
  const done = await talk(t, 'tcp', TALK, TALK);
  const sql = `SELECT toUInt32(sum(tcp_closed)) AS n FROM netflow WHERE dst_port = ${done.port}`;
  await exact(place, [done]);
  // The first table asks for fresh rows, too.
  await run.says(/^process +pid /, 1, () => run.printed.stdout.toString('utf8'));
  const later = await talk(t, 'tcp', TALK, TALK);
  const later_sql = sql.replace(String(done.port), String(later.port));
  assert.deepEqual(
    await ask(place, later_sql, []),
    [{ n: 0 }],
    'the interval of an hour has ended',
  );
  writeFileSync(file, 'collector: { interval: 1s, ring_bytes: 4MiB }\nlog: { level: debug }\n');
  run.child.kill('SIGHUP');
  await run.says(/"msg":"configuration read again"/, 1, () => readLog(place));
  await run.says(/collector.ring_bytes changes at the next start/, 1, () => readLog(place));
  await until(
    async () => (await ask(place, later_sql, []))[0]?.n === TALK.connections,
    () => 'rows of an interval of a second',
    run,
  );
  writeFileSync(file, 'collector: { interval: never }\n');
  run.child.kill('SIGHUP');
  await run.says(/the configuration in force stays/, 1, () => readLog(place));
  assert.match(readLog(place), /collector.interval/);
  assert.equal((await run.end()).code, 0);
});

test('a rotated log is left alone after HUP', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const run = await startRun(place);
  const rotated = `${place.log_path}.1`;
  renameSync(place.log_path, rotated);
  const before = readFileSync(rotated, 'utf8');
  assert.equal(existsSync(place.log_path), false);
  const pids = [role(run, 'kernel-collector'), role(run, 'reducer')];
  run.child.kill('SIGHUP');
  await until(
    () => existsSync(place.log_path),
    () => 'a new log file',
    run,
  );
  assert.equal((await run.end()).code, 0);
  for (const pid of pids)
    assert.equal(countLog(place, new RegExp(`"pid":${pid},.*stopping`, 'g')), 1);
  assert.equal(readFileSync(rotated, 'utf8'), before, 'a role went on in the old file');
});

test('the log goes to standard error on demand, and when its file cannot be', {
  skip: NO_LIVE,
}, async (t) => {
  const place = await makePlace(t);
  const wanted = await startRun(place, ['--log-console', '--for', '1']);
  const both = await wanted.ended;
  assert.equal(both.code, 0, both.stderr);
  assert.match(both.stderr, /"source":"tcp"/);
  assert.match(readLog(place), /"source":"tcp"/);
  const nowhere = await makePlace(t, { EBPF_NET_LOG_FILE_PATH: '/proc/nowhere/log' });
  const run: Running = await startRun(nowhere, ['--for', '1']);
  const { code, stderr } = await run.ended;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /Cannot write the log file \/proc\/nowhere\/log, using standard error/);
  assert.match(stderr, /"source":"tcp"/);
});

test('TERM before all is up ends run and its roles, and the next may start', {
  skip: NO_LIVE,
}, async (t) => {
  const place = await makePlace(t);
  for (const wait_ms of [1000, 1500, 2500]) {
    const run = new Running(place, ['run']);
    await delay(wait_ms);
    const { code, stderr } = await run.end('SIGTERM');
    assert.equal(code, 0, stderr);
    await gone(place);
  }
});

test('TERM ends a run for a time before that is over', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const run = await startRun(place, ['--for', '600']);
  const asked_ms = performance.now();
  assert.equal((await run.end('SIGTERM')).code, 0);
  assert.ok(performance.now() - asked_ms < 60_000, 'it waited for its time to be over');
});
