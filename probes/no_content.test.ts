// The sources of what the kernel spends read numbers and names of programs, never what a program reads, writes or sends: their
// kernel parts use none of the calls by which that could be read.

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

const ROOT = join(import.meta.dirname, '..');
const SOURCES = ['syscalls', 'network', 'fileio', 'block_io', 'scheduler', 'memory', 'tcpstate'];
const SHARED = ['histogram', 'syscall', 'tasks', 'turns'].map((name) => `bpf/${name}.bpf.h`);
const CALLS = /probe_read_user|copy_from_user|skb_load_bytes|skb_pull_data|dynptr|d_path|PT_REGS/;

test('no source of what the kernel spends can read content', () => {
  const folders = SOURCES.map((name) => globSync(`probes/${name}/*.bpf.h`, { cwd: ROOT }));
  assert.ok(folders.every((files) => files.length > 0));
  for (const file of [...folders.flat(), ...SHARED]) {
    const found = CALLS.exec(readFileSync(join(ROOT, file), 'utf8'))?.[0];
    assert.equal(found, undefined, `${file} uses ${found}`);
  }
});
