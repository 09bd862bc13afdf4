import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Spool, type SpoolInput } from './spool.ts';

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'open-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function entry(table: string, fill: number, bytes = 100): SpoolInput {
  return { table, payload: Buffer.alloc(bytes, fill), rows: fill, counts: { seen: fill } };
}

/** What a crash leaves: the files as they are, the lock free. */
function crashed(spool: Spool): Spool {
  spool.close();
  return Spool.open(spool.dir, { bytes_max: 1 << 20 });
}

const at = (cursor: number, ring_id = 'r') => ({ ring_id, cursor });
const openIn = (t: TestContext) => Spool.open(folder(t), { bytes_max: 1 << 20 });

test('what was kept last is there after a crash, as a whole', (t) => {
  let spool = openIn(t);
  t.after(() => spool.close());
  assert.equal(spool.leftOpen(), undefined);
  assert.equal(spool.keepOpen([entry('a', 1)], at(10)), undefined);
  assert.equal(spool.keepOpen([entry('a', 2), entry('b', 3)], at(20)), undefined);
  assert.deepEqual([...spool.pending()], []);
  spool = crashed(spool);
  assert.deepEqual(spool.leftOpen(), { entries: [entry('a', 2), entry('b', 3)], ring: at(20) });
});

test('what has come into the log since is not taken from beside it again', (t) => {
  let spool = openIn(t);
  t.after(() => spool.close());
  spool.keepOpen([entry('a', 2)], at(20));
  spool.appendGroup([entry('a', 2)], at(20)); // and was killed before it could forget
  spool = crashed(spool);
  assert.equal(spool.leftOpen(), undefined);
  spool.keepOpen([entry('a', 5)], at(30));
  spool = crashed(spool);
  assert.deepEqual(spool.leftOpen()?.ring, at(30));
  spool.forgetOpen();
  spool = crashed(spool);
  assert.equal(spool.leftOpen(), undefined);
});

test('rings are told apart: that of the next load begins at 0', (t) => {
  let spool = openIn(t);
  t.after(() => spool.close());
  spool.appendGroup([entry('a', 1)], at(1000, 'old'));
  spool.keepOpen([entry('a', 2)], at(20, 'new'));
  spool = crashed(spool);
  assert.deepEqual(spool.leftOpen()?.ring, at(20, 'new'));
  spool.appendGroup([entry('a', 2)], at(20, 'new'));
  spool.appendGroup([entry('a', 3)], at(5, 'third'));
  spool = crashed(spool);
  assert.equal(spool.leftOpen(), undefined);
});

test('sequences that went to batches from memory do not hide it', (t) => {
  let spool = openIn(t);
  t.after(() => spool.close());
  spool.keepOpen([entry('a', 2)], at(20));
  const refused = spool.append(entry('a', 1, 1 << 20)); // spends a sequence, and moves no ring on
  assert.equal(refused.ok, false);
  spool = crashed(spool);
  assert.deepEqual(spool.leftOpen()?.ring, at(20));
  spool.noteRing(at(20));
  spool = crashed(spool);
  assert.equal(spool.leftOpen(), undefined);
});

test('too much for the limit, or no folder: the reason, and what was kept before stands', (t) => {
  const spool = openIn(t);
  t.after(() => spool.close());
  spool.keepOpen([entry('a', 2)], at(20));
  assert.equal(spool.keepOpen([entry('a', 3, (1 << 17) + 1)], at(30)), 'too_large');
  assert.deepEqual(spool.leftOpen()?.ring, at(20));
  rmSync(spool.dir, { recursive: true });
  assert.equal(spool.keepOpen([entry('a', 3)], at(30)), 'ENOENT');
});

test('a record that a power loss tore is none', (t) => {
  let spool = openIn(t);
  t.after(() => spool.close());
  spool.keepOpen([entry('a', 2)], at(20));
  const path = join(spool.dir, 'open');
  assert.ok(existsSync(path));
  truncateSync(path, 90);
  spool = crashed(spool);
  assert.equal(spool.leftOpen(), undefined);
});
