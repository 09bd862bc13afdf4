// What a probe tells the collector about itself, as data: which kernel programs it would like, best first, what each
// needs, and how its records become rows. Probes know neither the loader nor the collector.

import type { TableDefinition } from './definition.ts';
import type { DomainCache } from './domains.ts';
import type { Fold } from './fold.ts';
import type { NatLookup } from './nat.ts';
import type { CaptureOptions, LineOutlet } from './outlet.ts';

/** A capability as Linux spells it. */
export type Right =
  | 'CAP_BPF'
  | 'CAP_PERFMON'
  | 'CAP_NET_ADMIN'
  | 'CAP_SYS_PTRACE'
  | 'CAP_DAC_READ_SEARCH'
  | 'CAP_SYS_ADMIN';

/**
 * What a variant asks of the kernel before it is tried: `btf:NAME` a type, `enum:NAME` an enum, `tp:NAME` a BTF-typed tracepoint,
 * `task storage` storage of a task for programs (5.12 and later, for tracing ones), `atomics`
 * instructions that return the old value (5.12 and later).
 */
export type Need =
  | `btf:${string}`
  | `enum:${string}`
  | `tp:${string}`
  | `right:${Right}`
  | 'task storage'
  | 'atomics'
  | 'no-atomics';

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
  /** Whether the configuration asks for the part; absent: always. */
  readonly wanted?: (options: Readonly<ProbeOptions>) => boolean;
  /** Maps that are made only where a part that names them is on; sources of rows that read others are left out. */
  readonly own_maps?: readonly string[];
}

/** A pass over a map (or over all open files) that the collector starts: every interval, on demand, or at start. */
export interface Sweep {
  /** Programs that do the same under different kernels; the one that was loaded is run. */
  readonly programs: readonly string[];
  /** The map that it walks; absent: all open files. */
  readonly map?: string;
  readonly when: 'interval' | 'start';
}

/** What is known of the process behind a record. */
export interface Owner {
  readonly process_name: string;
  readonly process_executable_path: string;
  readonly cgroup_path: string;
  readonly container_id: string;
}

/** Finds the owner of a record; the result stays the same object as long as nothing new is known of the process. */
export type OwnerLookup = (tgid: number, start_ns: number, cgroup_id: number) => Owner;

/** Where a cgroup of the v2 hierarchy is. */
export interface CgroupPlace {
  /** From the root of the hierarchy. */
  readonly path: string;
  readonly container_id: string;
}

/** A network namespace that a process is in. */
export interface Netns extends CgroupPlace {
  readonly inode: number;
  /** Text of /proc/PID/net/snmp, netstat and snmp6. */
  readonly counters: readonly string[];
}

/** Of the configuration what decoders go by: the section `collector`. What is not `live` there is read once, at start. */
export interface ProbeOptions {
  ephemeral_port: number;
  bash?: { readonly redact: readonly string[] };
  maps: {
    readonly sockets_max: number;
    readonly processes_max: number;
    readonly syscalls_max: number;
    readonly process_totals_max: number;
  };
  syscalls: { readonly latency: boolean };
  fileio: { readonly latency: boolean };
  scheduler: { readonly latency: boolean };
  memory: { readonly allocations: boolean };
  process: { readonly arguments: boolean };
  dns: {
    readonly ports: readonly number[];
    /** Milliseconds. */
    readonly timeout: number;
    readonly domains_max: number;
  };
  /** Ports at which databases are spoken, by the name of the source. */
  redis?: { readonly ports: readonly number[] };
  postgresql?: { readonly ports: readonly number[] };
  mysql?: { readonly ports: readonly number[] };
  http?: { readonly raw_path: boolean };
  nat?: { readonly conntrack: boolean };
  readonly capture?: CaptureOptions;
  readonly ring_bytes?: number;
}

/** Where a process's users have their names: its root directory, by the kernel's device and inode number. */
export interface UserPlace {
  readonly pid: number;
  readonly root_dev: number;
  readonly root_ino: number;
}

/** What the collector gives to a decoder. */
export interface DecodeContext {
  /** The fold of a table that the probe names; the same for all who ask for it. */
  fold(table: TableDefinition): Fold;
  readonly owner: OwnerLookup;
  /** The name of a user of the host's numbering, as the process itself would print it; else the number. */
  readonly user?: (uid: number, place: UserPlace) => string;
  /** A cgroup that exists, by its id; undefined: not found, or not now. Absent where nothing can be asked. */
  readonly cgroup?: (cgroup_id: number) => CgroupPlace | undefined;
  /** Names of an enum of the kernel that runs, by value; empty: it has none. Absent where nothing can be asked. */
  readonly kernelEnum?: (name: string) => ReadonlyMap<number, string>;
  /** The network namespaces of the host. Absent where nothing can be asked. */
  readonly netns?: () => readonly Netns[];
  /** The object stays, its live values change. */
  readonly options: Readonly<ProbeOptions>;
  /** Names that addresses were looked up by: filled from DNS answers, asked for the peers of flows. */
  readonly domains: DomainCache;
  /** Where connections go that the host translates. Absent: nobody asks the host. */
  readonly nat?: NatLookup;
  /** Books something that was seen and kept whole but for a detail that `what` names, in the ledger's stage `decode`. */
  note(what: string, count: number): void;
  /** Books what was seen and could not be kept. */
  dropped(what: string, reason: string, count: number): void;
  /** Absent where the configuration names no reader. */
  readonly outlet?: LineOutlet;
  /** A line of statistics for the log, not more often than once an interval. */
  statistics?(line: string): void;
}

/** Turns records of one kind into rows. One per collector; keeps nothing that grows without a limit. */
export interface RecordDecoder {
  /** The bytes that the following `decode` calls read from. */
  over(bytes: Uint8Array): void;
  /** Takes the record of `length` bytes at this offset; false: it is malformed, and the caller counts it. */
  decode(at: number, length: number, now_ms: number): boolean;
  /**
   * Before an interval closes: rows that come from what the decoder remembers, such as time-outs. `last`: the collector ends,
   * and what is still waited for is to be accounted for now.
   */
  tick?(now_ms: number, last?: boolean): void;
}

/** A kind of record in the ring (`record_kind` in bpf/ring.bpf.h) and its decoder. Probes may share one. */
export interface RecordSource {
  readonly kind: number;
  open(context: DecodeContext): RecordDecoder;
}

/** Turns the entries of a kernel map into rows. */
export interface MapDecoder {
  /**
   * Entry `i` has its key at `i * key_size` and its value at `i * value_stride`: for a per-CPU map one value after the
   * other for each possible CPU, each rounded up to 8 bytes.
   */
  rows(entries: MapEntries, now_ms: number): void;
  /** Of `copy`, once and before all else: what a predecessor counted and told, from where differences begin. */
  begin?(entries: MapEntries): void;
}

export interface MapEntries {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly key_size: number;
  readonly value_stride: number;
}

/**
 * Totals that the kernel side keeps in a map, read each interval. `drain`: entries are taken out, so that the map holds
 * one interval; what a program adds to an entry while that is taken may be lost. `turns`: the same and exact, then and
 * when the collector is killed: `map` names a pair, `<map>_0` and `<map>_1` (bpf/turns.bpf.h), the one is read while programs
 * fill the other. `copy`: entries stay and grow, and the decoder reports differences. Probes may share a source.
 */
export interface MapSource {
  readonly map: string;
  readonly read: 'drain' | 'copy' | 'turns';
  /** Of `turns`: the slots before the pair. What they hold comes as further entries, with keys that the pair has too. */
  readonly front?: Front;
  open(context: DecodeContext): MapDecoder;
}

/** Slots of each CPU before a pair of maps, `<map>_cpu` (bpf/front.bpf.h). */
export interface Front {
  readonly map: string;
  /** Of one slot: 8 bytes of key, and the sums at its end. */
  readonly slot_bytes: number;
  /** Where the sums begin in a slot. */
  readonly sums: number;
  /** Where the sums begin in a value of the pair; what stands before them says who it is. */
  readonly first: number;
}

/** A file of machine code that some process runs. */
export interface CodeFile {
  readonly machine: 'x64' | 'arm64' | 'other';
  /** Where in the file its code is. */
  readonly code: readonly CodeSymbol[];
  /** Functions of these names, as far as the file's symbol tables have them. */
  symbols(names: readonly string[]): ReadonlyMap<string, CodeSymbol>;
  /** Where in the file a section is; undefined: it has none of that name. */
  section(name: string): CodeSymbol | undefined;
  /** Bytes of the file; fewer at its end. */
  read(offset: number, length: number): Uint8Array;
}

/** A function, a section, or a segment of code. */
export interface CodeSymbol {
  /** Into the file, of its first byte. */
  readonly offset: number;
  /** Bytes; 0 where the file does not say. */
  readonly size: number;
}

/** A program of the object on an instruction of a file. */
export interface Placement {
  readonly program: string;
  readonly offset: number;
  /** At the return of the function that begins there. */
  readonly ret?: boolean;
}

/**
 * Files in which programs of a probe (sections `uprobe`, `uretprobe`) are placed while processes run them, on the host and in
 * containers. The collector finds them and asks once for each file.
 */
export interface UprobeSource {
  /** Its line in the capability report: `openssl`. */
  readonly name: string;
  readonly help: string;
  /** By base name: executables, and other files that are mapped to be executed. */
  readonly executables?: RegExp;
  readonly libraries?: RegExp;
  /** Files of the host in which programs stand even while nobody runs them, so that the first call is seen. */
  readonly standing?: readonly string[];
  /** Empty: not such a file. A text: it is one, and why it cannot be probed. */
  places(file: CodeFile): readonly Placement[] | string;
}

/** What a source falls back to when it costs more than its budget: cheaper, and less told. */
export interface Step {
  readonly name: string;
  /** What is still counted, and what is not. */
  readonly help: string;
}

/**
 * Steps that the source's programs know by themselves: they read the level, 1 for the first of these steps, from the
 * kernel map `sonde_levels` at this place (`level_source` in bpf/level.bpf.h). LEVEL_OFF means nothing at all: it is for
 * what shared hooks do for the source, while the programs that it alone uses are detached.
 */
export interface Reducible {
  readonly slot: number;
  readonly steps: readonly Step[];
}

/** Makes rows of what is not in a map or the ring, at the end of each interval. */
export interface Poller {
  poll(now_ms: number): void;
}

export interface PollSource {
  open(context: DecodeContext): Poller;
}

export interface Probe {
  /** The name in the configuration, the capability report and the metrics. */
  readonly name: string;
  readonly help: string;
  /** Without a word in the configuration: false for what taxes every call, or shows what not all want shown. */
  readonly enabled_default?: boolean;
  readonly tables: readonly TableDefinition[];
  readonly parts: readonly Part[];
  readonly sweeps: readonly Sweep[];
  readonly rights: readonly Right[];
  /** The constant in the object that switches the probe's code on. */
  readonly enabled_variable: string;
  /**
   * Where the kernel refuses a program that sources share, for its size or its depth, those with a number give way, the
   * lowest first, so that the others go on. Absent: it does not.
   */
  readonly yields?: number;
  /** Without it a source that costs more than its budget is switched off at once. */
  readonly reducible?: Reducible;
  readonly records?: readonly RecordSource[];
  readonly map_sources?: readonly MapSource[];
  readonly uprobes?: readonly UprobeSource[];
  readonly polls?: readonly PollSource[];
  /** Maps that are made only while a probe that names them is on. */
  readonly own_maps?: readonly string[];
  /**
   * Maps that always are, for a global function names them, which kernels before 6.8 verify unused: with one entry while
   * no probe that names them is on.
   */
  readonly global_maps?: readonly string[];
  /** Sizes of maps that follow from the configuration, in entries. */
  readonly map_entries?: (options: Readonly<ProbeOptions>) => Readonly<Record<string, number>>;
  /** Constants of the object (`const volatile`) that follow from the configuration. */
  readonly constants?: (options: Readonly<ProbeOptions>) => Readonly<Record<string, number>>;
}

/** True where configuration and default say that a source is wanted. */
export function isWanted(
  probe: Probe,
  configured: Readonly<Record<string, { readonly enabled?: boolean | undefined } | undefined>>,
): boolean {
  return configured[probe.name]?.enabled ?? probe.enabled_default ?? true;
}
