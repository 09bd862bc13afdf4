// Which kernel programs to load: for each part of each probe the first variant that the kernel may accept and that has
// not been refused yet. Pure: asked again after each refusal, until all that is planned loads.

import type { Need, Part, Probe, ProbeOptions, Right, Variant } from '../table/probe.ts';

export type SourceState = 'on' | 'off' | 'unsupported' | 'failed';

/** What became of one part of a source. */
export interface PartReport {
  readonly part: string;
  readonly help: string;
  readonly state: SourceState;
  /** The variant in use. */
  readonly variant: string;
  /** Why the part, or a better variant of it, is not in use; or what this variant cannot see. */
  readonly reason: string;
  readonly programs: readonly string[];
}

/** A line of the capability report. */
export interface SourceReport {
  readonly source: string;
  readonly help: string;
  readonly state: SourceState;
  readonly reason: string;
  readonly rights: readonly Right[];
  /** Those of `rights` for want of which the source is off. */
  readonly lacking: readonly Right[];
  readonly parts: readonly PartReport[];
}

export interface Plan {
  readonly programs: ReadonlySet<string>;
  readonly sources: readonly SourceReport[];
}

export interface PlanInput {
  readonly probes: readonly Probe[];
  readonly isEnabled: (probe: Probe) => boolean;
  readonly options: Readonly<ProbeOptions>;
  /** Undefined: the need is met; else why it is not. */
  readonly unmet: (need: Need) => string | undefined;
  /** Rights that this process lacks for a source. */
  readonly lacking: (probe: Probe) => readonly Right[];
  /** Programs that the kernel refused, or that could not be attached, and why. */
  readonly refused: ReadonlyMap<string, string>;
  /** Sources that are made to fail, for tests. */
  readonly fail_sources?: readonly string[];
  /** Sources that gave way to others (`giveWay`), and why. */
  readonly gave_way?: ReadonlyMap<string, string>;
}

export function makePlan(input: PlanInput): Plan {
  const sources = input.probes.map((probe) => planSource(probe, input));
  const on = sources.filter(({ state }) => state === 'on');
  const programs = on.flatMap(({ parts }) => parts.flatMap((part) => part.programs));
  return { programs: new Set(programs), sources };
}

function planSource(probe: Probe, input: PlanInput): SourceReport {
  const { name: source, help, rights } = probe;
  const off = { source, help, rights, state: 'off', parts: [] } as const;
  if (!input.isEnabled(probe)) {
    return { ...off, reason: 'switched off by configuration', lacking: [] };
  }
  const lacking = input.lacking(probe);
  if (lacking.length > 0) {
    const names = lacking.join(', ');
    return { ...off, reason: `this user lacks ${names} (sonde doctor --grant)`, lacking };
  }
  if (input.fail_sources?.includes(source) === true) {
    return { ...off, state: 'failed', reason: 'made to fail by fail_sources', lacking };
  }
  const reason_given = input.gave_way?.get(source);
  if (reason_given !== undefined) {
    return { ...off, state: 'unsupported', reason: reason_given, lacking };
  }
  const parts = probe.parts.map((part) => planPart(part, input));
  const missing = probe.parts.findIndex((part, i) => part.required && parts[i]?.state !== 'on');
  const lost = parts[missing];
  if (lost === undefined) return { source, help, rights, state: 'on', reason: '', lacking, parts };
  const idle = parts.map((part) => {
    if (part.state !== 'on') return part;
    return { ...part, state: 'off' as const, reason: `${source} is ${lost.state}`, programs: [] };
  });
  const { state, reason } = lost;
  return { source, help, rights, state, reason, lacking, parts: idle };
}

function planPart({ name: part, help, variants, wanted }: Part, input: PlanInput): PartReport {
  if (wanted?.(input.options) === false) {
    const reason = 'not asked for by configuration';
    return { part, help, state: 'off', variant: '', reason, programs: [] };
  }
  const reasons: string[] = [];
  let failed = false;
  for (const variant of variants) {
    const why = whyNot(variant, input);
    if (why === undefined) {
      const reason = [...reasons, ...(variant.misses ? [`misses: ${variant.misses}`] : [])];
      const { name, programs } = variant;
      return { part, help, state: 'on', variant: name, reason: reason.join('; '), programs };
    }
    failed ||= why.failed;
    reasons.push(`${variant.name}: ${why.reason}`);
  }
  const state = failed ? 'failed' : 'unsupported';
  return { part, help, state, variant: '', reason: reasons.join('; '), programs: [] };
}

function whyNot(
  variant: Variant,
  { unmet, refused }: PlanInput,
): { reason: string; failed: boolean } | undefined {
  for (const need of variant.needs) {
    const reason = unmet(need);
    if (reason !== undefined) return { reason, failed: false };
  }
  for (const program of variant.programs) {
    const reason = refused.get(program);
    if (reason !== undefined) return { reason: `${program}: ${reason}`, failed: true };
  }
  return undefined;
}

/**
 * The source that gives way after the kernel refused `program`: of those that are on and use it together with others, the
 * first that yields. Undefined: nobody does, and the program itself is to be left out.
 */
export function giveWay(program: string, plan: Plan, probes: readonly Probe[]): string | undefined {
  const users = plan.sources
    .filter(({ state, parts }) => state === 'on' && parts.some((p) => p.programs.includes(program)))
    .map(({ source }) => source);
  if (users.length < 2) return undefined;
  const ready = probes.filter(({ name, yields }) => yields !== undefined && users.includes(name));
  return ready.sort((a, b) => a.yields! - b.yields!)[0]?.name;
}
