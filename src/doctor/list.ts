// All checks, in the order in which one would put a machine right.

import { addon, chdb, object } from './build.ts';
import type { Check } from './check.ts';
import { containers, host_mounts, network_namespace, pid_namespace } from './container.ts';
import { data_dir, disk_space, log_file, spool } from './disk.ts';
import { btf, jit, kprobes, lockdown, unprivileged_bpf } from './kernel.ts';
import { losses } from './losses.ts';
import { memlock, ring_memory } from './memory.ts';
import { bpffs, cgroup2, net_cls, tracefs } from './mounts.ts';
import { ephemeral_ports, intake, metrics, ports, reducer } from './network.ts';
import { collector, pins } from './pins.ts';
import { architecture, clock, configuration, kernel_release, libc, linux } from './platform.ts';
import { capabilities, selinux } from './rights.ts';
import { program_runs, source } from './sources.ts';

export interface Section {
  readonly title: string;
  readonly checks: readonly Check[];
}

export const sections: readonly Section[] = [
  { title: 'Platform', checks: [linux, kernel_release, architecture, libc, clock] },
  { title: 'Set-up', checks: [configuration, addon, object, chdb] },
  { title: 'Rights', checks: [capabilities, selinux, memlock, ring_memory] },
  { title: 'Kernel', checks: [btf, lockdown, unprivileged_bpf, jit, kprobes] },
  { title: 'File systems', checks: [bpffs, tracefs, cgroup2, net_cls] },
  { title: 'Containers', checks: [pid_namespace, network_namespace, host_mounts, containers] },
  { title: 'Sources', checks: [source, collector, pins, program_runs] },
  { title: 'Disk', checks: [data_dir, disk_space, spool, log_file] },
  { title: 'Reducer', checks: [intake, reducer, metrics, ports, ephemeral_ports, losses] },
];

export const checks: readonly Check[] = sections.flatMap((section) => section.checks);
