// What becomes of a command whose standard output is closed, slow or full.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

const SONDE = join(import.meta.dirname, '../../sonde');
const LENGTH = 1_000_000;
/** More than a pipe holds. */
const LONG = `
  const { print } = await import(${JSON.stringify(new URL('./output.ts', import.meta.url).href)});
  process.stdout.isTTY; // makes the pipe one that does not block
  print('a'.repeat(${LENGTH}));`;

function long() {
  return spawn(process.execPath, ['--input-type=module', '-e', LONG], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

test('a reader that has seen enough ends it quietly', async () => {
  const child = long();
  child.stdout.once('data', () => child.stdout.destroy());
  let err = '';
  child.stderr.on('data', (piece) => {
    err += String(piece);
  });
  const status = await new Promise((resolve) => child.once('close', resolve));
  assert.deepEqual([status, err], [0, '']);
});

test('a reader that is slow gets all of it', async () => {
  const child = long();
  let length = 0;
  for await (const piece of child.stdout) {
    length += piece.length;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.equal(length, LENGTH);
});

for (const words of [
  ['--help'],
  ['--version'],
  ['query', '--help'],
  ['doctor', '--json'],
  ['doctor', '--grant'],
]) {
  test(`a full disk is an error in words: sonde ${words.join(' ')}`, () => {
    const full = openSync('/dev/full', 'w');
    const result = spawnSync(SONDE, words, { stdio: ['ignore', full, 'pipe'] });
    closeSync(full);
    const said = 'sonde: standard output: no space left on device\n';
    assert.deepEqual([result.status, String(result.stderr)], [1, said]);
  });
}
