// Holds the sources to their budget: what their programs cost in a sample, the steps that follow from it, and the report
// of both.

import type { Logger } from 'pino';
import type { Probe } from '../table/probe.ts';
import { Budget, type BudgetLimits, type Change, type Cost } from './budget.ts';
import type { Kernel } from './kernel.ts';

/** bpf/level.bpf.h */
const LEVEL_OFF = 255;
/** What the kernel's own measuring adds to each run. */
const MEASURING_NS = 35;

/** Of one program, in one sample. */
export interface ProgramCost {
  readonly runs: number;
  readonly time_ns: number;
}

export interface SourceCost {
  /** Nanoseconds in each second. */
  readonly kernel_time: number;
  readonly run_time: number;
  readonly level: number;
  readonly falls: number;
  readonly rises: number;
}

export interface KeeperParts {
  readonly kernel: Kernel;
  /** Those that are on. */
  readonly probes: readonly Probe[];
  readonly limits: BudgetLimits;
  readonly log: Logger;
}

export class BudgetKeeper {
  readonly #parts: KeeperParts;
  readonly #budget: Budget;
  readonly #costs = new Map<string, Cost>();
  readonly #steps = new Map<string, { falls: number; rises: number }>();
  readonly #reasons = new Map<string, string>();
  #told = false;

  constructor(parts: KeeperParts) {
    this.#parts = parts;
    const { kernel, probes, limits } = parts;
    const off = kernel.can_reattach ? 1 : 0;
    const deepest = probes.map(
      (one) => [one.name, (one.reducible?.steps.length ?? 0) + off] as const,
    );
    this.#budget = new Budget(limits, new Map(deepest));
    for (const { reducible } of probes) if (reducible) kernel.writeLevel(reducible.slot, 0);
  }

  set limits(limits: BudgetLimits) {
    this.#budget.limits = limits;
  }

  /** Takes a sample: what each program took in `elapsed_ns`. */
  sampled(programs: ReadonlyMap<string, ProgramCost>, elapsed_ns: number): void {
    for (const probe of this.#parts.probes) {
      const cost = this.#costOf(probe.name, programs, elapsed_ns);
      this.#costs.set(probe.name, cost);
      const change = this.#budget.judge(probe.name, cost);
      if (change !== undefined) this.#apply(probe, change);
    }
  }

  /** Without the right to measure no budget can be kept. */
  unmeasured(): void {
    const { ns, cpu } = this.#budget.limits;
    if (this.#told || (ns === undefined && cpu === undefined)) return;
    this.#told = true;
    this.#parts.log.warn('no budget can be kept: measuring programs takes CAP_SYS_ADMIN');
  }

  /** What a source does instead of all its work, and why; undefined while it does all. */
  reducedTo(source: string): { readonly step: string; readonly reason: string } | undefined {
    const probe = this.#parts.probes.find(({ name }) => name === source);
    const level = this.#budget.levelOf(source);
    if (probe === undefined || level === 0) return undefined;
    return { step: stepName(probe, level), reason: this.#reasons.get(source) ?? '' };
  }

  *report(): Generator<readonly [source: string, SourceCost]> {
    for (const [source, { runs, time_ns, elapsed_ns }] of this.#costs) {
      const { falls = 0, rises = 0 } = this.#steps.get(source) ?? {};
      this.#steps.delete(source);
      yield [
        source,
        {
          kernel_time: elapsed_ns === 0 ? 0 : Math.round((time_ns / elapsed_ns) * 1e9),
          run_time: runs === 0 ? 0 : Math.round(time_ns / runs),
          level: this.#budget.levelOf(source),
          falls,
          rises,
        },
      ];
    }
  }

  /** A program that several sources share counts for each of them by its part. */
  #costOf(source: string, programs: ReadonlyMap<string, ProgramCost>, elapsed_ns: number): Cost {
    const { kernel } = this.#parts;
    let runs = 0;
    let time_ns = 0;
    for (const name of kernel.programsOf(source)) {
      const cost = programs.get(name);
      if (cost === undefined) continue;
      const users = kernel.usersOf(name);
      runs += cost.runs;
      time_ns += Math.max(0, cost.time_ns - cost.runs * MEASURING_NS) / users;
    }
    return { runs, time_ns, elapsed_ns };
  }

  #apply(probe: Probe, { source, from, to, reason }: Change): void {
    const { kernel, log } = this.#parts;
    const steps = probe.reducible?.steps ?? [];
    const off = steps.length + 1;
    if (probe.reducible) kernel.writeLevel(probe.reducible.slot, to === off ? LEVEL_OFF : to);
    if (to === off) kernel.suspend(source);
    if (from === off) kernel.resume(source);
    const count = this.#steps.get(source) ?? { falls: 0, rises: 0 };
    this.#steps.set(source, count);
    if (to > from) count.falls += 1;
    else count.rises += 1;
    this.#reasons.set(source, to > from ? reason : (this.#reasons.get(source) ?? reason));
    const words = `${source}: ${stepName(probe, to)}, ${reason}`;
    if (to > from) log.warn({ source, step: stepName(probe, to), reason }, words);
    else log.info({ source, step: stepName(probe, to), reason }, words);
  }
}

function stepName({ reducible }: Probe, level: number): string {
  if (level === 0) return 'whole again';
  return reducible?.steps[level - 1]?.name ?? 'off';
}
