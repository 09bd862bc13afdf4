// `sonde doctor --grant`: what an administrator writes down so that chosen sources, and nothing else, may load: file
// capabilities, a systemd unit, a Kubernetes security context.

import type { Probe, Right } from '../table/probe.ts';

/** Why each right is asked for; without those of the second list a source runs, and sees less. */
const REASONS: Readonly<Record<Right, string>> = {
  CAP_BPF: 'load programs, create and read maps',
  CAP_PERFMON: 'attach to tracepoints and iterators, read kernel structures',
  CAP_NET_ADMIN: 'attach to the root cgroup, which sees the packets of all containers',
  CAP_SYS_PTRACE: 'look into the processes of other users',
  CAP_DAC_READ_SEARCH: 'read files of other users',
  CAP_SYS_ADMIN: 'what the kernel gives to nothing smaller',
};

const MORE: readonly (readonly [Right, string])[] = [
  ['CAP_SYS_PTRACE', "the names of other users' processes"],
  ['CAP_DAC_READ_SEARCH', 'the same where /proc is not theirs to read, and container runtimes'],
  ['CAP_SYS_ADMIN', 'what each program costs (sonde_program); nothing else needs it'],
];

/** Of these sources: what a part of them asks for beside the rights of the whole, and what it sees. */
function moreOf(probes: readonly Probe[]): readonly (readonly [Right, string])[] {
  const rights = rightsOf(probes);
  const parts = probes.flatMap(({ name, parts }) =>
    parts.flatMap(({ help, variants }) =>
      variants
        .flatMap(({ needs }) => needs)
        .filter((need) => need.startsWith('right:'))
        .map((need) => [need.slice('right:'.length) as Right, `${name}: ${help}`] as const),
    ),
  );
  return [...parts, ...MORE].filter(([right]) => !rights.includes(right));
}

export interface GrantPlace {
  readonly pin_path: string;
  readonly data_dir: string;
  /** The Node that runs sonde. */
  readonly node: string;
}

export function rightsOf(probes: readonly Probe[]): readonly Right[] {
  const asked = new Set(probes.flatMap(({ rights }) => rights));
  const all = Object.keys(REASONS) as Right[]; // REASONS is a record of Rights
  return all.filter((right) => asked.has(right));
}

/** The rights as data: what programs make their own lines of. */
export function grantOf(probes: readonly Probe[]) {
  const rights = rightsOf(probes);
  return {
    schema: 1,
    sources: probes.map(({ name }) => name),
    rights: rights.map((name) => ({
      name,
      why: REASONS[name],
      sources: probes.filter((probe) => probe.rights.includes(name)).map((probe) => probe.name),
    })),
    not_needed: moreOf(probes).map(([name, why]) => ({ name, why })),
  };
}

export function grantText(probes: readonly Probe[], place: GrantPlace): string {
  const rights = rightsOf(probes);
  return [
    `Rights for ${probes.map(({ name }) => name).join(', ')}`,
    ...rights.map((right) => {
      const users = probes.filter((probe) => probe.rights.includes(right));
      return `  ${right.padEnd(19)} ${REASONS[right]} (${users.map(({ name }) => name).join(', ')})`;
    }),
    'Not needed, but without them less is seen',
    ...moreOf(probes).map(([right, what]) => `  ${right.padEnd(19)} ${what}`),
    '',
    setcap(rights, place),
    systemd(rights, place),
    kubernetes(rights),
  ].join('\n');
}

/** Whatever this Node runs has the rights: it has to be one that nobody else may start. */
function setcap(rights: readonly Right[], { pin_path, data_dir, node }: GrantPlace): string {
  return `With file capabilities, as the user sonde:
  groupadd --system sonde
  useradd --system --gid sonde --home-dir ${data_dir} --shell /usr/sbin/nologin sonde
  install -D -o root -g sonde -m 0750 ${node} /usr/local/lib/sonde/node
  setcap ${rights.join(',').toLowerCase()}+ep /usr/local/lib/sonde/node
  chmod o+x /sys/fs/bpf
  install -d -o sonde -g sonde -m 0700 ${pin_path} ${data_dir}
  SONDE_NODE=/usr/local/lib/sonde/node ./sonde kernel-collector …
`;
}

/** /sys/fs/bpf lets only root through where systemd mounts it; the folder below it belongs to sonde. */
function systemd(rights: readonly Right[], { pin_path, data_dir }: GrantPlace): string {
  const names = rights.join(' ');
  return `In a systemd unit (the kernel of Linux 5.10 needs LimitMEMLOCK as well):
  [Service]
  User=sonde
  Group=sonde
  AmbientCapabilities=${names}
  CapabilityBoundingSet=${names}
  NoNewPrivileges=yes
  ProtectSystem=strict
  ReadWritePaths=${pin_path} ${data_dir}
  ExecStartPre=+/bin/chmod o+x /sys/fs/bpf
  ExecStartPre=+/usr/bin/install -d -o sonde -g sonde -m 0700 ${pin_path}
  LimitMEMLOCK=infinity
`;
}

/** Kubernetes has no ambient capabilities: a container's user other than root would have none of these. */
function kubernetes(rights: readonly Right[]): string {
  const names = rights.map((right) => right.replace('CAP_', '')).join(', ');
  return `In Kubernetes, beside hostPID: true and hostNetwork: true of the pod:
  securityContext:
    privileged: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsUser: 0
    capabilities:
      drop: [ALL]
      add: [${names}]
    seccompProfile: {type: Unconfined}  # most default profiles refuse bpf() and perf_event_open()
`;
}
