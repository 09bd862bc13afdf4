import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildNative } from './build-native.ts';
import {
  capabilities,
  findMount,
  libbpfVersion,
  possibleCpus,
  probeHelper,
  probeMap,
  probeProgram,
  raiseMemlock,
} from './features.ts';
import { skipLive } from './testdata/fixture.ts';

await buildNative();
const skip = skipLive();

test('capabilities are decoded from the status of a process', () => {
  const status = 'Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0002008000001001\n';
  assert.deepEqual([...capabilities(status)].sort(), [
    ...['CAP_CHOWN', 'CAP_NET_ADMIN', 'CAP_49', 'CAP_BPF'].sort(),
  ]);
  assert.equal(capabilities('CapEff:\t0000000000000000').size, 0);
});

test('a mount is found by its type, with blanks in its path', () => {
  const mounts = 'tmpfs /a tmpfs rw 0 0\ncgroup2 /sys/a\\040b\\134c cgroup2 rw 0 0\n';
  assert.equal(findMount('cgroup2', mounts), '/sys/a b\\c');
  assert.equal(findMount('bpf', mounts), undefined);
});

test('the kernel is asked by trying', { skip }, () => {
  assert.deepEqual(probeProgram('cgroup_skb'), { state: 'yes' });
  assert.deepEqual(probeMap('hash'), { state: 'yes' });
  assert.deepEqual(probeHelper('cgroup_skb', 'map_lookup_elem'), { state: 'yes' });
  assert.equal(probeHelper('cgroup_skb', 'probe_write_user').state, 'no');
  assert.equal(probeProgram('no_such_type').state, 'unknown');
  assert.equal(probeHelper('cgroup_skb', 'no_such_helper').state, 'unknown');
  const raised = raiseMemlock();
  assert.ok(raised || !capabilities().has('CAP_SYS_RESOURCE'));
});

test('the machine and the library tell about themselves', () => {
  assert.ok(possibleCpus() >= 1);
  assert.match(libbpfVersion(), /^v1\.\d+/);
});
