import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { linesOf, RESULTS, type Suite, suiteFiles } from './suites.ts';
import { page, readSuites, summary } from './summary.ts';

const SUITES = join(import.meta.dirname, 'suites.ts');

const good: Suite = {
  file: 'probes/a/a.live.test.ts',
  passed: 3,
  failed: [],
  skipped: [{ name: 'timed', why: 'no compare-and-exchange' }],
  failed_at_first: [{ name: 'counts', why: '1 is not 2' }],
  seconds: 7,
};
const bad: Suite = {
  ...good,
  file: 'src/b.live.test.ts',
  passed: 0,
  failed: [{ name: 'loads', why: 'EINVAL\nand more' }],
  skipped: [],
  failed_at_first: [],
};

test('what node says of a file becomes counts and reasons', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-suites-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'x.test.mjs');
  writeFileSync(
    file,
    `import test from 'node:test';
test('outer', async (t) => {
  await t.test('inner', () => {});
  await t.test('wrong', () => { throw new Error('not so'); });
});
test('later', (t) => t.skip('not on this kernel'));
test('never', { skip: 'needs root' }, () => {});
test('fine', () => {});
`,
  );
  // In a process of its own: node runs no tests within tests.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const script = `import { run } from 'node:test';
import { tally } from '${SUITES}';
const events = [];
for await (const event of run({ files: ['${file}'] })) events.push(event);
console.log(JSON.stringify(tally(events)));`;
  const runner = join(folder, 'run.mjs');
  writeFileSync(runner, script);
  const told = execFileSync(process.execPath, [runner], { env, encoding: 'utf8' });
  assert.deepEqual(JSON.parse(told), {
    passed: 2,
    failed: [{ name: 'wrong', why: 'not so' }],
    skipped: [
      { name: 'later', why: 'not on this kernel' },
      { name: 'never', why: 'needs root' },
    ],
  });
});

test('a guest tells each file in a line, and what is not plain in more', () => {
  assert.equal(
    linesOf(good) + linesOf(bad),
    `probes/a/a.live.test.ts: 3 passed, 0 failed, 1 skipped in 7 s
  failed at first: counts: 1 is not 2
  skipped: timed: no compare-and-exchange
src/b.live.test.ts: 0 passed, 1 failed, 0 skipped in 7 s
  failed: loads: EINVAL
    and more
`,
  );
});

test('the summary of a kernel names failures, reasons and what was not reached', () => {
  const files = [good.file, bad.file, 'test/c.live.test.ts'];
  assert.equal(
    summary({ series: '6.1', suites: [good, bad] }, files),
    `6.1: 3 passed, 1 failed, 1 skipped, 1 files not reached, in 2 files
  failed: src/b.live.test.ts: loads: EINVAL
  failed at first: probes/a/a.live.test.ts: counts: 1 is not 2
  skipped: probes/a/a.live.test.ts: timed: no compare-and-exchange
  not reached: test/c.live.test.ts
`,
  );
});

test('the page has a row for each file and the reasons below', () => {
  const kernels = [
    { series: '5.10', suites: [bad] },
    { series: '6.1', suites: [good, { ...bad, failed: [], passed: 2 }] },
  ];
  assert.equal(
    page(kernels),
    `| tests        | 5.10     | 6.1                 |
| ------------ | -------- | ------------------- |
| \`probes/a/a\` | -        | 3 passed, 1 skipped |
| \`src/b\`      | 1 failed | 2 passed            |

- 6.1: 1 of "no compare-and-exchange"
`,
  );
});

test('a file of results is read up to where the machine died', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-suites-'));
  t.after(() => rmSync(folder, { recursive: true }));
  assert.equal(readSuites(folder), undefined);
  const lines = [good, bad].map((suite) => `${JSON.stringify(suite)}\n`).join('');
  writeFileSync(join(folder, RESULTS), `${lines}{"file": "cut`);
  assert.deepEqual(readSuites(folder), [good, bad]);
});

test('suites are found by a part of their path', () => {
  assert.deepEqual(suiteFiles(['probes/udp/udp.']), ['probes/udp/udp.live.test.ts']);
  assert.ok(suiteFiles().includes('src/collector/drain.live.test.ts'));
});
