// Decodes what tasks spent (bpf/tasks.bpf.h) into rows of `scheduler` and `memory`. Both probes name the same sources and the
// same part, so that tasks are read once; a probe that is off has zeros there, which make no row.

import type { Fold } from '../src/table/fold.ts';
import type { DecodeContext, MapDecoder, MapEntries, MapSource, Part } from '../src/table/probe.ts';
import { pair, TASK_STORAGE } from './kernel_maps.ts';
import { owner, task_totals } from './layout.gen.ts';
import { memoryTable } from './memory/memory_table.ts';
import { ProcessColumns, u64, viewOf } from './process_columns.ts';
import { schedulerTable } from './scheduler/scheduler_table.ts';

/** Where the counters stand in a value, in the order of the first measures of each table. */
const SCHEDULER = [
  task_totals.counts_cpu_ns,
  task_totals.counts_wait_ns,
  task_totals.counts_runs,
  task_totals.counts_voluntary,
  task_totals.counts_involuntary,
  task_totals.counts_migrations,
];
const MEMORY = [task_totals.counts_faults_minor, task_totals.counts_faults_major];

class Table {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #offsets: readonly number[];
  readonly #dims: Float64Array;
  readonly #measures: Float64Array;

  constructor(context: DecodeContext, fold: Fold, offsets: readonly number[]) {
    this.#fold = fold;
    this.#process = new ProcessColumns(context, fold);
    this.#offsets = offsets;
    this.#dims = new Float64Array(fold.definition.dimensions.length);
    this.#measures = new Float64Array(fold.definition.measures.length).fill(Number.NaN);
  }

  add(view: DataView, at: number): void {
    let any = false;
    for (let i = 0; i < this.#offsets.length; i += 1) {
      const count = u64(view, at + this.#offsets[i]!);
      this.#measures[i] = count;
      any ||= count > 0;
    }
    if (!any) return;
    this.#process.fill(this.#dims, view, at + task_totals.owner_start_ns, owner);
    this.#fold.add(this.#dims, this.#measures);
  }
}

class TotalsDecoder implements MapDecoder {
  readonly #tables: readonly Table[];

  constructor(context: DecodeContext) {
    this.#tables = [
      new Table(context, context.fold(schedulerTable), SCHEDULER),
      new Table(context, context.fold(memoryTable), MEMORY),
    ];
  }

  rows({ count, values, value_stride }: MapEntries): void {
    const view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      for (const table of this.#tables) table.add(view, i * value_stride);
    }
  }
}

export const taskTotals: readonly MapSource[] = ['task_totals', 'task_rest'].map((map) => ({
  map,
  read: 'turns',
  open: (context) => new TotalsDecoder(context),
}));

export const TOTALS_MAPS: readonly string[] = [
  ...pair('task_totals'),
  ...pair('task_rest'),
  'task_seen',
];

/** The part of both probes. */
export function totalsPart(help: string, required: boolean): Part {
  return {
    name: 'totals',
    help,
    required,
    own_maps: TOTALS_MAPS,
    variants: [
      {
        name: 'task walk',
        programs: ['tasks_sweep', 'task_exit', 'task_free'],
        needs: [
          'btf:bpf_iter__task',
          'tp:sched_process_exit',
          'tp:sched_process_free',
          ...TASK_STORAGE,
        ],
      },
    ],
  };
}
