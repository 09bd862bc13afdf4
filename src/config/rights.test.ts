import assert from 'node:assert/strict';
import test from 'node:test';
import { probes } from '../../probes/index.ts';
import {
  type Capability,
  heldCapabilities,
  missingRights,
  refusalOf,
  rightsText,
} from './rights.ts';

test('capabilities are read from the status page', () => {
  const bits = (1n << 39n) | (1n << 12n) | 1n;
  const status = `CapPrm:\tffffffffffffffff\nCapEff:\t${bits.toString(16).padStart(16, '0')}\nX:\t1\n`;
  assert.deepEqual([...heldCapabilities(status)], ['CAP_NET_ADMIN', 'CAP_BPF']);
  assert.equal(heldCapabilities('').size, 0);
  assert.equal(heldCapabilities('CapEff:\tzz\n').size, 0);
});

test('CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, not for the rest', () => {
  const needed: Capability[] = ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN'];
  assert.deepEqual(missingRights(needed, new Set(['CAP_SYS_ADMIN'])), ['CAP_NET_ADMIN']);
  assert.deepEqual(missingRights(needed, new Set(needed)), []);
});

test('a start is refused only when no source could be loaded, and names each', () => {
  const sources = [
    { name: 'tcp', rights: ['CAP_BPF', 'CAP_PERFMON'] },
    { name: 'udp', rights: ['CAP_BPF'] },
  ] as const;
  assert.equal(refusalOf(sources, new Set(['CAP_BPF'])), undefined);
  const text = refusalOf(sources, new Set()) ?? '';
  assert.match(text, /^ {2}tcp is missing CAP_BPF, CAP_PERFMON\n {2}udp is missing CAP_BPF$/m);
});

test('the words for the operator name every right that a source needs', () => {
  for (const right of probes.flatMap(({ rights }) => rights)) {
    assert.ok(rightsText().includes(right), right);
  }
  // Said of every source.
  for (const { name, rights } of probes) {
    for (const right of ['CAP_BPF', 'CAP_PERFMON'] as const)
      assert.ok(rights.includes(right), name);
  }
});
