// `sonde run` from outside: a table with real connections, exact sums on both sides, answers in every format, and
// nothing left behind.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { tableFromIPC } from 'apache-arrow';
import { NO_LIVE } from '../live.ts';
import { haveIp, makeNamespaces, talk } from '../traffic/traffic.ts';
import {
  attached,
  command,
  leftBehind,
  makePlace,
  type Place,
  Running,
  startRun,
} from './sonde.ts';
import { exact, expected } from './truth.ts';

const MANY = 10_000;

async function nothingLeft(place: Place, maps: readonly number[] | undefined): Promise<void> {
  assert.equal(existsSync(place.pin_path), false, 'pins are left');
  assert.deepEqual(leftBehind(place), [], 'processes are left');
  if (maps !== undefined) assert.deepEqual((await attached(place, maps))?.programs, []);
}

test('run --for prints a table of the connections and leaves nothing', {
  skip: NO_LIVE,
}, async (t) => {
  const place = await makePlace(t);
  const words = ['--for', '6', '--data-dir', place.dir, '--interval', '1s'];
  const run = await startRun(place, words);
  const maps = (await attached(place))?.maps;
  const done = await talk(t, 'tcp', { connections: 50 }, { connections: 50 });
  const { code, stdout, stderr } = await run.ended;
  assert.equal(code, 0, stderr);
  const last = stdout
    .toString('utf8')
    .split(/^process +pid /m)
    .at(-1)!;
  for (const { direction, pid } of expected([done])) {
    const line = new RegExp(`^traffic +${pid} +${direction} +tcp .*${done.port}.* 50 +50 +0 `, 'm');
    assert.match(last, line);
  }
  assert.match(stderr, /^sonde: reducer: intake on port \d+, metrics at http:.*\/metrics$/m);
  await nothingLeft(place, maps);
});

test('sums are exact while it runs, in every format', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const run = await startRun(place);
  const maps = (await attached(place))?.maps;
  const many = { connections: MANY };
  await t.test(`${MANY} short connections in one network namespace`, async () => {
    const done = await talk(t, 'tcp', many, { ...many, threads: 2 });
    await exact(place, [done]);
    await formats(place, done.port);
  });
  const skip = !haveIp() && 'needs iproute2';
  await t.test(`${MANY} between two network namespaces`, { skip }, async (s) => {
    const wire = makeNamespaces(`e2e-${process.pid}`);
    s.after(() => wire.remove());
    const host = wire.addresses[1];
    const [client, server] = wire.names;
    const done = await talk(
      t,
      'tcp',
      { ...many, host },
      { ...many, host, threads: 2 },
      { server, client },
    );
    await exact(place, [done]);
  });
  await t.test(`${MANY} with a server that forks before it accepts`, async () => {
    const done = await talk(
      t,
      'tcp',
      { ...many, as: 'prefork', workers: 4 },
      { ...many, threads: 4 },
    );
    await exact(place, [done]);
  });
  const { code, stderr } = await run.end();
  assert.equal(code, 0, stderr);
  await nothingLeft(place, maps);
});

/** The same answer in four forms. */
async function formats(place: Place, port: number): Promise<void> {
  const sql = `SELECT direction, toUInt32(sum(tcp_established)) AS n FROM netflow
    WHERE src_port = ${port} OR dst_port = ${port} GROUP BY 1 ORDER BY 1`;
  const of = async (format: string) => {
    const at = ['--reducer', `127.0.0.1:${place.port}`, '--fresh', '--format', format];
    const { code, stdout, stderr } = await command(place, ['query', sql, ...at]);
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    return stdout;
  };
  const rows = [
    { direction: 'incoming', n: MANY },
    { direction: 'outgoing', n: MANY },
  ];
  assert.deepEqual(JSON.parse((await of('json')).toString('utf8')), rows);
  assert.equal(
    (await of('csv')).toString('utf8').replaceAll('"', ''),
    `direction,n\nincoming,${MANY}\noutgoing,${MANY}\n`,
  );
  const arrow = tableFromIPC(await of('arrow'));
  assert.deepEqual(
    arrow.toArray().map((row) => ({ ...row?.toJSON() })),
    rows,
  );
  const table = (await of('table')).toString('utf8');
  assert.match(
    table,
    new RegExp(`direction.*n.*\n.*incoming .* ${MANY} .*\n.*outgoing .* ${MANY} `),
  );
}

test('top and ledger speak of the running sonde', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t);
  const run = await startRun(place);
  const done = await talk(t, 'tcp', { connections: 200 }, { connections: 200 });
  await exact(place, [done]);
  const at = ['--reducer', `127.0.0.1:${place.port}`];
  const top = await command(place, ['top', '--once', '--sort', 'new', ...at]);
  assert.equal(top.code, 0, top.stderr);
  assert.match(top.stdout.toString('utf8'), /^traffic .* 200 +200 /m);
  const elsewhere = await makePlace(t, { SONDE_COLLECTOR_PIN_PATH: place.pin_path });
  const second = new Running(elsewhere, ['run']);
  const refused = await second.ended;
  assert.equal(refused.code, 2, 'two collectors had the same pins');
  assert.match(refused.stderr, /another collector of this machine has it/);
  const ledger = await command(place, ['ledger', '--json', ...at]);
  const { lost, differences } = JSON.parse(ledger.stdout.toString('utf8'));
  assert.deepEqual(
    { lost, differences, code: ledger.code },
    { lost: [], differences: [], code: 0 },
  );
  await run.end();
});
