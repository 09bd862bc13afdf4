// The probe of reads and writes as data, and the decoder of its maps; the kernel part is fileio.bpf.h.

import { defineTable } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  Probe,
} from '../../src/table/probe.ts';
import { front, frontOf, pair, sizes, TASK_STORAGE } from '../kernel_maps.ts';
import {
  file_io_slot,
  file_key,
  file_kind,
  file_operation,
  file_sums,
  level_source,
  owner,
} from '../layout.gen.ts';
import { ProcessColumns, processDimensions, u64, viewOf } from '../process_columns.ts';
import { addSlots } from '../slots.ts';

const KINDS: ReadonlyMap<number, string> = new Map([
  [file_kind.FILE_NONE, 'none'],
  [file_kind.FILE_REGULAR, 'regular'],
  [file_kind.FILE_PIPE, 'pipe'],
  [file_kind.FILE_SOCKET, 'socket'],
  [file_kind.FILE_TTY, 'tty'],
  [file_kind.FILE_CHAR, 'character'],
  [file_kind.FILE_BLOCK, 'block'],
  [file_kind.FILE_ANON, 'anonymous'],
  [file_kind.FILE_OTHER, 'other'],
]);

const KIND = processDimensions.length;
const OPERATION = KIND + 1;
const LATENCY = 3;

export const fileTable = defineTable({
  name: 'file_io',
  help: 'reads and writes of processes by kind of file',
  kind: 'fold',
  dimensions: [
    ...processDimensions,
    {
      name: 'file_kind',
      type: 'string',
      values: [...KINDS.values(), '<other>'],
      help: 'what the descriptor is of; none: of nothing',
    },
    {
      name: 'operation',
      type: 'string',
      values: ['read', 'write', '<other>'],
      help: 'read, or write; a call that copies from one file to another counts as both',
    },
  ],
  measures: [
    { name: 'calls', type: 'u64', unit: '1', fold: 'sum', help: 'calls that returned' },
    { name: 'errors', type: 'u64', unit: '1', fold: 'sum', help: 'those that returned an error' },
    { name: 'bytes', type: 'u64', unit: 'By', fold: 'sum', help: 'bytes that they moved' },
    {
      name: 'latency',
      type: 'u64',
      unit: 'ns',
      fold: 'histogram',
      scale: 0,
      help: 'from entry to return; empty unless collector.fileio.latency is set',
    },
  ],
  rows_max: 16384,
});

class FileDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #dims = new Float64Array(fileTable.dimensions.length);
  readonly #measures = new Float64Array(fileTable.measures.length).fill(Number.NaN);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(fileTable);
    this.#process = new ProcessColumns(context, this.#fold);
  }

  rows({ count, keys, values, key_size, value_stride }: MapEntries): void {
    const key_view = viewOf(keys);
    const value_view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      this.#row(key_view, i * key_size, value_view, i * value_stride);
    }
  }

  #row(keys: DataView, key: number, values: DataView, value: number): void {
    const kind = keys.getUint16(key + file_key.kind, true);
    const operation = keys.getUint16(key + file_key.operation, true);
    if (keys.getUint32(key + file_key.tgid, true) === 0) this.#process.fillOther(this.#dims);
    else this.#process.fill(this.#dims, values, value + file_sums.owner_start_ns, owner);
    this.#dims[KIND] = this.#process.word(KINDS.get(kind) ?? '<other>');
    this.#dims[OPERATION] = this.#process.word(
      operation === file_operation.FILE_READ ? 'read' : 'write',
    );
    this.#measures[0] = u64(values, value + file_sums.calls);
    this.#measures[1] = u64(values, value + file_sums.errors);
    this.#measures[2] = u64(values, value + file_sums.bytes);
    const row = this.#fold.addRow(this.#dims, this.#measures, 0);
    addSlots(this.#fold, row, LATENCY, values, value + file_sums.latency_sum);
  }
}

const open: MapSource['open'] = (context) => new FileDecoder(context);

const mapSources: readonly MapSource[] = [
  {
    map: 'file_io',
    read: 'turns',
    front: front('file_io', file_io_slot, file_sums.calls),
    open,
  },
  { map: 'file_rest', read: 'turns', open },
];

export const fileio: Probe = {
  name: 'fileio',
  help: 'reads and writes of each process: calls, errors, bytes by kind of file, how long if asked for',
  enabled_default: false,
  tables: [fileTable],
  enabled_variable: 'fileio_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'calls',
      help: 'reads and writes, where a call returns',
      required: true,
      own_maps: [...pair('file_io'), frontOf('file_io'), ...pair('file_rest')],
      variants: [
        { name: 'tp_btf', programs: ['sys_exit'], needs: ['tp:sys_exit', ...TASK_STORAGE] },
        {
          name: 'tp_btf without task storage',
          programs: ['sys_exit_510'],
          needs: ['tp:sys_exit'],
          misses: 'latency',
        },
      ],
    },
    {
      name: 'latency',
      help: 'how long each read and write took',
      required: false,
      wanted: (options) => options.fileio.latency,
      own_maps: ['syscall_begun'],
      variants: [
        { name: 'tp_btf', programs: ['sys_enter'], needs: ['tp:sys_enter', ...TASK_STORAGE] },
      ],
    },
  ],
  sweeps: [],
  reducible: { slot: level_source.LEVEL_FILEIO, steps: [] },
  map_sources: mapSources,
  map_entries: ({ maps: { process_totals_max } }) =>
    sizes('file_io', Math.ceil(process_totals_max / 2)),
  constants: (options) => ({ fileio_timed: Number(options.fileio.latency) }),
};
