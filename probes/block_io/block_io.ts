// The probe of block devices as data, and the decoder of its map; the kernel part is block_io.bpf.h.

import { defineTable } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext, MapDecoder, MapEntries, Probe } from '../../src/table/probe.ts';
import { front, frontOf, pair } from '../kernel_maps.ts';
import { block_io_slot, block_key, block_sums } from '../layout.gen.ts';
import { u64, viewOf } from '../process_columns.ts';
import { addSlots } from '../slots.ts';

/** The kernel's REQ_OP_… that devices see in common. */
const OPERATIONS: ReadonlyMap<number, string> = new Map([
  [0, 'read'],
  [1, 'write'],
  [2, 'flush'],
  [3, 'discard'],
  [5, 'secure_erase'],
  [9, 'write_zeroes'],
]);
/** Of the kernel's dev_t. */
const MINOR_BITS = 20;
const LATENCY = 3;
const SIZE = 4;

export const blockTable = defineTable({
  name: 'block_io',
  help: 'requests of block devices that were done',
  kind: 'fold',
  dimensions: [
    { name: 'device', type: 'string', help: 'name of the disk, as under /sys/block' },
    { name: 'device_major', type: 'u32', help: 'first half of its number' },
    { name: 'device_minor', type: 'u32', help: 'second half of its number' },
    {
      name: 'operation',
      type: 'string',
      values: [...OPERATIONS.values(), 'other', '<other>'],
      help: 'what the device was asked to do',
    },
  ],
  measures: [
    { name: 'requests', type: 'u64', unit: '1', fold: 'sum', help: 'requests that were done' },
    { name: 'errors', type: 'u64', unit: '1', fold: 'sum', help: 'those that failed' },
    { name: 'bytes', type: 'u64', unit: 'By', fold: 'sum', help: 'bytes that they moved' },
    {
      name: 'latency',
      type: 'u64',
      unit: 'ns',
      fold: 'histogram',
      scale: 0,
      help: 'from when the kernel made the request, its time in the queue included',
    },
    {
      name: 'size',
      type: 'u64',
      unit: 'By',
      fold: 'histogram',
      scale: 0,
      help: 'length of a request',
    },
  ],
  rows_max: 4096,
});

class BlockDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #dims = new Float64Array(blockTable.dimensions.length);
  readonly #measures = new Float64Array(blockTable.measures.length).fill(Number.NaN);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(blockTable);
  }

  rows({ count, keys, values, key_size, value_stride }: MapEntries): void {
    const key_view = viewOf(keys);
    const value_view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      this.#row(key_view, i * key_size, value_view, i * value_stride);
    }
  }

  #row(keys: DataView, key: number, values: DataView, value: number): void {
    const operation = keys.getUint32(key + block_key.operation, true);
    this.#dims[0] = this.#fold.intern(deviceName(values, value + block_sums.device));
    const device = keys.getUint32(key + block_key.device, true);
    this.#dims[1] = device >>> MINOR_BITS;
    this.#dims[2] = device & ((1 << MINOR_BITS) - 1);
    this.#dims[3] = this.#fold.intern(OPERATIONS.get(operation) ?? 'other');
    this.#measures[0] = u64(values, value + block_sums.requests);
    this.#measures[1] = u64(values, value + block_sums.errors);
    this.#measures[2] = u64(values, value + block_sums.bytes);
    const row = this.#fold.addRow(this.#dims, this.#measures, 0);
    addSlots(this.#fold, row, LATENCY, values, value + block_sums.latency_sum);
    addSlots(this.#fold, row, SIZE, values, value + block_sums.size_sum);
  }
}

function deviceName(view: DataView, at: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset + at, block_sums.device_length);
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

export const blockIo: Probe = {
  name: 'block_io',
  help: 'requests of each block device: how many, how large, how long',
  tables: [blockTable],
  enabled_variable: 'block_io_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'requests',
      help: 'requests, where they are done',
      required: true,
      variants: [{ name: 'tp_btf', programs: ['block_complete'], needs: ['tp:block_rq_complete'] }],
    },
  ],
  sweeps: [],
  map_sources: [
    {
      map: 'block_io',
      read: 'turns',
      front: front('block_io', block_io_slot, block_sums.requests),
      open: (context) => new BlockDecoder(context),
    },
  ],
  own_maps: [...pair('block_io'), frontOf('block_io')],
};
