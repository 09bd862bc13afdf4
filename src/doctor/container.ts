// Checks of what a container hides: other processes, the host's network, the host's directories.

import { parseCgroup } from '../collector/proc.ts';
import { type Check, ok, skip, warn, wordsOf } from './check.ts';
import type { Machine } from './machine.ts';

/** The kernel gives the first PID namespace this number, always (PROC_PID_INIT_INO). */
const HOST_PID_NAMESPACE = 'pid:[4026531836]';
/** PROC_CGROUP_INIT_INO. */
const HOST_CGROUP_NAMESPACE = 'cgroup:[4026531835]';

function inContainer(machine: Machine): boolean {
  const marks = ['/.dockerenv', '/run/.containerenv', '/var/run/secrets/kubernetes.io'];
  if (marks.some((path) => machine.has(path))) return true;
  return parseCgroup(machine.read('/proc/self/cgroup') ?? '').container_id !== '';
}

export const pid_namespace: Check = {
  id: 'pid-namespace',
  what: "the PID namespace is the host's",
  why: 'processes are named through /proc: from within another namespace those of the host and of other containers have no name',
  cure: `Run the container in the host's:
  docker run … --pid host
  Kubernetes: hostPID: true`,
  look: ({ machine }) => {
    const own = machine.link('/proc/self/ns/pid');
    if (own === undefined) return skip('/proc/self/ns cannot be read');
    return own === HOST_PID_NAMESPACE ? ok("the host's") : warn(`${own}, which is not the host's`);
  },
};

export const network_namespace: Check = {
  id: 'network-namespace',
  what: "the network namespace is the host's",
  why: 'all connections are seen from any, but a reducer on 127.0.0.1 and a second collector are met only in the same one',
  cure: `Run the container in the host's:
  docker run … --network host
  Kubernetes: hostNetwork: true`,
  look: ({ machine }) => {
    if (machine.link('/proc/self/ns/pid') !== HOST_PID_NAMESPACE) {
      return skip("cannot be told from another PID namespace: /proc/1 is not the host's");
    }
    const [own, host] = ['self', '1'].map((pid) => machine.link(`/proc/${pid}/ns/net`));
    if (own === undefined || host === undefined) {
      return skip('/proc/1 cannot be looked at, which takes root with CAP_SYS_PTRACE');
    }
    return own === host ? ok("the host's") : warn(`${own}, that of the host is ${host}`);
  },
};

export const host_mounts: Check = {
  id: 'host-mounts',
  what: "the host's cgroups are there where a container does not show them",
  why: "containers are told apart by the host's cgroups; kernel headers, /usr/src, /lib/modules and /etc are not needed",
  cure: `Show the container the host's tree, by its namespace or by a mount below collector.host_dir
(EBPF_NET_HOST_DIR, /hostfs):
  docker run … --cgroupns host --volume /sys/fs/cgroup:/sys/fs/cgroup
  docker run … --volume /sys/fs/cgroup:/hostfs/sys/fs/cgroup`,
  look: ({ machine, config }) => {
    if (!inContainer(machine)) return ok('no container: not needed');
    if (machine.link('/proc/self/ns/cgroup') === HOST_CGROUP_NAMESPACE) {
      return ok("not needed: the cgroup namespace is the host's");
    }
    const mounted = `${config.collector.host_dir}/sys/fs/cgroup`;
    return machine.has(mounted) ? ok(mounted) : warn(`in a container without ${mounted}`);
  },
};

/** Containers that have a process now, as far as /proc shows them. */
function containersHere(machine: Machine): ReadonlySet<string> {
  const ids = machine
    .list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => parseCgroup(machine.read(`/proc/${pid}/cgroup`) ?? '').container_id)
    .filter((id) => id !== '');
  return new Set(ids);
}

export const containers: Check = {
  id: 'containers',
  what: 'containers and pods are tracked',
  why: 'rows of a container that is not recognised stand under its processes alone',
  cure: `A container without traffic in the last ten minutes has no rows: provoke some. Else see the checks
\`cgroup2\`, \`net-cls\` and \`pid-namespace\`. What is known:
  sonde query 'SELECT container_id, count() FROM netflow GROUP BY 1'`,
  look: async ({ machine, running }) => {
    const here = containersHere(machine);
    if (here.size === 0) return ok('no containers on this machine');
    try {
      const seen = (await running.containers()).filter((id) => here.has(id)).length;
      const found = `${seen} of ${here.size} containers had traffic in the last ten minutes`;
      return seen === 0 ? warn(found) : ok(found);
    } catch (error) {
      return skip(`${here.size} containers; no reducer tells which are tracked: ${wordsOf(error)}`);
    }
  },
};
