// Checks of file systems that the kernel offers: bpffs, tracefs, cgroup v2, and the v1 controllers that get in its way.

import { findMount } from '../bpf/features.ts';
import { isWanted } from '../table/probe.ts';
import { type Check, fail, ok, type Place, skip, warn } from './check.ts';
import type { Machine } from './machine.ts';

/** Of the root of every cgroup v2 tree; a cgroup namespace shows another number at its root. */
const CGROUP_ROOT_INODE = 1;

export function mountsOf(machine: Machine): string {
  return machine.read('/proc/self/mounts') ?? '';
}

/** The file system that a path lies in: the longest mount point above it, the later one of equals. */
export function mountAbove(
  path: string,
  mounts: string,
): { point: string; type: string; options: string } | undefined {
  let best: { point: string; type: string; options: string } | undefined;
  for (const line of mounts.split('\n')) {
    const [, point, type, options] = line.split(' ');
    if (point === undefined || type === undefined || options === undefined) continue;
    const above = point === '/' || path === point || path.startsWith(`${point}/`);
    if (above && point.length >= (best?.point.length ?? 0)) best = { point, type, options };
  }
  return best;
}

const MOUNT_BPFFS = `Mount it, now and at every boot:
  mount -t bpf bpf /sys/fs/bpf
  echo 'bpf /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime 0 0' >> /etc/fstab`;
const SHARE_BPFFS = `In a container, mount the host's:
  docker run … --volume /sys/fs/bpf:/sys/fs/bpf
  Kubernetes: volumes: [{name: bpf, hostPath: {path: /sys/fs/bpf}}], mountPath: /sys/fs/bpf`;

export const bpffs: Check = {
  id: 'bpffs',
  what: 'the BPF file system is mounted and can be written',
  why: 'maps and programs are pinned there, so that the successor of a killed collector takes them over without a gap',
  cure: `${MOUNT_BPFFS}\n${SHARE_BPFFS}`,
  look: ({ machine, config }) => {
    const { pin_path } = config.collector;
    const mount = mountAbove(pin_path, mountsOf(machine));
    if (mount?.type !== 'bpf') return fail(`BPF filesystem not mounted at ${pin_path}`);
    const read_only = mount.options.split(',').includes('ro');
    if (read_only)
      return fail(`${mount.point} is mounted read-only`, `  mount -o remount,rw ${mount.point}`);
    if (machine.writable(machine.has(pin_path) ? pin_path : mount.point)) return ok(mount.point);
    const found = `${mount.point} cannot be written by ${machine.user}`;
    return fail(
      found,
      `Run as root, or give this user a folder of its own:\n  install -d -o ${machine.user} -m 700 ${pin_path}`,
    );
  },
};

export const tracefs: Check = {
  id: 'tracefs',
  what: 'tracefs is mounted (not needed)',
  why: 'no source in use needs it, neither /sys/kernel/debug: tracepoints are found by BTF. It helps to see which ones a kernel has',
  cure: `To look at the tracepoints of this kernel:
  mount -t tracefs tracefs /sys/kernel/tracing
  grep sched_switch /sys/kernel/tracing/available_events`,
  look: ({ machine }) => {
    const at = findMount('tracefs', mountsOf(machine));
    return at === undefined ? skip('not mounted; not needed') : ok(`${at}; not needed`);
  },
};

/** Names of sources that attach to the root cgroup: those are the ones that need the right for it. */
function cgroupSources({ probes, config }: Place): readonly string[] {
  return probes
    .filter((probe) => isWanted(probe, config.collector.probes))
    .filter(({ rights }) => rights.includes('CAP_NET_ADMIN'))
    .map(({ name }) => name);
}

export const cgroup2: Check = {
  id: 'cgroup2',
  what: 'cgroup v2 is mounted, from its root',
  why: 'programs that see every packet attach to its root, and containers are told apart by it; beside v1 hierarchies is fine',
  cure: `Mount it beside the v1 hierarchies (or boot with systemd.unified_cgroup_hierarchy=1):
  mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
In a container, use the host's cgroup namespace:
  docker run … --cgroupns host --volume /sys/fs/cgroup:/sys/fs/cgroup`,
  look: (place) => {
    const { machine } = place;
    const mounts = mountsOf(machine);
    const point = findMount('cgroup2', mounts);
    const hurt = cgroupSources(place);
    const bad = hurt.length > 0 ? fail : warn;
    if (point === undefined) {
      return bad(`not mounted${hurt.length > 0 ? `: ${hurt.join(', ')} cannot attach` : ''}`);
    }
    const inode = machine.inode(point);
    if (inode !== undefined && inode !== CGROUP_ROOT_INODE) {
      return bad(`${point} is a branch of the tree: only what is below it would be seen`);
    }
    const kind = findMount('cgroup', mounts) === undefined ? 'pure v2' : 'hybrid, v1 beside it';
    return ok(`${point} (${kind})`);
  },
};

/** Names of v1 controllers that are mounted, of those asked for. Text of /proc/cgroups. */
export function mountedControllers(text: string, wanted: readonly string[]): readonly string[] {
  return text
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(([name, hierarchy]) => wanted.includes(name ?? '') && Number(hierarchy) > 0)
    .map(([name]) => name ?? '');
}

export const net_cls: Check = {
  id: 'net-cls',
  what: 'no v1 controller net_cls or net_prio in the way',
  why: 'before Linux 5.15 these v1 marks take the place of the v2 cgroup in a socket, and programs on cgroups miss containers',
  cure: `Switch the two v1 controllers off with a boot parameter (GRUB_CMDLINE_LINUX in /etc/default/grub,
then update-grub and reboot):
  cgroup_no_v1=net_prio,net_cls`,
  look: ({ machine, types }) => {
    const text = machine.read('/proc/cgroups');
    if (text === undefined) return ok('no v1 controllers');
    const mounted = mountedControllers(text, ['net_cls', 'net_prio']);
    if (mounted.length === 0) return ok('not mounted');
    const words = `${mounted.join(', ')} mounted`;
    const shared = types.has('struct', 'sock_cgroup_data', 'val');
    if (shared === undefined)
      return warn(`${words}; without BTF it cannot be told if this kernel has room for both`);
    return shared ? warn(words) : ok(`${words}; this kernel has room for both`);
  },
};
