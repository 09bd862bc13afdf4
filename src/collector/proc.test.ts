// What /proc and the cgroup file system say of a process, in the forms that container runtimes give it.

import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { CgroupIndex, containerId, parseCgroup, readCgroup, readProcess } from './proc.ts';

const SEED = 20_260_120;
const ID = '3f4e1c2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff001';
const OTHER = 'f0e1d2c3b4a5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff';
const POD = '8b1c9d2e-0f3a-4b5c-8d7e-6f9a0b1c2d3e';
const POD_SLICE = POD.replaceAll('-', '_');
const BURSTABLE = '/kubepods.slice/kubepods-burstable.slice';
const SCOPES = `${BURSTABLE}/kubepods-burstable-pod${POD_SLICE}.slice`;
const USER = '/user.slice/user-1000.slice/user@1000.service';

/** Path → the container that the process is in. */
const PATHS: readonly (readonly [string, string, string])[] = [
  ['Docker, cgroupfs driver', `/docker/${ID}`, ID],
  ['Docker, systemd driver', `/system.slice/docker-${ID}.scope`, ID],
  ['Docker without root', `${USER}/user.slice/docker-${ID}.scope`, ID],
  ['containerd, default namespace', `/default/${ID}`, ID],
  ['nerdctl, systemd driver', `/system.slice/nerdctl-${ID}.scope`, ID],
  ['containerd, Kubernetes, systemd driver', `${SCOPES}/cri-containerd-${ID}.scope`, ID],
  ['containerd, Kubernetes, cgroupfs driver', `/kubepods/burstable/pod${POD}/${ID}`, ID],
  ['containerd, Kubernetes, guaranteed', `/kubepods/pod${POD}/${ID}`, ID],
  [
    'containerd, cgroupfs under systemd',
    `/system.slice/containerd.service/kubepods-burstable-pod${POD_SLICE}.slice:cri-containerd:${ID}`,
    ID,
  ],
  ['CRI-O', `${SCOPES}/crio-${ID}.scope`, ID],
  ['CRI-O, a cgroup of the container', `${SCOPES}/crio-${ID}.scope/container`, ID],
  ['CRI-O, what watches the container', `${SCOPES}/crio-conmon-${ID}.scope`, ''],
  ['Podman', `/machine.slice/libpod-${ID}.scope`, ID],
  ['Podman, split', `/machine.slice/libpod-${ID}.scope/container`, ID],
  ['Podman without root', `${USER}/user.slice/libpod-${ID}.scope`, ID],
  ['Podman, what watches the container', `/machine.slice/libpod-conmon-${ID}.scope`, ''],
  ['ECS', `/ecs/0123456789abcdef0123456789abcdef/${ID}`, ID],
  ['a node that is itself a container (kind)', `/docker/${OTHER}/kubelet${SCOPES}/${ID}`, ID],
  ['Docker in Docker', `/docker/${OTHER}/docker/${ID}`, ID],
  ['a service', '/system.slice/nginx.service', ''],
  ['a session', `${USER}/app.slice/app-gnome.scope`, ''],
  ['a pod without its container', `${SCOPES}`, ''],
  ['one hex digit too many', `/docker/${ID}0`, ''],
  ['one hex digit too few', `/docker/${ID.slice(1)}`, ''],
  ['upper case', `/docker/${ID.toUpperCase()}`, ''],
  ['the root', '/', ''],
];

for (const [name, path, expected] of PATHS) {
  test(`container id: ${name}`, () => assert.equal(containerId(path), expected));
}

test('a v2 line says where', () => {
  const path = `/system.slice/docker-${ID}.scope`;
  assert.deepEqual(parseCgroup(`0::${path}\n`), { path, container_id: ID });
  assert.deepEqual(parseCgroup('0::/\n'), { path: '/', container_id: '' });
  assert.deepEqual(parseCgroup(''), { path: '', container_id: '' });
});

test('on hybrid hosts the v1 lines name the container', () => {
  const lines = [
    `12:memory:/kubepods/burstable/pod${POD}/${ID}`,
    `11:cpu,cpuacct:/kubepods/burstable/pod${POD}/${ID}`,
    `1:name=systemd:/kubepods/burstable/pod${POD}/${ID}`,
    '0::/',
  ];
  const path = `/kubepods/burstable/pod${POD}/${ID}`;
  assert.deepEqual(parseCgroup(`${lines.join('\n')}\n`), { path, container_id: ID });
});

test('a colon in a path is part of it', () => {
  const path = `/system.slice/a:b.service:cri-containerd:${ID}`;
  assert.deepEqual(parseCgroup(`0::${path}\n`), { path, container_id: ID });
});

test(`any text is read without a throw, seed ${SEED}`, () => {
  const piece = fc.constantFrom('0::', '/', ':', '\n', ID, '-', '.scope', 'docker', '\0', 'é');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const { path, container_id } = parseCgroup(pieces.join(''));
      assert.ok(typeof path === 'string' && ['', ID].includes(container_id));
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

/** A /proc with these processes in it. */
function fakeProc(t: test.TestContext): (pid: number, stat: string, exe?: string) => string {
  const proc = mkdtempSync(join(tmpdir(), 'sonde-proc-'));
  t.after(() => rmSync(proc, { recursive: true }));
  return (pid, stat, exe) => {
    mkdirSync(join(proc, String(pid)));
    writeFileSync(join(proc, String(pid), 'stat'), stat);
    writeFileSync(join(proc, String(pid), 'cgroup'), `0::/docker/${ID}\n`);
    if (exe !== undefined) symlinkSync(exe, join(proc, String(pid), 'exe'));
    return proc;
  };
}

/** 1234.56 s after boot. */
const START_NS = 1_234_560_000_000;
const stat = (comm: string) => `42 (${comm}) S 1 42 42 ${'0 '.repeat(15)}123456 99 0\n`;

test('a process is known by its executable, and by the time of its start', (t) => {
  const make = fakeProc(t);
  const proc = make(42, stat('MainThread'), '/opt/app/bin/server (deleted)');
  make(43, stat(') R 1 (x'));
  assert.deepEqual(readProcess(42, START_NS + 9_000_000, proc), {
    name: 'server',
    executable_path: '/opt/app/bin/server',
  });
  assert.equal(readProcess(42, START_NS + 40_000_000, proc), undefined, 'the pid is used again');
  assert.deepEqual(readProcess(43, START_NS, proc), { name: ') R 1 (x', executable_path: '' });
  assert.equal(readProcess(44, START_NS, proc), undefined, 'gone');
  assert.deepEqual(readCgroup(42, proc), { path: `/docker/${ID}`, container_id: ID });
  assert.equal(readCgroup(44, proc), undefined);
});

test('this process finds itself', () => {
  const [, ticks] = /^\d+ \(.*\)(?: \S+){19} (\d+)/.exec(readFileSync('/proc/self/stat', 'utf8'))!;
  const self = readProcess(process.pid, Number(ticks) * 10_000_000);
  assert.equal(self?.executable_path, realpathSync(process.execPath));
});

test('cgroups are found by inode, and looked for again after a while', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'sonde-cgroup-'));
  t.after(() => rmSync(root, { recursive: true }));
  const inode = (path: string): number => {
    mkdirSync(join(root, path), { recursive: true });
    return statSync(join(root, path)).ino;
  };
  const first = inode(`docker/${ID}`);
  const index = new CgroupIndex(root);
  assert.deepEqual(index.find(first, 5000), { path: `/docker/${ID}`, container_id: ID });
  assert.deepEqual(index.find(statSync(root).ino, 5000), { path: '/', container_id: '' });
  const later = inode('system.slice/cron.service');
  assert.equal(index.find(later, 5019), undefined, 'too soon after the last look');
  const cron = { path: '/system.slice/cron.service', container_id: '' };
  assert.deepEqual(index.find(later, 6000), cron);
  assert.deepEqual(index.find(later, 6001), cron);
});

test('an id that is nowhere is looked for three times', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'sonde-cgroup-'));
  t.after(() => rmSync(root, { recursive: true }));
  const index = new CgroupIndex(root);
  const place = (): void => mkdirSync(join(root, 'late'));
  const nowhere = 2 ** 40;
  for (const now_ms of [1000, 2000, 3000]) assert.equal(index.find(nowhere, now_ms), undefined);
  place();
  const late = statSync(join(root, 'late')).ino;
  index.find(nowhere, 4000); // would find `late` if it looked
  rmSync(join(root, 'late'), { recursive: true });
  assert.equal(index.find(late, 4000), undefined);
});
