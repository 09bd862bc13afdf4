// A machine and a place made of a table: healthy as it stands, and ill in the way that a test asks for.

import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import test from 'node:test';
import { loadConfig } from '../config/load.ts';
import type { Probe } from '../table/probe.ts';
import type { Build, KernelTypes, Network, Place, Running, State } from './check.ts';
import { examine } from './examine.ts';
import { sections } from './list.ts';
import type { Machine } from './machine.ts';

type Texts = Readonly<Record<string, string | undefined>>;

export interface Ill {
  /** Path → text; undefined takes a file of the healthy machine away. */
  readonly files?: Texts;
  readonly links?: Texts;
  readonly inodes?: Readonly<Record<string, number>>;
  readonly unwritable?: readonly string[];
  readonly free?: number | undefined;
  readonly machine?: Partial<Machine>;
  readonly flags?: Readonly<Record<string, string | boolean>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly warnings?: readonly string[];
  readonly probes?: readonly Probe[];
  readonly build?: Partial<Build>;
  readonly types?: KernelTypes;
  readonly network?: Partial<Network>;
  readonly running?: Partial<Running>;
}

const ALL_RIGHTS = 'CapEff:\t000001ffffffffff\n';

const HEALTHY_FILES: Texts = {
  '/proc/self/status': ALL_RIGHTS,
  '/proc/self/mounts': [
    'sysfs /sys sysfs rw 0 0',
    'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0',
    'bpf /sys/fs/bpf bpf rw,nosuid 0 0',
    'tracefs /sys/kernel/tracing tracefs rw 0 0',
  ].join('\n'),
  '/proc/self/limits':
    'Max locked memory         8388608              8388608              bytes\n',
  '/proc/self/cgroup': '0::/system.slice/sonde.service\n',
  '/proc/meminfo': 'MemTotal:       16000000 kB\nMemFree:  1 kB\n',
  '/proc/cgroups':
    '#subsys_name\thierarchy\tnum_cgroups\tenabled\nnet_cls\t0\t1\t1\nnet_prio\t0\t1\t1\n',
  '/proc/net/tcp': '  sl  local_address rem_address   st\n',
  '/proc/net/unix': 'Num       RefCount Protocol Flags    Type St Inode Path\n',
  '/proc/sys/net/ipv4/ip_local_port_range': '32768\t60999\n',
  '/proc/sys/kernel/unprivileged_bpf_disabled': '2\n',
  '/proc/sys/net/core/bpf_jit_enable': '1\n',
  '/sys/kernel/security/lockdown': '[none] integrity confidentiality\n',
  '/sys/kernel/btf/vmlinux': '\x9f\xeb\x01\x00',
  '/sys/fs/bpf/other': '',
  '/var/log/ebpf_net.log': '',
  '/data/lost+found': '',
};

const HEALTHY_LINKS: Texts = {
  '/proc/self/ns/pid': 'pid:[4026531836]',
  '/proc/self/ns/net': 'net:[4026531840]',
  '/proc/self/ns/cgroup': 'cgroup:[4026531835]',
  '/proc/1/ns/net': 'net:[4026531840]',
};

/** One part that has to work, by one variant. */
export const PROBE: Probe = {
  name: 'tcp',
  help: 'a source',
  tables: [],
  parts: [
    {
      name: 'connections',
      help: 'a part',
      variants: [{ name: 'tp_btf', programs: ['tcp_state'], needs: ['tp:inet_sock_set_state'] }],
      required: true,
    },
  ],
  sweeps: [],
  rights: ['CAP_BPF', 'CAP_NET_ADMIN'],
  enabled_variable: 'tcp_enabled',
};

function healthyFiles(changes: Texts = {}): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const [path, text] of Object.entries({ ...HEALTHY_FILES, ...changes })) {
    if (text !== undefined) files.set(path, text);
  }
  return files;
}

export function machineOf(ill: Ill = {}): Machine {
  const files = healthyFiles(ill.files);
  const links: Texts = { ...HEALTHY_LINKS, ...ill.links };
  const paths = [...files.keys(), ...Object.keys(links)];
  const below = (path: string) => paths.filter((one) => one.startsWith(`${path}/`));
  return {
    platform: 'linux',
    arch: 'x64',
    release: '6.12.0-1-amd64',
    glibc: '2.36',
    user: 'somebody',
    now_ms: Date.UTC(2026, 0, 2),
    read: (path) => files.get(path),
    head: (path, length) => {
      const text = files.get(path);
      return text === undefined ? undefined : Buffer.from(text, 'latin1').subarray(0, length);
    },
    has: (path) => path === '/' || files.has(path) || below(path).length > 0,
    list: (path) => [
      ...new Set(below(path).map((one) => one.slice(path.length + 1).split('/')[0] ?? '')),
    ],
    link: (path) => links[path],
    writable: (path) => ![path, dirname(path)].some((one) => ill.unwritable?.includes(one)),
    enterable: () => true,
    free: () => ('free' in ill ? ill.free : 2 ** 40),
    size: (path) => files.get(path)?.length ?? 0,
    inode: (path) => ill.inodes?.[path] ?? 1,
    ...ill.machine,
  };
}

export function absent(): Promise<never> {
  return Promise.reject(new Error('connect ECONNREFUSED'));
}

export function placeOf(ill: Ill = {}): Place {
  const probes = ill.probes ?? [PROBE];
  const flags = { '--data-dir': '/data', ...ill.flags };
  const sources = probes.map(({ name }) => name);
  const { config, warnings } = loadConfig({ role: 'run', flags, env: ill.env ?? {}, sources });
  return {
    machine: machineOf(ill),
    config,
    config_file: '',
    config_warnings: ill.warnings ?? warnings,
    probes,
    build: { addon: () => undefined, object: () => undefined, chdb: () => undefined, ...ill.build },
    types: ill.types ?? { has: () => false },
    network: {
      resolve: async () => ['127.0.0.1'],
      connect: async () => undefined,
      handshake: async () => 'certificate of reducer',
      health: async () => ({ ok: true, intake: { last_failure: '' }, collectors: 1 }),
      metrics: async () => 400,
      ...ill.network,
    },
    running: {
      pinsHeld: async () => false,
      trial: async () => [],
      report: absent,
      losses: async () => [],
      containers: async () => [],
      programs: () => [],
      ...ill.running,
    },
  };
}

/** What is ill, the state, what is found; and what the cure says, where it says more than the check's own. */
export type Case = readonly [Ill, State, RegExp, RegExp?];

export const NOBODY: Ill = { files: { '/proc/self/status': 'CapEff:\t0000000000000000\n' } };
export const REMOTE: Ill = {
  flags: { '--intake-host': 'far.example', '--allow-plaintext': true },
};

export function mounts(...lines: readonly string[]): Ill {
  return { files: { '/proc/self/mounts': lines.join('\n') } };
}

/** The sections that each of the two tests of cases answers for. */
export const SECTIONS_TRIED = {
  machine: ['Platform', 'Set-up', 'Rights', 'Kernel', 'File systems'],
  work: ['Containers', 'Sources', 'Disk', 'Reducer'],
} as const;

/** One test for each check of the sections; one that is not tried in two ways fails. */
export function tryChecks(
  which: keyof typeof SECTIONS_TRIED,
  cases_by_id: ReadonlyMap<string, readonly Case[]>,
): void {
  const titles: readonly string[] = SECTIONS_TRIED[which];
  const checks = sections.filter(({ title }) => titles.includes(title)).flatMap((s) => s.checks);
  for (const check of checks) {
    test(`check ${check.id}`, async () => {
      const cases = cases_by_id.get(check.id) ?? [];
      for (const [ill, state, found, cure = /^/] of cases) {
        const [first] = await examine([check], placeOf(ill));
        const label = `${check.id}: ${first?.state}: ${first?.found}`;
        assert.equal(first?.state, state, label);
        assert.match(first?.found ?? '', found, label);
        assert.match(first?.cure ?? '', cure, label);
      }
      const answers = new Set(cases.map(([, state, found]) => `${state} ${found}`));
      assert.ok(answers.size >= 2, `${check.id} is tried in ${answers.size} states`);
    });
  }
  test(`no cases are left of checks that are gone (${which})`, () => {
    const ids = new Set(checks.map(({ id }) => id));
    assert.deepEqual(
      [...cases_by_id.keys()].filter((id) => !ids.has(id)),
      [],
    );
  });
}
