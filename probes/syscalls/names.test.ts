// The names of system calls against the kernel's own header, where that is installed.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { syscallName } from './names.ts';

const HEADER = '/usr/include/x86_64-linux-gnu/asm/unistd_64.h';
const skip = process.arch !== 'x64' || !existsSync(HEADER) ? `needs x86-64 and ${HEADER}` : false;

test('every number has the name of the kernel’s header', { skip }, () => {
  const pairs = [...readFileSync(HEADER, 'utf8').matchAll(/#define __NR_(\w+) (\d+)/g)];
  assert.ok(pairs.length > 300);
  for (const [, name, nr] of pairs) assert.equal(syscallName(Number(nr)), name);
});

test('numbers without a name say so', () => {
  assert.equal(syscallName(0x7fff), 'rt_sigreturn');
  assert.equal(syscallName(0x8000 + 3), 'compat_3');
  assert.equal(syscallName(9999), 'syscall_9999');
  if (process.arch === 'x64') assert.equal(syscallName(400), 'syscall_400');
});
