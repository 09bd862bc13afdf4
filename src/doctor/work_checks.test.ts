// The checks of containers, sources, disk and reducer, on machines that are well and machines that are ill.

import assert from 'node:assert/strict';
import type { SourceReport } from '../collector/plan.ts';
import { absent, type Case, type Ill, mounts, NOBODY, REMOTE, tryChecks } from './testing.ts';

const CONTAINER = 'c'.repeat(64);
const TLS: Ill = { flags: { '--intake-host': 'far.example', '--tls': true } };
const MiB = 1024 * 1024;

/** Port 8000, listening, by the process 7 with this command line; or by one that cannot be looked at. */
function taken(command: string | undefined, more: Ill = {}): Ill {
  const line =
    '   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1';
  const files = { '/proc/net/tcp': `  sl  local_address\n${line}\n`, ...more.files };
  if (command === undefined) return { ...more, files };
  return {
    ...more,
    files: { ...files, '/proc/7/cmdline': command.replaceAll(' ', '\0') },
    links: { '/proc/7/fd/3': 'socket:[4711]' },
  };
}

function locks(...inodes: readonly number[]): Ill {
  const line = (inode: number) =>
    `00: 00000002 00000000 00010000 0001 01 ${inode} @sonde-${'a1'.repeat(8)}`;
  const files: Record<string, string> = { '/proc/net/unix': inodes.map(line).join('\n') };
  const links: Record<string, string> = {};
  for (const inode of inodes) {
    files[`/proc/${inode}/cmdline`] =
      '/usr/bin/node\0/opt/sonde/src/cli/main.ts\0kernel-collector\0';
    links[`/proc/${inode}/fd/9`] = `socket:[${inode}]`;
  }
  return { files, links };
}

function trial(part: Partial<SourceReport['parts'][number]>, state: SourceReport['state']): Ill {
  const whole = {
    part: 'connections',
    help: '',
    state: 'on' as const,
    variant: 'tp_btf',
    reason: '',
    programs: [],
    ...part,
  };
  const report: SourceReport = {
    source: 'tcp',
    help: '',
    state,
    reason: state === 'on' ? '' : whole.reason,
    rights: [],
    lacking: [],
    parts: [whole],
  };
  return { running: { trial: async () => [report] } };
}

/** What a running collector's row says. */
function row(state: string, reason = '', part = 'connections'): Ill {
  const found = [{ source: 'tcp', part, state, variant: 'tp_btf', reason }];
  const never = () => Promise.reject(new Error('tried beside a running collector'));
  return { running: { pinsHeld: async () => true, report: async () => found, trial: never } };
}

function spool(bytes: number): Ill {
  return {
    files: { '/data/spool/0.log': 'x'.repeat(bytes) },
    env: { SONDE_COLLECTOR_SPOOL_BYTES_MAX: '1MiB' },
  };
}

const CASES: ReadonlyMap<string, readonly Case[]> = new Map<string, readonly Case[]>([
  [
    'pid-namespace',
    [
      [{}, 'ok', /the host's/],
      [{ links: { '/proc/self/ns/pid': 'pid:[4026532000]' } }, 'warn', /4026532000/, /--pid host/],
      [{ links: { '/proc/self/ns/pid': undefined } }, 'skip', /cannot be read/],
    ],
  ],
  [
    'network-namespace',
    [
      [{}, 'ok', /the host's/],
      [{ links: { '/proc/self/ns/net': 'net:[4026532001]' } }, 'warn', /4026532001/, /hostNetwork/],
      [{ links: { '/proc/1/ns/net': undefined } }, 'skip', /takes root/],
      [{ links: { '/proc/self/ns/pid': 'pid:[1]' } }, 'skip', /another PID namespace/],
    ],
  ],
  [
    'host-mounts',
    [
      [{}, 'ok', /no container/],
      [{ files: { '/.dockerenv': '' } }, 'ok', /namespace is the host's/],
      [
        { files: { '/.dockerenv': '' }, links: { '/proc/self/ns/cgroup': 'cgroup:[2]' } },
        'warn',
        /without \/hostfs\/sys\/fs\/cgroup/,
      ],
      [
        {
          files: { '/proc/self/cgroup': `0::/docker-${CONTAINER}.scope`, '/h/sys/fs/cgroup/x': '' },
          links: { '/proc/self/ns/cgroup': 'cgroup:[2]' },
          env: { EBPF_NET_HOST_DIR: '/h' },
        },
        'ok',
        /^\/h\/sys\/fs\/cgroup/,
      ],
    ],
  ],
  [
    'containers',
    [
      [{}, 'ok', /no containers/],
      [
        {
          files: { '/proc/9/cgroup': `0::/docker/${CONTAINER}` },
          running: { containers: async () => [CONTAINER] },
        },
        'ok',
        /^1 of 1/,
      ],
      [
        {
          files: { '/proc/9/cgroup': `0::/docker/${CONTAINER}` },
          running: { containers: async () => ['x'] },
        },
        'warn',
        /^0 of 1/,
      ],
      [
        { files: { '/proc/9/cgroup': `0::/docker/${CONTAINER}` }, running: { containers: absent } },
        'skip',
        /ECONNREFUSED/,
      ],
    ],
  ],
  [
    'source',
    [
      [trial({}, 'on'), 'ok', /^connections by tp_btf$/],
      [
        trial({ state: 'unsupported', reason: 'x: no tracepoint sched_switch' }, 'unsupported'),
        'fail',
        /^Failed to load tcp programs: x: no tracepoint sched_switch/,
        /grep sched_switch \/sys/,
      ],
      [
        trial({ state: 'failed', reason: 'made to fail by fail_sources' }, 'failed'),
        'fail',
        /Failed to load tcp/,
        /SONDE_FAIL_SOURCE/,
      ],
      [
        trial({ state: 'failed', reason: 'tcp_state: R1 invalid mem access' }, 'failed'),
        'fail',
        /R1 invalid mem/,
        /other sources go on/,
      ],
      [
        trial({ state: 'unsupported', reason: 'no x', part: 'resets' }, 'on'),
        'warn',
        /without resets: no x/,
      ],
      [
        trial({ state: 'off', reason: 'not asked for', part: 'resets' }, 'on'),
        'ok',
        /; off: resets: not asked for$/,
      ],
      [{ running: { trial: absent } }, 'fail', /nothing can be loaded: connect ECONN/],
      [{ ...NOBODY, running: { trial: absent } }, 'skip', /needs CAP_BPF, CAP_NET_ADMIN/],
      [{ build: { addon: () => 'x' }, running: { trial: absent } }, 'skip', /see the checks/],
      [{ env: { SONDE_COLLECTOR_PROBES_TCP_ENABLED: 'false' } }, 'skip', /switched off/],
      [{ env: { SONDE_COLLECTOR_ENABLED: 'false' } }, 'skip', /switched off/],
      [trial({ reason: 'switched off' }, 'off'), 'skip', /switched off/],
      [row('on'), 'ok', /^as the running collector says: connections by tp_btf/],
      [
        row('failed', 'tcp_state: bad'),
        'fail',
        /Failed to load tcp programs: connections: tcp_state: bad/,
      ],
      [row('off', 'switched off', ''), 'skip', /switched off/],
      [row('unsupported', 'no x', 'resets'), 'warn', /without resets: no x/],
      [{ running: { pinsHeld: async () => true, report: async () => [] } }, 'skip', /not reported/],
      [
        { running: { pinsHeld: async () => true, trial: absent } },
        'skip',
        /no reducer gives/,
        /log/,
      ],
    ],
  ],
  [
    'collector',
    [
      [{}, 'ok', /none/],
      [locks(41), 'ok', /^sonde kernel-collector \(pid 41\)$/],
      [locks(41, 42), 'warn', /^2 run: .*pid 41.*pid 42/],
      [{ ...locks(41), links: {} }, 'ok', /another user's/],
    ],
  ],
  [
    'pins',
    [
      [{}, 'ok', /nothing in/],
      [
        { files: { '/sys/fs/bpf/sonde/tcp_conns': '' } },
        'warn',
        /^1 entries.*no collector runs/,
        /sonde detach/,
      ],
      [
        { files: { '/sys/fs/bpf/sonde/x': '' }, running: { pinsHeld: async () => true } },
        'ok',
        /in use/,
      ],
      [mounts(''), 'skip', /no BPF file system/],
      [{ machine: { enterable: () => false } }, 'skip', /by somebody/],
    ],
  ],
  [
    'program-runs',
    [
      [{ running: { programs: () => [{ program: 'a', missed: 0 }] } }, 'ok', /^1 programs/],
      [{ running: { programs: () => [{ program: 'a', missed: 3 }] } }, 'warn', /a skipped 3/],
      [{}, 'skip', /no collector/],
      [{ running: { programs: () => assert.fail('EPERM') } }, 'skip', /EPERM/],
    ],
  ],
  [
    'data-dir',
    [
      [{}, 'ok', /^\/data$/],
      [{ flags: { '--data-dir': '/data/a/b' } }, 'ok', /to be made in \/data$/],
      [{ unwritable: ['/data'] }, 'fail', /^\/data cannot be written by somebody/, /--data-dir/],
    ],
  ],
  [
    'disk-space',
    [
      [{}, 'ok', /^1\.0 TiB free/],
      [{ free: 200 * MiB }, 'warn', /^200 MiB free, the spool may yet take 256 MiB/],
      [{ free: 15 * MiB }, 'fail', /^15 MiB free/],
      [{ free: undefined }, 'skip', /does not tell/],
    ],
  ],
  [
    'spool',
    [
      [{}, 'ok', /none yet/],
      [spool(0.4 * MiB), 'ok', /of 1\.0 MiB/],
      [spool(0.6 * MiB), 'warn', /of 1\.0 MiB$/],
      [spool(0.95 * MiB), 'warn', /full, the oldest rows go/],
    ],
  ],
  [
    'log-file',
    [
      [{}, 'ok', /ebpf_net\.log/],
      [
        { unwritable: ['/var/log/ebpf_net.log'] },
        'warn',
        /cannot be written by somebody/,
        /--log-console/,
      ],
      [{ flags: { '--log-file-path': '/nowhere/x' } }, 'warn', /\/nowhere does not exist/],
      [{ flags: { '--no-log-file': true } }, 'skip', /switched off/],
    ],
  ],
  [
    'intake',
    [
      [REMOTE, 'ok', /^far\.example:8000 answers/],
      [{ ...REMOTE, network: { resolve: absent } }, 'fail', /does not resolve/, /getent hosts/],
      [{ ...REMOTE, network: { connect: absent } }, 'fail', /port does not answer/],
      [{ network: { connect: absent } }, 'skip', /`sonde run` starts one/],
      [{ ...REMOTE, network: { health: absent } }, 'fail', /not as a reducer \(connect/],
      [TLS, 'ok', /TLS: certificate of reducer/],
      [{ ...TLS, network: { handshake: absent } }, 'fail', /TLS: connect ECONNREFUSED/],
    ],
  ],
  [
    'reducer',
    [
      [{}, 'ok', /^1 collector connected/],
      [
        {
          network: {
            health: async () => ({
              ok: false,
              intake: { last_failure: 'disk_full' },
              collectors: 0,
            }),
          },
        },
        'warn',
        /disk_full/,
      ],
      [{ network: { health: absent } }, 'skip', /starts one/],
      [{ ...REMOTE, network: { health: absent } }, 'skip', /does not answer: connect/],
    ],
  ],
  [
    'metrics',
    [
      [{}, 'ok', /127\.0\.0\.1:8888, 400 lines/],
      [{ network: { metrics: absent } }, 'warn', /ECONNREFUSED/, /curl/],
      [{ network: { health: absent } }, 'skip', /starts one/],
      [REMOTE, 'skip', /another machine/],
    ],
  ],
  [
    'ports',
    [
      [{}, 'ok', /free/],
      [
        taken('nginx', { network: { health: absent } }),
        'fail',
        /^held by nginx \(pid 7\)/,
        /ss -ltnp/,
      ],
      [taken('node /opt/sonde/src/cli/main.ts reducer'), 'ok', /^sonde reducer \(pid 7\)/],
      [taken(undefined, { network: { health: absent } }), 'warn', /another user's/],
      [taken(undefined), 'ok', /a reducer answers/],
      [taken('docker-proxy'), 'ok', /^docker-proxy \(pid 7\)/],
      [
        { files: { '/proc/net/tcp': 'sl\n0: 0100007F:1F40 0:0 01 0:0 0:0 0 0 0 4711\n' } },
        'ok',
        /free/,
      ],
      [{ ...taken('nginx'), ...REMOTE }, 'skip', /another machine/],
    ],
  ],
  [
    'ephemeral-ports',
    [
      [{}, 'ok', /32768 to 60999, folded from 10001/],
      [{ files: { '/proc/sys/net/ipv4/ip_local_port_range': '1024 65535' } }, 'warn', /1024/],
      [{ files: { '/proc/sys/net/ipv4/ip_local_port_range': undefined } }, 'skip', /cannot/],
    ],
  ],
  [
    'losses',
    [
      [{}, 'ok', /nothing/],
      [
        { running: { losses: async () => [{ stage: 'wire', reason: 'spool_full', count: 5 }] } },
        'warn',
        /^5 in wire \(spool_full\)/,
        /spool_bytes_max/,
      ],
      [
        { running: { losses: async () => [{ stage: 'x', reason: 'new', count: 5 }] } },
        'warn',
        /new/,
        /sonde ledger/,
      ],
      [
        {
          running: {
            losses: async () => [
              { stage: 'wire', reason: 'spool_full', count: 5 },
              { stage: 'wire', reason: 'new', count: 4 },
            ],
          },
        },
        'warn',
        /spool_full\), 4 in wire/,
        /^Bring the reducer back.*spool_bytes_max\.$/,
      ],
      [{ running: { losses: absent } }, 'skip', /ECONNREFUSED/],
    ],
  ],
]);

tryChecks('work', CASES);
