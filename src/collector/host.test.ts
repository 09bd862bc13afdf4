import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { hostPaths } from './host.ts';

const OWN = 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n';

test('outside a container the usual places hold', () => {
  const { cgroup_root, proc } = hostPaths('/hostfs-of-nobody', OWN);
  assert.deepEqual({ cgroup_root, proc }, { cgroup_root: '/sys/fs/cgroup', proc: '/proc' });
});

test("the host's cgroups below host_dir win over the container's own", () => {
  const mounts = `${OWN}cgroup2 /hostfs/sys/fs/cgroup cgroup2 ro 0 0\n`;
  assert.equal(hostPaths('/hostfs', mounts).cgroup_root, '/hostfs/sys/fs/cgroup');
});

test('a folder that only begins like host_dir is not below it', () => {
  const mounts = `cgroup2 /hostfs2/cgroup cgroup2 ro 0 0\n${OWN}`;
  assert.equal(hostPaths('/hostfs', `${OWN}${mounts}`).cgroup_root, '/sys/fs/cgroup');
});

test('procfs below host_dir is used where it is one', () => {
  const host_dir = mkdtempSync(join(tmpdir(), 'sonde-host-'));
  mkdirSync(join(host_dir, 'proc'));
  assert.equal(hostPaths(host_dir, OWN).proc, '/proc');
  writeFileSync(join(host_dir, 'proc/stat'), '');
  assert.equal(hostPaths(host_dir, OWN).proc, join(host_dir, 'proc'));
  rmSync(host_dir, { recursive: true });
});
