// What a probe tells the collector about itself, as data: which kernel programs it would like, best first, what each
// needs, and how its records become rows. Probes know neither the loader nor the collector.

import type { TableDefinition } from './definition.ts';

/** A capability as Linux spells it. */
export type Right =
  | 'CAP_BPF'
  | 'CAP_PERFMON'
  | 'CAP_NET_ADMIN'
  | 'CAP_SYS_PTRACE'
  | 'CAP_SYS_ADMIN';

/**
 * What a variant asks of the kernel before it is tried: `btf:NAME` a type, `tp:NAME` a BTF-typed tracepoint,
 * `atomics` instructions that return the old value (5.12 and later).
 */
export type Need = `btf:${string}` | `tp:${string}` | 'atomics' | 'no-atomics';

/** One way to do a part's work. The programs of a variant are used together or not at all. */
export interface Variant {
  readonly name: string;
  readonly programs: readonly string[];
  readonly needs: readonly Need[];
  /** What this variant cannot see, for the capability report. */
  readonly misses?: string;
}

/** A part of a probe's work: the first variant that this kernel accepts is used. */
export interface Part {
  readonly name: string;
  readonly help: string;
  readonly variants: readonly Variant[];
  /** Without it the probe is `unsupported`; else the probe goes on without the part and says so. */
  readonly required: boolean;
}

/** A pass over a map (or over all open files) that the collector starts: every interval, on demand, or at start. */
export interface Sweep {
  /** Programs that do the same under different kernels; the one that was loaded is run. */
  readonly programs: readonly string[];
  /** The map that it walks; absent: all open files. */
  readonly map?: string;
  readonly when: 'interval' | 'start';
}

export interface Probe {
  /** The name in the configuration, the capability report and the metrics. */
  readonly name: string;
  readonly help: string;
  readonly tables: readonly TableDefinition[];
  readonly parts: readonly Part[];
  readonly sweeps: readonly Sweep[];
  readonly rights: readonly Right[];
  /** The constant in the object that switches the probe's code on. */
  readonly enabled_variable: string;
}
