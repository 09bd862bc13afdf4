// The checks of platform, set-up, rights, kernel and file systems, on machines that are well and machines that are ill.

import { type Case, mounts, NOBODY, PROBE, REMOTE, tryChecks } from './testing.ts';

const OLD = { machine: { release: '5.10.0-30-amd64' } };

const CASES: ReadonlyMap<string, readonly Case[]> = new Map<string, readonly Case[]>([
  [
    'linux',
    [
      [{}, 'ok', /^Linux$/],
      [{ machine: { platform: 'darwin' } }, 'skip', /^darwin: not running on Linux/],
    ],
  ],
  [
    'kernel-release',
    [
      [{ machine: { release: '5.10.0' } }, 'ok', /^5\.10\.0$/],
      [{ machine: { release: '10.1' } }, 'ok', /^10\.1$/],
      [{ machine: { release: '5.9.16' } }, 'warn', /^5\.9\.16, untested/],
      [{ machine: { release: '4.18.0-553.el8' } }, 'warn', /^4\.18/],
      [{ machine: { release: 'odd' } }, 'warn', /^odd/],
    ],
  ],
  [
    'architecture',
    [
      [{ machine: { arch: 'arm64' } }, 'ok', /arm64/],
      [{ machine: { arch: 's390x' } }, 'warn', /s390x/],
    ],
  ],
  [
    'libc',
    [
      [{}, 'ok', /glibc 2\.36/],
      [{ machine: { glibc: undefined } }, 'fail', /no glibc/, /musl/],
    ],
  ],
  [
    'clock',
    [
      [{ machine: { now_ms: Date.UTC(2025, 0, 1) } }, 'ok', /2025-01-01/],
      [{ machine: { now_ms: Date.UTC(2024, 11, 31) } }, 'fail', /2024-12-31/, /set-ntp/],
    ],
  ],
  [
    'configuration',
    [
      [{}, 'ok', /no file/],
      [{ env: { EBPF_NET_INTAKE_HOTS: 'x' } }, 'warn', /EBPF_NET_INTAKE_HOTS: no such variable/],
    ],
  ],
  [
    'addon',
    [
      [{}, 'ok', /sonde_bpf\.node/],
      [{ build: { addon: () => 'Cannot load the native addon' } }, 'fail', /Cannot load/, /setup/],
    ],
  ],
  [
    'object',
    [
      [{}, 'ok', /sonde\.bpf\.o/],
      [{ build: { object: () => 'is missing' } }, 'fail', /is missing/, /npm run setup/],
    ],
  ],
  [
    'chdb',
    [
      [{}, 'ok', /chdb/],
      [
        { build: { chdb: () => 'Cannot find chdb' } },
        'fail',
        /Cannot find chdb/,
        /include=optional/,
      ],
      [{ ...REMOTE, build: { chdb: () => 'no' } }, 'skip', /another machine/],
      [{ env: { SONDE_REDUCER_STORE_URL: 'http://ch:8123' } }, 'skip', /store\.url is set/],
    ],
  ],
  [
    'capabilities',
    [
      [{}, 'ok', /has CAP_BPF, CAP_NET_ADMIN/],
      [NOBODY, 'fail', /somebody lacks CAP_BPF, CAP_NET_ADMIN/, /setcap cap_bpf,cap_net_admin\+ep/],
      [NOBODY, 'fail', /./, /AmbientCapabilities=CAP_BPF CAP_NET_ADMIN\n/],
      [NOBODY, 'fail', /./, /\{capabilities: \{add: \[BPF, NET_ADMIN\]\}\}/],
      [
        { files: { '/proc/self/status': 'CapEff:\t0000008000000000\n' } },
        'fail',
        /lacks CAP_NET_ADMIN$/,
      ],
      [{ ...NOBODY, env: { SONDE_COLLECTOR_PROBES_TCP_ENABLED: 'false' } }, 'skip', /switched off/],
    ],
  ],
  [
    'selinux',
    [
      [{}, 'ok', /not enabled/],
      [{ files: { '/sys/fs/selinux/enforce': '0' } }, 'ok', /permissive/],
      [
        {
          files: {
            '/sys/fs/selinux/enforce': '1',
            '/proc/self/attr/current': 'system_u:system_r:spc_t:s0\0',
          },
        },
        'warn',
        /runs as system_u:system_r:spc_t:s0$/,
        /class bpf \{ map_create map_read map_write prog_load prog_run \}/,
      ],
      [
        {
          files: {
            '/sys/fs/selinux/enforce': '1',
            '/proc/self/attr/current': 'unconfined_u:unconfined_r:unconfined_t:s0\0',
          },
        },
        'ok',
        /this process is free/,
      ],
    ],
  ],
  [
    'memlock',
    [
      [{}, 'ok', /not limited/],
      [{ ...OLD, machine: { release: '5.11.0' }, ...{ files: NOBODY.files } }, 'ok', /not limited/],
      [OLD, 'ok', /CAP_SYS_RESOURCE/],
      [{ ...OLD, ...NOBODY }, 'fail', /^8\.0 MiB, for maps of up to 96 MiB/, /LimitMEMLOCK/],
      [
        {
          ...OLD,
          files: {
            ...NOBODY.files,
            '/proc/self/limits': 'Max locked memory  1  unlimited  bytes\n',
          },
        },
        'ok',
        /unlimited/,
      ],
      [{ ...OLD, files: { ...NOBODY.files, '/proc/self/limits': undefined } }, 'skip', /cannot be/],
    ],
  ],
  [
    'ring-memory',
    [
      [{}, 'ok', /^ring 8\.0 MiB, with maps at most 96 MiB, of 15 GiB/],
      [{ files: { '/sys/fs/cgroup/memory.max': '209715200' } }, 'warn', /of 200 MiB/],
      [{ files: { '/sys/fs/cgroup/memory.max': 'max' } }, 'ok', /of 15 GiB/],
      [{ files: { '/sys/fs/cgroup/memory.max': '0' } }, 'ok', /of 15 GiB/],
      [
        {
          env: { SONDE_COLLECTOR_RING_BYTES: '1GiB' },
          files: { '/proc/meminfo': 'MemTotal: 900000 kB' },
        },
        'fail',
        /ring 1\.0 GiB/,
      ],
      [{ files: { '/proc/meminfo': undefined } }, 'skip', /meminfo/],
    ],
  ],
  [
    'btf',
    [
      [{}, 'ok', /vmlinux/],
      [
        { files: { '/sys/kernel/btf/vmlinux': undefined } },
        'fail',
        /^BTF not available: .* is missing \(Linux 6\.12\.0-1-amd64 x64\)/,
        /pahole --btf_encode_detached vmlinux\.btf vmlinux/,
      ],
      [{ files: { '/sys/kernel/btf/vmlinux': '\x7fELF' } }, 'fail', /is no BTF file/],
      [{ env: { SONDE_COLLECTOR_BTF_PATH: '/b' } }, 'fail', /\/b is missing/],
      [{ env: { SONDE_COLLECTOR_BTF_PATH: '/b' }, files: { '/b': '\x9f\xeb' } }, 'ok', /^\/b$/],
    ],
  ],
  [
    'lockdown',
    [
      [{}, 'ok', /none/],
      [
        { files: { '/sys/kernel/security/lockdown': 'none [integrity] confidentiality' } },
        'ok',
        /integrity/,
      ],
      [
        { files: { '/sys/kernel/security/lockdown': 'none integrity [confidentiality]' } },
        'warn',
        /confidentiality/,
      ],
      [{ files: { '/sys/kernel/security/lockdown': undefined } }, 'skip', /no lockdown/],
    ],
  ],
  [
    'unprivileged-bpf',
    [
      [{}, 'ok', /off/],
      [
        { files: { '/proc/sys/kernel/unprivileged_bpf_disabled': '0\n' } },
        'warn',
        /every user/,
        /=2/,
      ],
      [{ files: { '/proc/sys/kernel/unprivileged_bpf_disabled': undefined } }, 'skip', /no such/],
    ],
  ],
  [
    'jit',
    [
      [{}, 'ok', /compiled/],
      [{ files: { '/proc/sys/net/core/bpf_jit_enable': '0\n' } }, 'warn', /interpreted/, /sysctl/],
      [{ files: { '/proc/sys/net/core/bpf_jit_enable': undefined } }, 'skip', /not shown/],
    ],
  ],
  [
    'kprobes',
    [
      [{}, 'ok', /^none shown; not needed/],
      [
        { files: { '/sys/bus/event_source/devices/kprobe/type': '6' } },
        'ok',
        /^kprobes; not needed/,
      ],
    ],
  ],
  [
    'bpffs',
    [
      [{}, 'ok', /\/sys\/fs\/bpf/],
      [
        mounts('sysfs /sys sysfs rw 0 0'),
        'fail',
        /^BPF filesystem not mounted/,
        /mount -t bpf bpf \/sys\/fs\/bpf\n.*\/etc\/fstab/,
      ],
      [mounts('bpf /sys/fs/bpf bpf ro,nosuid 0 0'), 'fail', /read-only/, /remount,rw/],
      [
        mounts('bpf /sys/fs/bpf bpf rw 0 0', 'tmpfs /sys/fs/bpf tmpfs rw 0 0'),
        'fail',
        /not mounted/,
      ],
      [
        { unwritable: ['/sys/fs/bpf'] },
        'fail',
        /cannot be written by somebody/,
        /install -d -o somebody/,
      ],
    ],
  ],
  [
    'tracefs',
    [
      [{}, 'ok', /\/sys\/kernel\/tracing/],
      [mounts(''), 'skip', /not mounted; not needed/],
    ],
  ],
  [
    'cgroup2',
    [
      [{}, 'ok', /^\/sys\/fs\/cgroup \(pure v2\)/],
      [mounts('cgroup /a cgroup rw 0 0', 'cgroup2 /u cgroup2 rw 0 0'), 'ok', /^\/u \(hybrid/],
      [
        mounts('cgroup /a cgroup rw,cpu 0 0'),
        'fail',
        /^not mounted: tcp cannot attach/,
        /mount -t cgroup2/,
      ],
      [{ ...mounts(''), probes: [{ ...PROBE, rights: [] }] }, 'warn', /^not mounted$/],
      [
        { inodes: { '/sys/fs/cgroup': 4711 } },
        'fail',
        /is a branch of the tree/,
        /--cgroupns host/,
      ],
    ],
  ],
  [
    'net-cls',
    [
      [{}, 'ok', /^not mounted/],
      [{ files: { '/proc/cgroups': undefined } }, 'ok', /no v1/],
      [
        {
          files: { '/proc/cgroups': 'net_cls\t3\t1\t1\nnet_prio\t3\t1\t1\n' },
          types: { has: () => true },
        },
        'warn',
        /^net_cls, net_prio mounted$/,
        /cgroup_no_v1=net_prio,net_cls/,
      ],
      [
        { files: { '/proc/cgroups': 'net_cls\t3\t1\t1\n' }, types: { has: () => undefined } },
        'warn',
        /without BTF/,
      ],
      [{ files: { '/proc/cgroups': 'net_cls\t3\t1\t1\n' } }, 'ok', /room for both/],
    ],
  ],
]);

tryChecks('machine', CASES);
