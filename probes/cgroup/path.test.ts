// Paths as the drivers and runtimes write them → the pod. Containers: src/collector/proc.test.ts.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { containerId, podUid } from './path.ts';

const SEED = 20_260_126;
const ID = '3f4e1c2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff001';
const POD = '8b1c9d2e-0f3a-4b5c-8d7e-6f9a0b1c2d3e';
const OUTER = '11112222-3333-4444-5555-666677778888';
const SLICE = POD.replaceAll('-', '_');
const STATIC = '0123456789abcdef0123456789abcdef';
const SYSTEMD = '/kubepods.slice/kubepods-burstable.slice';

const PATHS: readonly (readonly [string, string, string])[] = [
  ['cgroupfs, guaranteed', `/kubepods/pod${POD}/${ID}`, POD],
  ['cgroupfs, burstable', `/kubepods/burstable/pod${POD}/${ID}`, POD],
  ['cgroupfs, best effort', `/kubepods/besteffort/pod${POD}/${ID}`, POD],
  ['cgroupfs, the pod itself', `/kubepods/burstable/pod${POD}`, POD],
  [
    'systemd, containerd',
    `${SYSTEMD}/kubepods-burstable-pod${SLICE}.slice/cri-containerd-${ID}.scope`,
    POD,
  ],
  ['systemd, CRI-O', `${SYSTEMD}/kubepods-burstable-pod${SLICE}.slice/crio-${ID}.scope`, POD],
  ['systemd, Docker', `${SYSTEMD}/kubepods-burstable-pod${SLICE}.slice/docker-${ID}.scope`, POD],
  [
    'systemd, guaranteed',
    `/kubepods.slice/kubepods-pod${SLICE}.slice/cri-containerd-${ID}.scope`,
    POD,
  ],
  ['systemd, the pod itself', `${SYSTEMD}/kubepods-burstable-pod${SLICE}.slice`, POD],
  [
    'CRI-O, what watches the container',
    `${SYSTEMD}/kubepods-burstable-pod${SLICE}.slice/crio-conmon-${ID}.scope`,
    POD,
  ],
  [
    'cgroupfs under systemd',
    `/system.slice/containerd.service/kubepods-burstable-pod${SLICE}.slice:cri-containerd:${ID}`,
    POD,
  ],
  ['a static pod, cgroupfs', `/kubepods/burstable/pod${STATIC}/${ID}`, STATIC],
  [
    'a static pod, systemd',
    `${SYSTEMD}/kubepods-burstable-pod${STATIC}.slice/cri-containerd-${ID}.scope`,
    STATIC,
  ],
  [
    'a node that is itself a pod',
    `/kubepods/pod${OUTER}/${ID}/kubelet${SYSTEMD}/kubepods-burstable-pod${SLICE}.slice/${ID}`,
    POD,
  ],
  [
    'kind',
    `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${SLICE}.slice/cri-containerd-${ID}.scope`,
    POD,
  ],
  ['Docker without Kubernetes', `/docker/${ID}`, ''],
  ['Podman', `/machine.slice/libpod-${ID}.scope`, ''],
  ['a service', '/system.slice/podman.service', ''],
  ['one digit too few', `/kubepods/pod${POD.slice(1)}/${ID}`, ''],
  ['one digit too many', `/kubepods/pod${POD}0/${ID}`, ''],
  ['dashes and underlines mixed', `/kubepods/pod${POD.replace('-', '_')}/${ID}`, ''],
  ['upper case', `/kubepods/pod${POD.toUpperCase()}/${ID}`, ''],
  ['another word before it', `/kubepods/tripod${POD}/${ID}`, ''],
  ['the root', '/', ''],
];

for (const [name, path, expected] of PATHS) {
  test(`pod uid: ${name}`, () => assert.equal(podUid(path), expected));
}

test(`any text is read without a throw, seed ${SEED}`, () => {
  const piece = fc.constantFrom('/', 'pod', '-', '_', '.slice', ':', POD, SLICE, STATIC, ID, '\0');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const path = pieces.join('');
      assert.ok(['', POD, STATIC].includes(podUid(path)));
      assert.match(containerId(path), /^([0-9a-f]{64})?$/); // two of 32 digits are one
    }),
    { seed: SEED, numRuns: 2000 },
  );
});
