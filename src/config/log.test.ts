import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { loadConfig } from './load.ts';
import { openLog, personLine } from './log.ts';

const dir = mkdtempSync(join(tmpdir(), 'sonde-log-'));
const path = join(dir, 'sonde.log');
after(() => rmSync(dir, { recursive: true }));

const base = loadConfig({ role: 'run' }).config.log;

function capture(isTTY = false) {
  const lines: string[] = [];
  return { lines, isTTY, write: (line: string) => lines.push(line) };
}

function messages(file = path): unknown[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line).msg);
}

test('a line is in the file when the call returns; reopened, it goes on in a new file', () => {
  const out = capture();
  const log = openLog({ ...base, file_path: path }, { name: 'reducer', console: out });
  log.logger.info('one');
  log.logger.debug('below the level');
  assert.deepEqual(messages(), ['one']);
  renameSync(path, `${path}.1`);
  log.logger.info('two');
  assert.deepEqual(messages(`${path}.1`), ['one', 'two']);
  log.reopen();
  log.logger.info('three');
  assert.deepEqual(messages(), ['three']);
  log.setLevel('debug');
  log.logger.debug('four');
  assert.deepEqual(messages(), ['three', 'four']);
  assert.deepEqual(out.lines, []);
});

test('--log-console writes to both; --no-log-file to standard error alone', () => {
  const out = capture();
  const file_path = join(dir, 'both.log');
  openLog({ ...base, console: true, file_path }, { name: 'x', console: out }).logger.info('here');
  assert.deepEqual(messages(file_path), ['here']);
  assert.equal(JSON.parse(out.lines[0]).msg, 'here');
  const only = capture();
  openLog({ ...base, file: false }, { name: 'x', console: only }).logger.info('still seen');
  assert.equal(only.lines.length, 1);
});

test('a file that cannot be opened costs one warning, and no line', () => {
  const out = capture();
  const file_path = join(dir, 'absent', 'x.log');
  const log = openLog({ ...base, file_path }, { name: 'x', console: out });
  log.logger.info('one');
  log.logger.info('two');
  const shown = out.lines.map((line) => JSON.parse(line).msg);
  const warning = `Cannot write the log file ${file_path}, using standard error`;
  assert.deepEqual(shown, [warning, 'one', 'two']);
  const both = capture();
  openLog({ ...base, console: true, file_path }, { name: 'x', console: both }).logger.info('one');
  assert.equal(both.lines.length, 2, 'with --log-console no line comes twice');
});

test('a disk that fills stops neither the process nor the lines after', () => {
  const out = capture();
  const log = openLog({ ...base, file_path: '/dev/full' }, { name: 'x', console: out });
  for (let i = 0; i < 4; i++) log.logger.info(`line ${i}`);
  const shown = out.lines.map((line) => JSON.parse(line).msg);
  assert.match(shown[0], /^Cannot write the log file \/dev\/full/);
  assert.equal(shown.at(-1), 'line 3');
  assert.equal(shown.filter((line) => line.startsWith('Cannot')).length, 1);
});

test('on a terminal a line is for people', () => {
  const out = capture(true);
  const log = openLog({ ...base, file: false }, { name: 'collector', console: out });
  log.logger.warn({ source: 'tcp', reason: 'not here' }, 'Failed to load');
  assert.match(
    out.lines[0],
    /^\d\d:\d\d:\d\d WARN {2}collector: Failed to load \(source=tcp, reason="not here"\)\n$/,
  );
  assert.equal(personLine('1'), '1');
  const hostile = JSON.stringify({
    level: 30,
    time: '',
    name: 'x',
    msg: 'a\u001b[2J',
    b: '\u009b',
  });
  assert.match(personLine(hostile), /a\ufffd\[2J \(b=\ufffd\)\n$/);
});

test('a log file is not for everybody to read', () => {
  const file_path = join(dir, 'mode.log');
  openLog({ ...base, file_path }, { name: 'x', console: capture() }).logger.info('x');
  assert.doesNotThrow(() => chmodSync(file_path, 0o640));
});
