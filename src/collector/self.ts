// What the collector costs and what it can see, as tables that go the same way as what it sees.

import { BpfError } from '../bpf/error.ts';
import { enableStats, type StatsSwitch } from '../bpf/stats.ts';
import type { Batch } from '../table/columns.ts';
import { Fold } from '../table/fold.ts';
import { costTable, processTable, programTable, sourceTable } from '../table/self.ts';
import type { BudgetKeeper, ProgramCost } from './budget_keeper.ts';
import type { Delivery } from './delivery.ts';
import type { Identity } from './identity.ts';
import type { Kernel } from './kernel.ts';
import type { Uprobes } from './uprobes.ts';

const SAMPLE_MS = 100;

export interface SelfParts {
  /** Rows about sonde itself come at most this often; at once when asked for, or when the state of a source changes. */
  readonly period_ms: number;
  readonly kernel: Kernel;
  readonly identity: Identity;
  readonly uprobes: Uprobes;
  readonly delivery: Delivery;
  readonly keeper: BudgetKeeper;
}

type SourceRow = readonly [
  source: string,
  part: string,
  state: string,
  variant: string,
  reason: string,
];

interface Runs {
  run_count: number;
  run_time_ns: number;
  recursion_misses: number;
}

export class SelfReport {
  readonly #parts: SelfParts;
  readonly #process = new Fold(processTable);
  readonly #programs = new Fold(programTable);
  readonly #sources = new Fold(sourceTable);
  readonly #costs = new Fold(costTable);
  readonly #runs = new Map<string, Runs>();
  #cpu = process.cpuUsage();
  #stats: StatsSwitch | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** When the sample began, and what the programs had run until then. */
  #sampled: ReadonlyMap<string, Runs> = new Map();
  #sampled_ns = 0n;
  #reported_ms = Number.NEGATIVE_INFINITY;
  /** The rows of sources that went off last, as one text. */
  #said = '';
  /** The most of the ring that was in use since the last report, bytes. */
  ring_used = 0;

  constructor(parts: SelfParts) {
    this.#parts = parts;
    for (const { name, program } of parts.kernel.programs) this.#runs.set(name, program.stats());
  }

  /** Measuring costs each run of each program some 40 ns, so it is on for a moment only. */
  sample(): void {
    if (this.#stats !== undefined) return;
    this.#stats = statsOrNone();
    if (this.#stats === undefined) this.#parts.keeper.unmeasured();
    this.#sampled = this.#runsNow();
    this.#sampled_ns = process.hrtime.bigint();
    this.#timer = setTimeout(() => this.#takeSample(), SAMPLE_MS);
    this.#timer.unref();
  }

  /** The next batches are whole, whenever the last ones were. */
  demand(): void {
    this.#reported_ms = Number.NEGATIVE_INFINITY;
  }

  batches(now_ms: number): readonly Batch[] {
    const sources = [...this.#sourceRows()];
    const said = sources.join('\n');
    // Also after a step of the clock.
    const early = Math.abs(now_ms - this.#reported_ms) < this.#parts.period_ms;
    if (early && said === this.#said) return [];
    this.#reported_ms = now_ms;
    this.#said = said;
    this.#addProcess();
    for (const { name, program } of this.#parts.kernel.programs) {
      this.#addProgram(name, program.stats());
    }
    for (const row of sources) this.#addSource(row);
    this.#addCosts();
    return [this.#process, this.#programs, this.#sources, this.#costs]
      .map((fold) => fold.close(now_ms))
      .filter((batch) => batch !== undefined);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#endSample();
  }

  #takeSample(): void {
    if (this.#stats === undefined) return;
    const elapsed_ns = Number(process.hrtime.bigint() - this.#sampled_ns);
    const costs = new Map<string, ProgramCost>();
    for (const [name, now] of this.#runsNow()) {
      const before = this.#sampled.get(name);
      const runs = now.run_count - (before?.run_count ?? 0);
      costs.set(name, { runs, time_ns: now.run_time_ns - (before?.run_time_ns ?? 0) });
    }
    this.#endSample();
    this.#parts.keeper.sampled(costs, elapsed_ns);
  }

  #runsNow(): ReadonlyMap<string, Runs> {
    const { programs } = this.#parts.kernel;
    return new Map(programs.map(({ name, program }) => [name, program.stats()]));
  }

  #endSample(): void {
    this.#stats?.close();
    this.#stats = undefined;
  }

  #addProcess(): void {
    const { kernel, identity, delivery } = this.#parts;
    const cpu = process.cpuUsage(this.#cpu);
    this.#cpu = process.cpuUsage();
    const maps = kernel.maps.reduce((sum, map) => sum + map.memoryBytes, 0);
    this.#process.add(
      Float64Array.of(this.#process.intern('collector')),
      Float64Array.of(
        cpu.user + cpu.system,
        process.memoryUsage.rss(),
        maps,
        this.ring_used,
        delivery.waiting.bytes,
        delivery.waiting.batches,
        identity.counts.known,
      ),
    );
    this.ring_used = 0;
  }

  #addProgram(name: string, now: Runs): void {
    const before = this.#runs.get(name) ?? { run_count: 0, run_time_ns: 0, recursion_misses: 0 };
    this.#runs.set(name, now);
    const runs = now.run_count - before.run_count;
    const missed = now.recursion_misses - before.recursion_misses;
    if (runs <= 0 && missed <= 0) return;
    this.#programs.add(
      Float64Array.of(this.#programs.intern(name)),
      Float64Array.of(missed, runs, now.run_time_ns - before.run_time_ns),
    );
  }

  #addCosts(): void {
    for (const [source, cost] of this.#parts.keeper.report()) {
      const { kernel_time, run_time, level, falls, rises } = cost;
      const values = Float64Array.of(kernel_time, run_time, level, falls, rises);
      this.#costs.add(Float64Array.of(this.#costs.intern(source)), values);
    }
  }

  *#sourceRows(): Generator<SourceRow> {
    for (const { source, state, reason, parts } of this.#parts.kernel.plan.sources) {
      const reduced = this.#parts.keeper.reducedTo(source);
      const why = reduced === undefined ? '' : `over budget: ${reduced.reason}`;
      if (reduced?.step === 'off') yield [source, '', 'off', '', why];
      else if (parts.length === 0) yield [source, '', state, '', reason];
      else {
        for (const one of parts) yield [source, one.part, one.state, one.variant, one.reason];
        if (reduced) yield [source, 'budget', 'reduced', reduced.step, why];
      }
    }
    for (const { source, part, state, variant, reason } of this.#parts.uprobes.report()) {
      yield [source, part, state, variant, reason];
    }
  }

  #addSource(texts: SourceRow): void {
    const dims = Float64Array.from(texts, (text) => this.#sources.intern(text));
    this.#sources.add(dims, Float64Array.of(texts[2] === 'on' ? 1 : 0));
  }
}

/** Measuring is the one thing here that takes CAP_SYS_ADMIN: without it programs are not measured, and all else goes on. */
function statsOrNone(): StatsSwitch | undefined {
  try {
    return enableStats();
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}
