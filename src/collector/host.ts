// Where the host's own file systems are. In a container they are mounted below `host_dir` (/hostfs); outside, and where
// nothing is mounted there, they are where they always are.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findMount } from '../bpf/features.ts';

export interface HostPaths {
  /** cgroup v2, its root if the host's is mounted: programs attached there see all containers. */
  readonly cgroup_root: string;
  /** procfs of the host's pid namespace. */
  readonly proc: string;
}

/** @param mounts text of /proc/self/mounts */
export function hostPaths(
  host_dir: string,
  mounts: string = readFileSync('/proc/self/mounts', 'utf8'),
): HostPaths {
  const below = mounts.split('\n').filter((line) => line.split(' ')[1]?.startsWith(`${host_dir}/`));
  const cgroup_root =
    findMount('cgroup2', below.join('\n')) ?? findMount('cgroup2', mounts) ?? '/sys/fs/cgroup';
  const proc = join(host_dir, 'proc');
  return { cgroup_root, proc: existsSync(join(proc, 'stat')) ? proc : '/proc' };
}
