// The store by URL, against the stand-in for a ClickHouse server: the same cases, over HTTP.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { storeCases } from './cases.ts';
import { Store } from './client.ts';
import { temporaryDir } from './testing.ts';

const STAND_IN = fileURLToPath(new URL('./testdata/server-stand-in.ts', import.meta.url));
const dir = temporaryDir();
let child: ChildProcess | undefined;

after(() => {
  child?.kill();
  dir.remove();
});

storeCases(async () => {
  child = spawn(process.execPath, [STAND_IN, dir.path], { stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(child.stdout);
  for await (const url of createInterface(child.stdout)) return { url };
  throw new Error('the stand-in did not start');
});

test('a server that is not there is said at once', async () => {
  await assert.rejects(
    Store.open({ target: { url: 'http://127.0.0.1:9' }, tables: [] }),
    /^StoreOperatorError: Cannot use the ClickHouse server at http.*ECONNREFUSED.*: check the URL/,
  );
});
