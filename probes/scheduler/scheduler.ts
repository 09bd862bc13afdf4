// The scheduler probe as data, and the decoder of its waits; the kernel parts are scheduler.bpf.h and bpf/tasks.bpf.h.

import type { Fold } from '../../src/table/fold.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  Probe,
} from '../../src/table/probe.ts';
import { front, frontOf, pair, sizes, TASK_STORAGE } from '../kernel_maps.ts';
import { owner, sched_waits, sched_waits_slot } from '../layout.gen.ts';
import { ProcessColumns, viewOf } from '../process_columns.ts';
import { addSlots } from '../slots.ts';
import { taskTotals, totalsPart } from '../task_totals.ts';
import { schedulerTable } from './scheduler_table.ts';

const WOKEN = schedulerTable.measures.findIndex(({ name }) => name === 'wakeup_wait');
const PREEMPTED = schedulerTable.measures.findIndex(({ name }) => name === 'preempted_wait');

class WaitsDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #dims = new Float64Array(schedulerTable.dimensions.length);
  /** The totals come from elsewhere: a row of waits adds nothing to them. */
  readonly #measures = new Float64Array(schedulerTable.measures.length).fill(Number.NaN);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(schedulerTable);
    this.#process = new ProcessColumns(context, this.#fold);
  }

  rows({ count, values, value_stride }: MapEntries): void {
    const view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      const at = i * value_stride;
      this.#process.fill(this.#dims, view, at + sched_waits.owner_start_ns, owner);
      const row = this.#fold.addRow(this.#dims, this.#measures, 0);
      addSlots(this.#fold, row, WOKEN, view, at + sched_waits.woken_sum);
      addSlots(this.#fold, row, PREEMPTED, view, at + sched_waits.preempted_sum);
    }
  }
}

const open: MapSource['open'] = (context) => new WaitsDecoder(context);

const waits: readonly MapSource[] = [
  {
    map: 'sched_waits',
    read: 'turns',
    front: front('sched_waits', sched_waits_slot, sched_waits.woken_sum),
    open,
  },
  { map: 'sched_rest', read: 'turns', open },
];

export const scheduler: Probe = {
  name: 'scheduler',
  help: 'what each process gets of the processors: time, waits, switches; by the kernel’s own counters',
  tables: [schedulerTable],
  enabled_variable: 'scheduler_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    totalsPart('processor time, waits and switches of live tasks and of those that end', true),
    {
      name: 'latency',
      help: 'how long each wait for a processor was, by cause',
      required: false,
      wanted: (options) => options.scheduler.latency,
      own_maps: [...pair('sched_waits'), frontOf('sched_waits'), ...pair('sched_rest')],
      variants: [
        {
          name: 'tp_btf',
          programs: ['sched_switched', 'sched_forked'],
          needs: ['tp:sched_switch', 'tp:sched_process_fork', ...TASK_STORAGE],
        },
      ],
    },
  ],
  sweeps: [
    { programs: ['tasks_sweep'], when: 'start' },
    { programs: ['tasks_sweep'], when: 'interval' },
  ],
  map_sources: [...taskTotals, ...waits],
  map_entries: ({ maps: { process_totals_max } }) => ({
    ...sizes('task_totals', process_totals_max),
    ...sizes('sched_waits', Math.ceil(process_totals_max / 2)),
  }),
};
