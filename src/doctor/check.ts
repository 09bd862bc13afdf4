// What a check is: a question to the machine, why it matters, and what to do when the answer is bad. The checks stand in
// one file a subject; list.ts has their order.

import type { SourceReport } from '../collector/plan.ts';
import type { Config } from '../config/schema.ts';
import type { Probe } from '../table/probe.ts';
import type { Machine } from './machine.ts';

/**
 * `fail`: sonde, or one of its sources, cannot work. `warn`: it works, and something is worse than it need be.
 * `skip`: does not apply, or could not be asked; `found` says which.
 */
export type State = 'ok' | 'warn' | 'fail' | 'skip';

export interface Finding {
  readonly state: State;
  readonly found: string;
  /** Of several answers to one question, what this one is about: a source, a port. */
  readonly subject?: string;
  /** What to do about this very finding; absent: the check's own cure. */
  readonly cure?: string;
}

type Answer = Finding | readonly Finding[];

export interface Check {
  /** Stable: in the JSON, in docs/troubleshooting.md. */
  readonly id: string;
  readonly what: string;
  readonly why: string;
  /** Commands stand on lines of their own, indented by two spaces. */
  readonly cure: string;
  readonly look: (at: Place) => Answer | Promise<Answer>;
}

/** All that a check may ask. Tests hand in another one. */
export interface Place {
  readonly machine: Machine;
  readonly config: Config;
  /** Empty when there is none. */
  readonly config_file: string;
  readonly config_warnings: readonly string[];
  readonly probes: readonly Probe[];
  readonly build: Build;
  readonly types: KernelTypes;
  readonly network: Network;
  readonly running: Running;
}

/** What set-up built, and what npm brought. Each: undefined when it is there and loads, else why not. */
export interface Build {
  addon(): string | undefined;
  object(): string | undefined;
  chdb(): string | undefined;
}

/** The kernel's own type information. */
export interface KernelTypes {
  /** Undefined: the kernel has none that can be read. */
  has(query: 'struct' | 'tracepoint', name: string, member?: string): boolean | undefined;
}

export interface TlsFiles {
  readonly ca_path?: string | undefined;
  readonly cert_path?: string | undefined;
  readonly key_path?: string | undefined;
  readonly server_name?: string | undefined;
}

/** Each rejects with an Error whose message is fit to be shown. */
export interface Network {
  /** Addresses of a name. */
  resolve(host: string): Promise<readonly string[]>;
  connect(host: string, port: number): Promise<void>;
  /** The certificate's name, and when it ends. */
  handshake(host: string, port: number, files: TlsFiles): Promise<string>;
  health(): Promise<Health>;
  /** Lines of the Prometheus page. */
  metrics(): Promise<number>;
}

/** What the reducer's `health` answers, as far as it is looked at. */
export interface Health {
  readonly ok: boolean;
  readonly intake: { readonly last_failure: string };
  readonly collectors: number;
}

export interface ProgramRuns {
  readonly program: string;
  readonly missed: number;
}

export interface SourceRow {
  readonly source: string;
  readonly part: string;
  readonly state: string;
  readonly variant: string;
  readonly reason: string;
}

export interface Loss {
  readonly stage: string;
  readonly reason: string;
  readonly count: number;
}

/** What only a trial, a running collector or a running reducer can tell. */
export interface Running {
  /** Whether a collector of this machine has the folder of pins. */
  pinsHeld(): Promise<boolean>;
  /** Loads and attaches all sources under pins of its own, and takes them off again. */
  trial(): Promise<readonly SourceReport[]>;
  /** The last report of this host's collector; rejects where no reducer answers. */
  report(): Promise<readonly SourceRow[]>;
  /** What was dropped on this host in the last hour; rejects where no reducer answers. */
  losses(): Promise<readonly Loss[]>;
  /** Containers with flows in the last ten minutes; rejects where no reducer answers. */
  containers(): Promise<readonly string[]>;
  /** Programs that are pinned, and runs that the kernel skipped. */
  programs(): readonly ProgramRuns[];
}

export function ok(found: string): Finding {
  return { state: 'ok', found };
}

export function warn(found: string, cure?: string): Finding {
  return { state: 'warn', found, ...(cure !== undefined && { cure }) };
}

export function fail(found: string, cure?: string): Finding {
  return { state: 'fail', found, ...(cure !== undefined && { cure }) };
}

/** `cure` where something can be done to have the question answered. */
export function skip(found: string, cure = ''): Finding {
  return { state: 'skip', found, cure };
}

export function about(subject: string, finding: Finding): Finding {
  return { ...finding, subject };
}

export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** `8 MiB`, for findings. */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let scaled = count;
  let unit = 0;
  for (; scaled >= 1024 && unit < units.length - 1; unit += 1) scaled /= 1024;
  return `${scaled < 10 && unit > 0 ? scaled.toFixed(1) : Math.round(scaled)} ${units[unit]}`;
}
