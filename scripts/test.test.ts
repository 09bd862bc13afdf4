import assert from 'node:assert/strict';
import test from 'node:test';
import { turns } from './test.ts';

const PATHS = [
  'test/kernels/report.test.ts',
  'src/b.live.test.ts',
  'src/a.test.ts',
  'src/a.live.test.ts',
];

test('live tests come after the others, one at a time; those of the kernel matrix are ordinary', () => {
  assert.deepEqual(turns(PATHS, []), [
    { files: ['src/a.test.ts', 'test/kernels/report.test.ts'], concurrency: 2, retried: false },
    { files: ['src/a.live.test.ts', 'src/b.live.test.ts'], concurrency: 1, retried: true },
  ]);
});

test('words narrow the tests to paths that contain one of them', () => {
  assert.deepEqual(turns(PATHS, ['kernels/', 'b.live']), [
    { files: ['test/kernels/report.test.ts'], concurrency: 2, retried: false },
    { files: ['src/b.live.test.ts'], concurrency: 1, retried: true },
  ]);
  assert.deepEqual(turns(PATHS, ['nothing']), []);
});
