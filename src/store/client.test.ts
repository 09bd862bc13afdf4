// The store in a folder: the cases of every store, and what only an embedded one has.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { storeCases } from './cases.ts';
import { temporaryDir } from './testing.ts';

const dir = temporaryDir();
after(() => dir.remove());

storeCases(async () => ({ dir: dir.path }));

test('nothing is left in the journal', () => {
  assert.deepEqual(readdirSync(join(dir.path, 'journal')), []);
});

test('a second store in the same folder is refused, with the cure', () => {
  const script = `
    import { Store } from ${JSON.stringify(new URL('./client.ts', import.meta.url).href)};
    try {
      await Store.open({ target: { dir: ${JSON.stringify(dir.path)} }, tables: [] });
      console.log('opened');
    } catch (error) {
      console.log(error.code, error.message);
    }`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  const text = child.stdout.toString();
  assert.match(text, /^STORE_IN_USE Cannot open the store .*, process \d+ is using it: stop that/);
  assert.match(text, new RegExp(`process ${process.pid} `));
  assert.equal(child.stderr.toString(), '', 'the engine has no words of its own for it');
});

test('an engine that is not installed is an error with its cure', () => {
  const script = `
    import { registerHooks } from 'node:module';
    registerHooks({
      resolve(name, context, next) {
        if (name.startsWith('chdb')) throw new Error('Cannot find package chdb');
        return next(name, context);
      },
    });
    const { Store } = await import(${JSON.stringify(new URL('./client.ts', import.meta.url).href)});
    await Store.open({ target: { dir: '/nonexistent' }, tables: [] }).catch((error) => {
      console.log(error.code, error.message);
    });`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  assert.match(child.stdout.toString(), /^STORE_ENGINE_MISSING Cannot load .*: run npm install/);
});
