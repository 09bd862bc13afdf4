// HUP, for a role whose configuration is a file: what is taken over, and what is said of it.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { openLog } from '../config/log.ts';
import type { Config } from '../config/schema.ts';
import { configOf } from './options.ts';
import { reloadOnHup } from './reload.ts';

/** A reducer's log and file of configuration; `reload` writes the file anew and returns what HUP brought to the log. */
function role(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'sonde-reload-'));
  const [file, path] = [join(dir, 'sonde.yaml'), join(dir, 'log')];
  const write = (log: string, rest = '') =>
    writeFileSync(file, `log: {file_path: ${path}, ${log}}\n${rest}`);
  write('level: info');
  const call = { version: '0', args: [], options: { '--config': file } };
  const { config } = configOf('reducer', call);
  const log = openLog(config.log, { name: 'reducer', console: { write: () => undefined } });
  const applied: Config[] = [];
  const undo = reloadOnHup('reducer', call, config, log, (next) => applied.push(next));
  t.after(() => {
    undo();
    rmSync(dir, { recursive: true });
  });
  const lines = () => readFileSync(path, 'utf8').trimEnd().split('\n').filter(Boolean);
  const reload = async () => {
    const seen = lines().length;
    const done = new Promise((resolve) => process.once('SIGHUP', resolve));
    process.kill(process.pid, 'SIGHUP');
    await done;
    return lines()
      .slice(seen)
      .map((line) => JSON.parse(line));
  };
  return { dir, file, path, write, log, applied, reload };
}

test('HUP takes the level over, and says so at the more talkative of the two', async (t) => {
  const { write, log, applied, reload } = role(t);
  write('level: warn', 'collector: {interval: 1s}\nreducer: {listen: "127.0.0.1:9"}\n');
  const quieter = await reload();
  const words = quieter.map(({ msg, changed }) => [msg, changed]);
  assert.deepEqual(words, [
    ['configuration read again', ['log.level']],
    ['reducer.listen changes at the next start', undefined],
  ]);
  assert.equal(log.logger.level, 'warn');
  assert.equal(applied[0]?.collector.interval, 1000);
  write('level: debug', 'reducer: {listen: "127.0.0.1:9"}\n');
  const louder = await reload();
  assert.deepEqual(louder[0].changed, ['log.level']);
  assert.equal(log.logger.level, 'debug');
});

test('what is put back before the next start changes nothing then', async (t) => {
  const { write, reload } = role(t);
  const words = async () => (await reload()).map(({ msg }) => msg);
  const read = 'configuration read again';
  const later = 'reducer.listen changes at the next start';
  write('level: info', 'reducer: {listen: "127.0.0.1:9"}\n');
  assert.deepEqual(await words(), [read, later]);
  assert.deepEqual(await words(), [read, later], 'it is still so');
  write('level: info');
  assert.deepEqual(await words(), [read]);
});

test('a faulty file, and one that is gone, leave what is in force, and are said', async (t) => {
  const { file, write, log, applied, reload } = role(t);
  write('level: loud');
  const [faulty] = await reload();
  assert.match(faulty.msg, /^the configuration in force stays/);
  assert.match(faulty.reason, /sonde\.yaml:1:\d+: log\.level: "loud" /);
  rmSync(file);
  assert.match((await reload())[0].reason, /cannot be read/);
  assert.equal(log.logger.level, 'info');
  assert.equal(applied.length, 0);
});

test('HUP goes on in a new log file, as log rotation expects', async (t) => {
  const { path, log, reload } = role(t);
  log.logger.info('before');
  renameSync(path, `${path}.1`);
  writeFileSync(path, '');
  assert.equal((await reload()).length, 1);
  assert.doesNotMatch(readFileSync(path, 'utf8'), /before/);
});
