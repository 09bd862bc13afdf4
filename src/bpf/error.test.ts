import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BpfError, makeError } from './error.ts';

test('an errno gives the code, also those that user space has no name for', () => {
  assert.equal(makeError('no', 1, null, null, null, null).code, 'EPERM');
  assert.equal(makeError('no', 524, null, null, null, null).code, 'ENOTSUPP');
  assert.equal(makeError('no', 4007, null, null, null, null).code, 'LIBBPF_4007');
  assert.equal(makeError('no', 0, 'ECLOSED', null, null, null).code, 'ECLOSED');
});

test('what the kernel does not have is told apart from what the caller may not', () => {
  assert.equal(new BpfError('no', { errno: 524 }).unsupported, true);
  assert.equal(new BpfError('no', { errno: 95 }).unsupported, true);
  assert.equal(new BpfError('no', { errno: 1 }).unsupported, false);
});

test('a long verifier log is cut to its last useful lines, the others are counted', () => {
  const lines = Array.from({ length: 50 }, (_, i) => `${i}: r0 = ${i}`);
  const verifierLog = [...lines, 'processed 50 insns (limit 1000000)', ''].join('\n');
  const error = new BpfError('Cannot load', { errno: 13, verifierLog, log: 'libbpf: no' });
  assert.equal(error.log.split('\n').length, 20);
  assert.equal(error.log.split('\n').at(-1), '49: r0 = 49');
  assert.equal(error.hidden_lines, 31);
  assert.equal(error.full_log, verifierLog);
  assert.equal(error.message, 'Cannot load (49: r0 = 49)');
});

test("the refused program is found in libbpf's words where the verifier had none", () => {
  const log = "libbpf: prog 'one': BPF program load failed: Operation not permitted\n";
  assert.equal(new BpfError('Cannot load', { errno: 1, log }).program, 'one');
  const relocation = "libbpf: prog 'two': failed to relocate data references: -22\n";
  assert.equal(new BpfError('Cannot load', { errno: 22, log: relocation }).program, 'two');
  assert.equal(new BpfError('Cannot load', { errno: 22, log: 'other' }).program, undefined);
});
