// What this kernel and this process can do, found by trying, never by version. Types, fields and tracepoints are asked
// of the kernel's BTF: kernel-btf.ts.
import { readFileSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { native } from './native.ts';

/** An answer. `unknown`: the question could not be put, for the reason given (rights, names that are not known here). */
export type Support =
  | { readonly state: 'yes' }
  | { readonly state: 'no' | 'unknown'; readonly reason: string };

/** Whether a tiny program of this type loads: `cgroup_skb`, `tracing`, `kprobe` … as bpftool writes them. */
export function probeProgram(type: string): Support {
  return answer(native().probe('program', type, null), `programs of type ${type}`);
}

/** Whether a small map of this type can be made: `ringbuf`, `sk_storage` … */
export function probeMap(type: string): Support {
  return answer(native().probe('map', type, null), `maps of type ${type}`);
}

/**
 * Whether programs of this type may call the helper (`ktime_get_boot_ns`, without `bpf_`). Types that need a target to
 * load (tracing, ext, lsm, struct_ops) give `unknown`.
 */
export function probeHelper(programType: string, helper: string): Support {
  const what = `helper bpf_${helper} in programs of type ${programType}`;
  return answer(native().probe('helper', programType, helper), what);
}

function answer(result: number, what: string): Support {
  if (result === 1) return { state: 'yes' };
  if (result === 0) return { state: 'no', reason: `the kernel has no ${what}` };
  if (result === -2) return { state: 'unknown', reason: `this build has no name for ${what}` };
  return { state: 'unknown', reason: `probing ${what}: ${getSystemErrorName(result)}` };
}

/**
 * Raises RLIMIT_MEMLOCK, to which kernels before 5.11 charge maps and programs; whether it is without limit now.
 * Without CAP_SYS_RESOURCE it is raised as far as it may be.
 */
export function raiseMemlock(): boolean {
  return native().raiseMemlock();
}

/** CPUs that this machine may ever have: as many values a per-CPU map has. */
export function possibleCpus(): number {
  return native().possibleCpus();
}

/** The version of libbpf in use, `v1.1`. */
export function libbpfVersion(): string {
  return native().libbpfVersion();
}

/** By number, as in linux/capability.h. */
const CAPABILITIES = [
  ...['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH', 'CAP_FOWNER', 'CAP_FSETID'],
  ...['CAP_KILL', 'CAP_SETGID', 'CAP_SETUID', 'CAP_SETPCAP', 'CAP_LINUX_IMMUTABLE'],
  ...['CAP_NET_BIND_SERVICE', 'CAP_NET_BROADCAST', 'CAP_NET_ADMIN', 'CAP_NET_RAW'],
  ...['CAP_IPC_LOCK', 'CAP_IPC_OWNER', 'CAP_SYS_MODULE', 'CAP_SYS_RAWIO', 'CAP_SYS_CHROOT'],
  ...['CAP_SYS_PTRACE', 'CAP_SYS_PACCT', 'CAP_SYS_ADMIN', 'CAP_SYS_BOOT', 'CAP_SYS_NICE'],
  ...['CAP_SYS_RESOURCE', 'CAP_SYS_TIME', 'CAP_SYS_TTY_CONFIG', 'CAP_MKNOD', 'CAP_LEASE'],
  ...['CAP_AUDIT_WRITE', 'CAP_AUDIT_CONTROL', 'CAP_SETFCAP', 'CAP_MAC_OVERRIDE'],
  ...['CAP_MAC_ADMIN', 'CAP_SYSLOG', 'CAP_WAKE_ALARM', 'CAP_BLOCK_SUSPEND', 'CAP_AUDIT_READ'],
  ...['CAP_PERFMON', 'CAP_BPF', 'CAP_CHECKPOINT_RESTORE'],
];

/** The effective capabilities of this process, by name; those without a name here by number. */
export function capabilities(
  status: string = readFileSync('/proc/self/status', 'utf8'),
): Set<string> {
  const hex = /^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0';
  const held = new Set<string>();
  let bits = BigInt(`0x${hex}`);
  for (let number = 0; bits !== 0n; number++, bits >>= 1n) {
    if (bits & 1n) held.add(CAPABILITIES[number] ?? `CAP_${number}`);
  }
  return held;
}

/** Where a file system of this type is mounted: `cgroup2`, `bpf`, `tracefs`; undefined where none is. */
export function findMount(
  type: string,
  mounts: string = readFileSync('/proc/self/mounts', 'utf8'),
): string | undefined {
  for (const line of mounts.split('\n')) {
    const [, path, found] = line.split(' ');
    if (found === type && path) return unescapeOctal(path);
  }
  return undefined;
}

/** The kernel writes blanks and backslashes as \\040 and \\134. */
function unescapeOctal(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
