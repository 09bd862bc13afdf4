import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closing, rowsAt, setupSteps, startFaults, steps } from './steps.ts';

test('a row at a port is one that was opened there, not one to it', () => {
  const head = 'process    pid  direction  proto  local           peer            opened  closed\n';
  const at = 'node     30115  incoming   tcp    127.0.0.1:8000  127.0.0.1:*          2       0\n';
  const to = 'node     30083  outgoing   tcp    127.0.0.1:*     127.0.0.1:8000       1       0\n';
  const none = 'node     30115  incoming   tcp    127.0.0.1:8000  127.0.0.1:*          0       1\n';
  assert.deepEqual(rowsAt(head + to + none, 8000), []);
  assert.deepEqual(rowsAt(head + at + to, 8000), [at.trimEnd()]);
  assert.deepEqual(rowsAt(head + at + to, 800), []);
});

test('a start is well when its tables show the port, the last one too', () => {
  const head = 'process    pid  direction  proto  local           peer            opened\n';
  const row = 'node     30115  incoming   tcp    127.0.0.1:8080  127.0.0.1:*          2\n';
  const whole = `sonde: collector: tcp on\n${head}${head}${row}${head}${row}`;
  assert.deepEqual(startFaults({ status: 130, text: whole }, 8080), []);
  const cut = { status: 130, text: whole.slice(0, whole.lastIndexOf(row)) };
  assert.deepEqual(startFaults(cut, 8080), ['there is no table at the end']);
  assert.deepEqual(startFaults({ status: 2, text: '' }, 8080), [
    'status 2 after Ctrl-C',
    'our requests are in no table',
    'tcp is not on',
  ]);
});

test('mounting is no step of set-up: a machine forgets its mounts', () => {
  const text = 'sonde set-up: mounting bpf on /x\nsonde set-up: build: a\nsonde: tcp on\n';
  assert.deepEqual(setupSteps(text), ['sonde set-up: build: a']);
});

test('the closing counts and the reasons of what was skipped, each once', () => {
  const text = `✔ one (1.5ms)
  ﹣ inner (0.1ms) # needs ip
﹣ outer (0.2ms) # needs go
﹣ more (0.2ms) # needs ip
ℹ 9 bytes
ℹ tests 4
ℹ pass 1
ℹ fail 0
ℹ cancelled 0
ℹ skipped 3
`;
  assert.deepEqual(closing(text), {
    counts: { tests: 4, pass: 1, fail: 0, cancelled: 0, skipped: 3 },
    reasons: ['needs go', 'needs ip'],
  });
});

test('names of steps differ', () => {
  assert.equal(new Set(steps.map(({ name }) => name)).size, steps.length);
});
