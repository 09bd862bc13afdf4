// Checks of how this kernel was built and booted, as far as it matters to BPF.

import { type Check, fail, ok, skip, warn } from './check.ts';
import type { Machine } from './machine.ts';

const KERNEL_BTF = '/sys/kernel/btf/vmlinux';
const BTF_MAGIC = 0xeb9f;

function isBtf(head: Uint8Array): boolean {
  return head.length >= 2 && head[0] + head[1] * 256 === BTF_MAGIC;
}

export const btf: Check = {
  id: 'btf',
  what: 'the kernel has type information (BTF)',
  why: 'programs are fitted to the kernel by it; without it none is loaded ("BTF not available", CO-RE relocation errors)',
  cure: `Use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of all current distributions are:
  grep BTF /boot/config-$(uname -r)
Or make the file from the kernel's debug package and name it in collector.btf_path:
  pahole --btf_encode_detached vmlinux.btf vmlinux
In a container, mount the host's:
  docker run … --volume /sys/kernel/btf:/sys/kernel/btf:ro`,
  look: ({ machine, config }) => {
    const path = config.collector.btf_path ?? KERNEL_BTF;
    const head = machine.head(path, 2);
    const system = `Linux ${machine.release} ${machine.arch}`;
    if (head === undefined) {
      const why = machine.has(path) ? 'cannot be read' : 'is missing';
      return fail(`BTF not available: ${path} ${why} (${system})`);
    }
    return isBtf(head) ? ok(path) : fail(`${path} is no BTF file (${system})`);
  },
};

export const lockdown: Check = {
  id: 'lockdown',
  what: 'lockdown leaves BPF its eyes',
  why: 'under "confidentiality" programs may not read kernel memory by address: variants that do are refused, and some sources see less',
  cure: 'Boot with lockdown=integrity, or accept what the check `source` says is missing. Secure Boot asks for "integrity" alone.',
  look: ({ machine }) => {
    const text = machine.read('/sys/kernel/security/lockdown');
    if (text === undefined) return skip('this kernel shows no lockdown state');
    const mode = /\[(\w+)\]/.exec(text)?.[1] ?? text.trim();
    return mode === 'confidentiality' ? warn(mode) : ok(mode);
  },
};

export const unprivileged_bpf: Check = {
  id: 'unprivileged-bpf',
  what: 'ordinary users may not load BPF programs',
  why: 'sonde does not need it, and it has been the way of several attacks on the kernel',
  cure: `Switch it off (2 can be undone, 1 only by a reboot):
  sysctl -w kernel.unprivileged_bpf_disabled=2`,
  look: ({ machine }) => {
    const value = machine.read('/proc/sys/kernel/unprivileged_bpf_disabled')?.trim();
    if (value === undefined) return skip('this kernel has no such switch');
    return value === '0' ? warn('every user may load programs') : ok('off');
  },
};

export const jit: Check = {
  id: 'jit',
  what: 'BPF programs are compiled to machine code',
  why: 'interpreted programs take several times longer, on every packet',
  cure: `Switch the compiler on, and keep it so in /etc/sysctl.d:
  sysctl -w net.core.bpf_jit_enable=1`,
  look: ({ machine }) => {
    const path = '/proc/sys/net/core/bpf_jit_enable';
    const value = machine.read(path)?.trim();
    if (value !== undefined) return value === '0' ? warn('interpreted') : ok('compiled');
    return skip(
      machine.has(path) ? 'only root may read it' : 'not shown in this network namespace',
    );
  },
};

/** Where the kernel says that it has these hooks; each can be had without the other. */
const HOOKS: readonly (readonly [string, readonly string[]])[] = [
  ['kprobes', ['/sys/bus/event_source/devices/kprobe', '/sys/kernel/debug/kprobes']],
  ['uprobes', ['/sys/bus/event_source/devices/uprobe']],
  [
    'fentry',
    [
      '/sys/kernel/tracing/available_filter_functions',
      '/sys/kernel/debug/tracing/available_filter_functions',
    ],
  ],
];

function hooksOf(machine: Machine): readonly string[] {
  const shown = HOOKS.filter(([, paths]) => paths.some((path) => machine.has(path)));
  return shown.map(([name]) => name);
}

export const kprobes: Check = {
  id: 'kprobes',
  what: 'kprobes, uprobes and fentry (not needed by default)',
  why: 'uprobes serve bash and tls alone, off by default; all others have a variant on tracepoints, iterators and cgroups',
  cure: 'None is needed.',
  look: ({ machine }) => {
    const hooks = hooksOf(machine);
    return ok(hooks.length === 0 ? 'none shown; not needed' : `${hooks.join(', ')}; not needed`);
  },
};
