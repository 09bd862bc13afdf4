// The memory probe as data, and the decoders of its maps; the kernel parts are memory.bpf.h and bpf/tasks.bpf.h.

import type { Fold } from '../../src/table/fold.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  Probe,
} from '../../src/table/probe.ts';
import { front, frontOf, pair, sizes } from '../kernel_maps.ts';
import { oom_kill, owner, page_allocs, page_allocs_slot } from '../layout.gen.ts';
import { ProcessColumns, processDimensions, u64, viewOf } from '../process_columns.ts';
import { taskTotals, totalsPart } from '../task_totals.ts';
import { memoryTable, oomTable, pressureTable } from './memory_table.ts';

const PAGE_BYTES = 4096;
const COMM_BYTES = 16;
/** Where the measures of allocations begin. */
const ALLOCATIONS = memoryTable.measures.findIndex(({ name }) => name === 'allocations');
const VICTIM = processDimensions.length;

class AllocationsDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #dims = new Float64Array(memoryTable.dimensions.length);
  readonly #measures = new Float64Array(memoryTable.measures.length).fill(Number.NaN);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(memoryTable);
    this.#process = new ProcessColumns(context, this.#fold);
  }

  rows({ count, values, value_stride }: MapEntries): void {
    const view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      const at = i * value_stride;
      this.#process.fill(this.#dims, view, at + page_allocs.owner_start_ns, owner);
      const halves = at + page_allocs.allocations;
      this.#measures[ALLOCATIONS] = view.getUint32(halves + 4, true);
      this.#measures[ALLOCATIONS + 1] = view.getUint32(halves, true);
      this.#measures[ALLOCATIONS + 2] = u64(view, at + page_allocs.failures);
      this.#fold.add(this.#dims, this.#measures);
    }
  }
}

class OomDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #dims = new Float64Array(oomTable.dimensions.length);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(oomTable);
    this.#process = new ProcessColumns(context, this.#fold);
  }

  rows({ count, values, value_stride }: MapEntries, now_ms: number): void {
    const view = viewOf(values);
    const [seconds, rest_ns] = process.hrtime();
    for (let i = 0; i < count; i += 1) {
      const ago_ms =
        seconds * 1000 + rest_ns / 1e6 - u64(view, i * value_stride + oom_kill.at_ns) / 1e6;
      this.#event(view, i * value_stride, now_ms - Math.max(0, ago_ms));
    }
  }

  #event(view: DataView, at: number, time_ms: number): void {
    const dims = this.#dims;
    const bytes = (offset: number): number => u64(view, at + offset) * PAGE_BYTES;
    this.#process.fill(dims, view, at + oom_kill.owner_start_ns, owner);
    dims[VICTIM] = this.#fold.intern(text(view, at + oom_kill.comm));
    dims[VICTIM + 1] = view.getUint32(at + oom_kill.owner_uid, true);
    dims[VICTIM + 2] = view.getInt32(at + oom_kill.oom_score_adj, true);
    dims[VICTIM + 3] = view.getUint32(at + oom_kill.by_tgid, true);
    dims[VICTIM + 4] = this.#fold.intern(text(view, at + oom_kill.by_comm));
    const measures = Float64Array.of(
      1,
      bytes(oom_kill.total_vm),
      bytes(oom_kill.anon_rss),
      bytes(oom_kill.file_rss),
      bytes(oom_kill.shmem_rss),
    );
    this.#fold.add(dims, measures, Math.round(time_ms));
  }
}

/** The text of a `char[16]`, up to its NUL. */
function text(view: DataView, at: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset + at, COMM_BYTES);
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? COMM_BYTES : end);
}

const open: MapSource['open'] = (context) => new AllocationsDecoder(context);

const allocations: readonly MapSource[] = [
  {
    map: 'page_allocs',
    read: 'turns',
    front: front('page_allocs', page_allocs_slot, page_allocs.allocations),
    open,
  },
  { map: 'page_rest', read: 'turns', open },
];

const kills: MapSource = {
  map: 'oom_kills',
  read: 'turns',
  open: (context) => new OomDecoder(context),
};

export const memory: Probe = {
  name: 'memory',
  help: 'page faults of each process, the pages that it allocates if asked for, and kills for want of memory',
  tables: [memoryTable, oomTable, pressureTable],
  enabled_variable: 'memory_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'oom',
      help: 'processes that the kernel ends because memory ran out',
      required: true,
      own_maps: pair('oom_kills'),
      variants: [
        { name: 'tp_btf', programs: ['oom_victim'], needs: ['tp:mark_victim'] },
        {
          name: 'tp_btf with a pid',
          programs: ['oom_victim_pid'],
          needs: ['tp:mark_victim'],
          misses: 'size, user and cgroup of the victim',
        },
      ],
    },
    totalsPart('page faults of live tasks and of those that end', false),
    {
      name: 'allocations',
      help: 'pages that processes allocate',
      required: false,
      wanted: (options) => options.memory.allocations,
      own_maps: [...pair('page_allocs'), frontOf('page_allocs'), ...pair('page_rest')],
      variants: [{ name: 'tp_btf', programs: ['page_alloc'], needs: ['tp:mm_page_alloc'] }],
    },
  ],
  sweeps: [
    { programs: ['tasks_sweep'], when: 'start' },
    { programs: ['tasks_sweep'], when: 'interval' },
  ],
  map_sources: [...taskTotals, ...allocations, kills],
  map_entries: ({ maps: { process_totals_max } }) => ({
    ...sizes('task_totals', process_totals_max),
    ...sizes('page_allocs', process_totals_max),
  }),
};
