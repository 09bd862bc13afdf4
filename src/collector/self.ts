// What the collector costs and what it can see, as tables that go the same way as what it sees.

import { BpfError } from '../bpf/error.ts';
import { enableStats, type StatsSwitch } from '../bpf/stats.ts';
import type { Batch } from '../table/columns.ts';
import { Fold } from '../table/fold.ts';
import { processTable, programTable, sourceTable } from '../table/self.ts';
import type { Delivery } from './delivery.ts';
import type { Identity } from './identity.ts';
import type { Kernel } from './kernel.ts';

const SAMPLE_MS = 100;

export interface SelfParts {
  readonly kernel: Kernel;
  readonly identity: Identity;
  readonly delivery: Delivery;
}

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
  readonly #runs = new Map<string, Runs>();
  #cpu = process.cpuUsage();
  #stats: StatsSwitch | undefined;
  #timer: NodeJS.Timeout | undefined;
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
    this.#timer = setTimeout(() => this.#endSample(), SAMPLE_MS);
    this.#timer.unref();
  }

  batches(now_ms: number): readonly Batch[] {
    this.#addProcess();
    for (const { name, program } of this.#parts.kernel.programs) {
      this.#addProgram(name, program.stats());
    }
    for (const { source, state, reason, parts } of this.#parts.kernel.plan.sources) {
      if (parts.length === 0) this.#addSource([source, '', state, '', reason]);
      for (const one of parts) {
        this.#addSource([source, one.part, one.state, one.variant, one.reason]);
      }
    }
    return [this.#process, this.#programs, this.#sources]
      .map((fold) => fold.close(now_ms))
      .filter((batch) => batch !== undefined);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#endSample();
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

  #addSource(texts: readonly [string, string, string, string, string]): void {
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
