import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { Elf } from './elf.ts';
import { BpfError } from './error.ts';
import { KERNEL_BTF_PATH, KernelBtf } from './kernel-btf.ts';
import { fixture } from './testdata/fixture.ts';

const skip = existsSync(KERNEL_BTF_PATH) ? false : 'this kernel has no BTF';
const section = Elf.parse(await fixture('probe')).section('.BTF');
assert.ok(section);
const own = section.bytes;

test('types, fields and enumerators are found in any BTF', () => {
  using btf = KernelBtf.parse(new Uint8Array(own));
  assert.equal(btf.has('struct', 'event'), true);
  assert.equal(btf.has('enum', 'event'), false);
  assert.equal(btf.has('struct', 'even'), false);
  assert.equal(btf.has('struct', 'event', 'slots'), true);
  assert.equal(btf.has('struct', 'event', 'slot'), false);
  assert.equal(btf.has('struct', 'event', 'first'), false);
  assert.equal(btf.has('enum', 'event_kind', 'EVENT_SECOND'), true);
  assert.equal(btf.has('enum', 'event_kind', 'event'), false);
  assert.equal(btf.has('function', 'on_enter'), true);
  assert.equal(btf.has('typedef', '__u32'), true);
  assert.equal(btf.fieldOffset('event', 'small'), 92);
  assert.equal(btf.structSize('event'), 96);
  assert.equal(btf.structSize('nope'), undefined);
});

test("the kernel's own BTF tells tracepoints, functions and nested fields", { skip }, () => {
  using btf = KernelBtf.open();
  assert.equal(btf.has('tracepoint', 'sched_switch'), true);
  assert.equal(btf.has('tracepoint', 'no_such_tracepoint'), false);
  assert.equal(btf.has('function', 'tcp_v4_connect'), true);
  assert.equal(btf.has('struct', 'sock', 'sk_err'), true);
  // In a nameless struct within a nameless union.
  assert.equal(btf.has('struct', 'sock_common', 'skc_dport'), true);
  assert.equal(btf.fieldOffset('sock_common', 'skc_dport'), 12);
  assert.equal(btf.has('enum', 'bpf_attach_type', 'BPF_CGROUP_INET_EGRESS'), true);
  assert.equal(btf.enumNames('bpf_attach_type').get(1), 'BPF_CGROUP_INET_EGRESS');
  assert.equal(btf.enumNames('no_such_enum').size, 0);
});

test('a closed BTF has given its memory back and is refused', () => {
  const bytes = new Uint8Array(own);
  const btf = KernelBtf.parse(bytes);
  btf.close();
  btf.close();
  assert.equal(bytes.length, 0);
  assert.throws(() => btf.has('struct', 'event'), { code: 'ECLOSED' });
});

test('a file that is not there, or no BTF, is an error of this library', () => {
  assert.throws(() => KernelBtf.open('/nonexistent'), { code: 'ENOENT' });
  assert.throws(() => KernelBtf.open('/proc/self/status'), BpfError);
  for (const length of [0, 1, 23, 24, own.length - 1]) {
    assert.throws(() => KernelBtf.parse(own.slice(0, length)), { code: 'EFORMAT' });
  }
});
