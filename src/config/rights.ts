// The rights that this process has against those that a source needs. The words for the operator stand in rights.txt,
// which set-up prints too, before there is a Node to run this.

import { readFileSync } from 'node:fs';

/** Bit in /proc/self/status, from the kernel's capability numbers (uapi/linux/capability.h). */
const CAPABILITY_BIT = {
  CAP_DAC_READ_SEARCH: 2,
  CAP_NET_ADMIN: 12,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_RESOURCE: 24,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

export type Capability = keyof typeof CAPABILITY_BIT;

/** The effective capabilities of this process; empty where the kernel has none to show. */
export function heldCapabilities(status = readStatus()): ReadonlySet<Capability> {
  const match = /^CapEff:\s*([0-9a-f]{1,16})$/m.exec(status);
  const bits = match ? BigInt(`0x${match[1]}`) : 0n;
  const names = Object.entries(CAPABILITY_BIT)
    .filter(([, bit]) => (bits >> BigInt(bit)) & 1n)
    .map(([name]) => name);
  return new Set(names.filter(isCapability));
}

function isCapability(name: string): name is Capability {
  return Object.hasOwn(CAPABILITY_BIT, name);
}

function readStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'utf8');
  } catch {
    // No procfs: another system than Linux, where nothing can be held.
    return '';
  }
}

/**
 * Those of `needed` that are not held. CAP_SYS_ADMIN stands for CAP_BPF, CAP_PERFMON, as it does in the kernel.
 */
export function missingRights(
  needed: readonly Capability[],
  held: ReadonlySet<Capability> = heldCapabilities(),
): readonly Capability[] {
  const implied: readonly Capability[] = held.has('CAP_SYS_ADMIN')
    ? ['CAP_BPF', 'CAP_PERFMON']
    : [];
  return needed.filter((name) => !held.has(name) && !implied.includes(name));
}

export interface SourceRights {
  readonly name: string;
  readonly rights: readonly Capability[];
}

/** What to print, with exit status 2, when no source can be loaded; undefined when one can. */
export function refusalOf(
  sources: readonly SourceRights[],
  held: ReadonlySet<Capability> = heldCapabilities(),
): string | undefined {
  const lacking = sources.map((source) => ({
    name: source.name,
    missing: missingRights(source.rights, held),
  }));
  if (sources.length === 0 || lacking.some((source) => source.missing.length === 0))
    return undefined;
  const lines = lacking.map((source) => `  ${source.name} is missing ${source.missing.join(', ')}`);
  return [
    'This user has not the rights to load any source:',
    ...lines,
    '',
    rightsText().trimEnd(),
    '',
    'Run it as root: sudo ./sonde …',
  ].join('\n');
}

export function rightsText(): string {
  return readFileSync(new URL('../../src/config/rights.txt', import.meta.url), 'utf8');
}
