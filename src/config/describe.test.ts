import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { configInForce, configurationPage, describeConfig, diffConfig } from './describe.ts';
import { loadConfig } from './load.ts';

const options = { role: 'run', sources: ['tcp', 'udp'] } as const;

test('docs/configuration.md is what the schema says', () => {
  const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  assert.equal(page, configurationPage(), 'run: npm run docs');
});

test('a row has all that --help and the page need', () => {
  const row = describeConfig(['tcp']).find((candidate) => candidate.key === 'log.file');
  assert.deepEqual(row, {
    key: 'log.file',
    kind: 'true or false',
    env: 'SONDE_LOG_FILE',
    flag: '--no-log-file',
    default: 'true',
    help: 'Write no log file',
    flag_help: 'Write no log file',
    live: false,
    takes_value: false,
  });
  const probe = describeConfig(['tcp']).filter((candidate) => candidate.key.includes('probes'));
  assert.deepEqual(
    probe.map((candidate) => [candidate.key, candidate.env]),
    [['collector.probes.tcp.enabled', 'SONDE_COLLECTOR_PROBES_TCP_ENABLED']],
  );
});

test('--help of a role has the keys of that role', () => {
  const sections = (role: 'collector' | 'reducer' | 'run') =>
    [...new Set(describeConfig([], role).map((row) => row.key.split('.')[0]))].join(' ');
  assert.equal(sections('collector'), 'data_dir log collector');
  assert.equal(sections('reducer'), 'data_dir log reducer');
  assert.equal(sections('run'), 'data_dir log collector reducer');
});

test('a flag stands once in --help, also where it means two keys', () => {
  for (const role of ['collector', 'reducer', 'run'] as const) {
    const flags = describeConfig([], role).map((row) => row.flag);
    assert.equal(flags.filter((flag) => flag === '--allow-plaintext').length, 1, role);
  }
});

test('a reload says what it can change and what waits', () => {
  const old = loadConfig(options).config;
  const env = {
    SONDE_COLLECTOR_INTERVAL: '1s',
    SONDE_COLLECTOR_PROBES_UDP_ENABLED: 'false',
    SONDE_COLLECTOR_RING_BYTES: '1MiB',
    SONDE_REDUCER_TOKEN: 'hunter2',
  };
  const { live, restart } = diffConfig(old, loadConfig({ ...options, env }).config);
  assert.deepEqual(live, [{ key: 'collector.interval', before: 10_000, after: 1_000 }]);
  assert.deepEqual(restart, [
    { key: 'collector.ring_bytes', before: 8_388_608, after: 1_048_576 },
    { key: 'collector.probes.udp.enabled', before: undefined, after: false },
    { key: 'reducer.token', before: '(not shown)', after: '(not shown)' },
  ]);
  assert.deepEqual(diffConfig(old, loadConfig(options).config), { live: [], restart: [] });
});

test('the configuration in force has every key and no secret', () => {
  const env = { SONDE_REDUCER_STORE_PASSWORD: 'hunter2' };
  const shown = configInForce(loadConfig({ ...options, env }).config);
  assert.equal(shown['collector.ring_bytes'], 8_388_608);
  assert.equal(shown['reducer.store.password'], '(set, not shown)');
  assert.doesNotMatch(JSON.stringify(shown), /hunter2/);
});
