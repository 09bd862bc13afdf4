// The lines that give rights: those of the chosen sources, and no others.

import assert from 'node:assert/strict';
import test from 'node:test';
import { parse } from 'yaml';
import type { Probe } from '../table/probe.ts';
import { grantOf, grantText, rightsOf } from './grant.ts';

const PLACE = { pin_path: '/sys/fs/bpf/sonde', data_dir: '/var/lib/sonde', node: '/opt/node' };

function probe(name: string, rights: Probe['rights']): Probe {
  return { name, help: '', tables: [], parts: [], sweeps: [], rights, enabled_variable: name };
}

const plain = probe('plain', ['CAP_PERFMON', 'CAP_BPF']);
const net = probe('net', ['CAP_BPF', 'CAP_NET_ADMIN']);

test('rights of several sources, each once, in one order', () => {
  assert.deepEqual(rightsOf([plain]), ['CAP_BPF', 'CAP_PERFMON']);
  assert.deepEqual(rightsOf([net, plain]), ['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN']);
});

test('the rights as data', () => {
  const { sources, rights, not_needed } = grantOf([plain, net]);
  assert.deepEqual(sources, ['plain', 'net']);
  const of = rights.map((right) => [right.name, right.sources.join()]);
  assert.deepEqual(of, [
    ['CAP_BPF', 'plain,net'],
    ['CAP_PERFMON', 'plain'],
    ['CAP_NET_ADMIN', 'net'],
  ]);
  assert.ok(not_needed.every(({ name }) => !rights.some((right) => right.name === name)));
});

test('setcap, systemd and Kubernetes say the same', () => {
  const text = grantText([plain, net], PLACE);
  const names = 'CAP_BPF CAP_PERFMON CAP_NET_ADMIN';
  assert.match(text, /setcap cap_bpf,cap_perfmon,cap_net_admin\+ep /);
  assert.ok(text.includes(`AmbientCapabilities=${names}\n`));
  assert.ok(text.includes(`CapabilityBoundingSet=${names}\n`));
  assert.match(text, /ReadWritePaths=\/sys\/fs\/bpf\/sonde \/var\/lib\/sonde\n/);
  const { securityContext } = parse(text.slice(text.indexOf('  securityContext:')));
  assert.deepEqual(securityContext.capabilities, {
    drop: ['ALL'],
    add: ['BPF', 'PERFMON', 'NET_ADMIN'],
  });
  assert.equal(securityContext.privileged, false);
  assert.match(text, /CAP_NET_ADMIN +attach to the root cgroup.*\(net\)/);
  const without = grantText([plain], PLACE);
  assert.doesNotMatch(without, /net_admin|NET_ADMIN/);
});

test('the right of a part that is not the source’s own is told, and not given', () => {
  const parts: Probe['parts'] = [
    {
      name: 'part',
      help: 'what it sees',
      required: false,
      variants: [{ name: 'cgroup', programs: [], needs: ['right:CAP_NET_ADMIN'] }],
    },
  ];
  const partly = { ...plain, name: 'partly', parts };
  const told = { name: 'CAP_NET_ADMIN', why: 'partly: what it sees' };
  assert.deepEqual(grantOf([partly]).not_needed[0], told);
  const text = grantText([partly], PLACE);
  assert.match(text, /CAP_NET_ADMIN +partly: what it sees\n/);
  assert.doesNotMatch(text, /setcap.*net_admin/);
  assert.ok(grantOf([partly, net]).not_needed.every(({ name }) => name !== told.name));
});
