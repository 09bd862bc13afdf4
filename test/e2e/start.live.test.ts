// Starts that must be refused whole, and starts by other ways: missing rights, ports in use, a store by URL, TLS.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { NO_LIVE } from '../live.ts';
import { talk } from '../traffic/traffic.ts';
import {
  ask,
  command,
  leftBehind,
  makePlace,
  type Place,
  readLog,
  startCollector,
  startReducer,
  startRun,
} from './sonde.ts';
import { exact } from './truth.ts';

const TALK = { connections: 100 };
const NOBODY = 65_534;

function nothingStarted(place: Place): void {
  assert.equal(existsSync(place.pin_path), false, 'pins are left');
  assert.deepEqual(leftBehind(place), [], 'processes are left');
}

test('without rights: a refusal that names them, and nothing started', {
  skip: NO_LIVE,
}, async (t) => {
  const place = await makePlace(t);
  chmodSync(place.dir, 0o777);
  const through = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--'];
  const visible = spawnSync(through[0]!, [...through.slice(1), 'test', '-x', process.execPath]);
  if (visible.status !== 0) return t.skip('another user may not run the Node of this checkout');
  for (const role of ['run', 'kernel-collector']) {
    const { code, stderr } = await command(place, [role], { through });
    assert.equal(code, 2, stderr);
    assert.match(stderr, /CAP_BPF/);
    nothingStarted(place);
  }
  mkdirSync(join(place.dir, 'data'));
  chownSync(join(place.dir, 'data'), NOBODY, NOBODY);
  const reducer = await startReducer(place, { through });
  await startCollector(place);
  await exact(place, [await talk(t, 'tcp', TALK, TALK)]);
  assert.equal((await reducer.end()).code, 0, 'a reducer of an ordinary user');
});

function listen(port: number): Promise<Server> {
  const server = createServer();
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server)));
}

for (const which of ['port', 'metrics_port'] as const) {
  test(`the ${which} is in use: a refusal, and nothing started`, { skip: NO_LIVE }, async (t) => {
    const place = await makePlace(t);
    const server = await listen(place[which]);
    t.after(() => server.close());
    const { code, stderr } = await command(place, ['run', '--for', '20']);
    assert.equal(code, 2, stderr);
    assert.match(stderr, new RegExp(`127\\.0\\.0\\.1:${place[which]}`));
    assert.match(
      stderr,
      which === 'port'
        ? /SONDE_REDUCER_LISTEN|--listen|reducer\.listen/
        : /--metrics|reducer\.metrics/,
    );
    nothingStarted(place);
  });
}

test('a reducer with a ClickHouse server', { skip: NO_LIVE }, async (t) => {
  const stand_in = join(import.meta.dirname, '../../src/store/testdata/server-stand-in.ts');
  const place = await makePlace(t);
  const child = spawn(process.execPath, [stand_in, join(place.dir, 'server')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  place.undo(() => child.kill('SIGKILL'));
  const [url] = await createInterface(child.stdout)
    [Symbol.asyncIterator]()
    .next()
    .then(({ value }) => [String(value)]);
  const run = await startRun(place, [], { env: { SONDE_REDUCER_STORE_URL: url } });
  await exact(place, [await talk(t, 'tcp', TALK, TALK)]);
  assert.equal(existsSync(join(place.dir, 'data/store')), false, 'an embedded store was made, too');
  assert.equal((await run.end()).code, 0);
  const gone = { SONDE_REDUCER_STORE_URL: 'http://127.0.0.1:9' };
  const { code, stderr } = await command(place, ['run', '--for', '20'], { env: gone });
  assert.equal(code, 2, stderr);
  assert.match(stderr, /Cannot use the ClickHouse server at http:\/\/127\.0\.0\.1:9/);
  nothingStarted(place);
});

/** An authority, and certificates of it for the reducer (127.0.0.1) and the collector. */
function certificates(dir: string): (name: string) => string {
  const at = (name: string) => join(dir, name);
  const openssl = (...words: string[]) =>
    execFileSync('openssl', words, { cwd: dir, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const ca = ['req', '-x509', ...key, '-days', '2', '-subj'];
  for (const name of ['ca', 'other'])
    openssl(...ca, `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.pem`);
  writeFileSync(at('san'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  for (const [name, by] of [
    ['reducer', 'ca'],
    ['collector', 'ca'],
    ['stranger', 'other'],
  ] as const) {
    openssl('req', ...key, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
    const sign = [
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      `${by}.pem`,
      '-CAkey',
      `${by}.key`,
      '-CAcreateserial',
    ];
    openssl(...sign, '-days', '2', '-extfile', 'san', '-out', `${name}.pem`);
  }
  return at;
}

test('TLS, a certificate of the collector, and a token', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t, { SONDE_TOKEN: 'secret' });
  const at = certificates(place.dir);
  const reducer = {
    SONDE_REDUCER_TLS_CERT_PATH: at('reducer.pem'),
    SONDE_REDUCER_TLS_KEY_PATH: at('reducer.key'),
    SONDE_REDUCER_TOKEN: 'secret',
  };
  const collector = {
    SONDE_COLLECTOR_TLS_ENABLED: 'true',
    SONDE_COLLECTOR_TLS_CA_PATH: at('ca.pem'),
    SONDE_COLLECTOR_TOKEN: 'secret',
  };
  const mutual = {
    SONDE_COLLECTOR_TLS_CERT_PATH: at('collector.pem'),
    SONDE_COLLECTOR_TLS_KEY_PATH: at('collector.key'),
  };
  const ca = ['--fresh', '--ca', at('ca.pem')];
  await t.test('TLS and token', async () => {
    const one = await startReducer(place, { env: reducer });
    const two = await startCollector(place, { env: collector });
    const done = await talk(t, 'tcp', TALK, TALK);
    await exact(place, [done], ca);
    await assert.rejects(
      ask(place, 'SELECT 1', []),
      /no reducer answers/,
      'plain text was answered',
    );
    const env = { SONDE_TOKEN: 'wrong' };
    const words = [
      'query',
      'SELECT 1',
      '--reducer',
      `127.0.0.1:${place.port}`,
      '--ca',
      at('ca.pem'),
    ];
    assert.notEqual((await command(place, words, { env })).code, 0, 'a wrong token was answered');
    assert.equal((await two.end()).code, 0);
    assert.equal((await one.end()).code, 0);
  });
  await t.test('mutual TLS: the collector comes through, a stranger does not', async () => {
    const client_ca = { SONDE_REDUCER_TLS_CLIENT_CA_PATH: at('ca.pem') };
    const one = await startReducer(place, { env: { ...reducer, ...client_ca } });
    const done = await talk(t, 'tcp', TALK, TALK);
    const stranger = await startCollector(place, {
      env: {
        ...collector,
        SONDE_COLLECTOR_TLS_CERT_PATH: at('stranger.pem'),
        SONDE_COLLECTOR_TLS_KEY_PATH: at('stranger.key'),
      },
    });
    const kept = await talk(t, 'tcp', TALK, TALK);
    assert.equal((await stranger.end()).code, 0);
    const two = await startCollector(place, { env: { ...collector, ...mutual } });
    const later = await talk(t, 'tcp', TALK, TALK);
    assert.equal((await two.end()).code, 0);
    assert.equal((await one.end()).code, 0);
    const plain = await startReducer(place);
    await exactNow(place, [kept, later], done.port);
    assert.equal((await plain.end()).code, 0);
  });
  assert.doesNotMatch(readLog(place), /secret/, 'the token is in the log');
});

/** No collector runs: the store has it all already; `unseen` was before any. */
async function exactNow(
  place: Place,
  talks: Parameters<typeof exact>[1],
  unseen: number,
): Promise<void> {
  await exact(place, talks, []);
  const sql = `SELECT toUInt32(count()) AS n FROM netflow WHERE dst_port = ${unseen}`;
  assert.deepEqual(await ask(place, sql, []), [{ n: 0 }]);
}
