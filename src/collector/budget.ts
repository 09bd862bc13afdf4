// Keeps sources within their budget: one that costs more takes a step down, and comes back when it has been calm for a
// while. Pure: told what each source cost in a sample, it says which take a step.

export interface BudgetLimits {
  /** Of one run, as a mean. */
  readonly ns?: number | undefined;
  /** Share of one processor. */
  readonly cpu?: number | undefined;
}

/** What the programs of a source took in one sample, net of the measuring. */
export interface Cost {
  readonly runs: number;
  readonly time_ns: number;
  readonly elapsed_ns: number;
}

export interface Change {
  readonly source: string;
  readonly from: number;
  readonly to: number;
  readonly reason: string;
}

/** Samples without trouble before a step up. */
const CALM_MIN = 3;
const CALM_MAX = 96;
/** A step up that is taken back within so many samples was too early: the next comes later. */
const PROBATION = 6;

interface Ladder {
  level: number;
  /** Samples since the last step. */
  since: number;
  /** Samples that are to be calm before the next step up. */
  patience: number;
  rose: boolean;
}

export class Budget {
  limits: BudgetLimits;
  readonly #steps: ReadonlyMap<string, number>;
  readonly #ladders = new Map<string, Ladder>();

  /** `steps`: source → how many levels below the whole there are, the last of which is off. */
  constructor(limits: BudgetLimits, steps: ReadonlyMap<string, number>) {
    this.limits = limits;
    this.#steps = steps;
  }

  levelOf(source: string): number {
    return this.#ladders.get(source)?.level ?? 0;
  }

  /** One sample of one source; undefined: it stays where it is. */
  judge(source: string, cost: Cost): Change | undefined {
    const deepest = this.#steps.get(source);
    if (deepest === undefined) return undefined;
    const ladder = this.#ladder(source);
    ladder.since += 1;
    const over = this.#over(cost);
    if (over !== '') return ladder.level < deepest ? this.#fall(source, ladder, over) : undefined;
    const calm = ladder.since >= ladder.patience || !this.#limited;
    if (ladder.level > 0 && calm) return this.#rise(source, ladder);
    if (ladder.rose && ladder.since > PROBATION) {
      ladder.rose = false;
      ladder.patience = CALM_MIN;
    }
    return undefined;
  }

  get #limited(): boolean {
    return this.limits.ns !== undefined || this.limits.cpu !== undefined;
  }

  #ladder(source: string): Ladder {
    const known = this.#ladders.get(source);
    if (known !== undefined) return known;
    const fresh = { level: 0, since: 0, patience: CALM_MIN, rose: false };
    this.#ladders.set(source, fresh);
    return fresh;
  }

  /** Why it is beyond its budget; '' where it is not. */
  #over({ runs, time_ns, elapsed_ns }: Cost): string {
    const { ns, cpu } = this.limits;
    const mean = runs === 0 ? 0 : time_ns / runs;
    if (ns !== undefined && mean > ns) return `${Math.round(mean)} ns a run, of ${ns} allowed`;
    const share = elapsed_ns === 0 ? 0 : time_ns / elapsed_ns;
    if (cpu !== undefined && share > cpu) {
      return `${percentOf(share)} of a processor, of ${percentOf(cpu)} allowed`;
    }
    return '';
  }

  #fall(source: string, ladder: Ladder, over: string): Change {
    if (ladder.rose && ladder.since <= PROBATION) {
      ladder.patience = Math.min(CALM_MAX, ladder.patience * 2);
    }
    ladder.rose = false;
    return this.#step(source, ladder, ladder.level + 1, over);
  }

  #rise(source: string, ladder: Ladder): Change {
    ladder.rose = true;
    return this.#step(source, ladder, ladder.level - 1, 'within its budget for a while');
  }

  #step(source: string, ladder: Ladder, to: number, reason: string): Change {
    const from = ladder.level;
    ladder.level = to;
    ladder.since = 0;
    return { source, from, to, reason };
  }
}

function percentOf(share: number): string {
  return `${Number((share * 100).toPrecision(2))}%`;
}
