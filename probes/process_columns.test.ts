// Entries of the kernel's maps → rows, for the sources of what processes spend. Every byte of a value differs from its
// neighbour, so that a swapped place cannot pass.

import assert from 'node:assert/strict';
import test from 'node:test';
import { type Batch, isStringColumn } from '../src/table/columns.ts';
import type { TableDefinition } from '../src/table/definition.ts';
import { DomainCache } from '../src/table/domains.ts';
import { Fold } from '../src/table/fold.ts';
import type { DecodeContext, MapEntries, MapSource, Owner } from '../src/table/probe.ts';
import { probeOptions } from '../src/table/testing.ts';
import { blockIo } from './block_io/block_io.ts';
import { fileio } from './fileio/fileio.ts';
import {
  block_key,
  block_sums,
  file_key,
  file_kind,
  file_sums,
  oom_kill,
  page_allocs,
  syscall_key,
  syscall_rest,
  syscall_sums,
  task_totals,
} from './layout.gen.ts';
import { memory } from './memory/memory.ts';
import { scheduler } from './scheduler/scheduler.ts';
import { syscalls } from './syscalls/syscalls.ts';

const OWNER: Owner = {
  process_name: 'nginx',
  process_executable_path: '/usr/sbin/nginx',
  cgroup_path: '/web',
  container_id: 'c0ffee',
};
const PID = 4321;
const START = 1_234_567_890_123;
const CGROUP = 8642;

/** What a value holds, by the name of the field; numbers of 8 bytes, but those named in `narrow`. */
type Fields = Readonly<Record<string, number>>;

function bytesOf(
  layout: Readonly<Record<string, number>>,
  fields: Fields,
  narrow: Fields = {},
): Uint8Array {
  const bytes = new Uint8Array(layout.SIZE!);
  const view = new DataView(bytes.buffer);
  for (const [name, value] of Object.entries(fields)) {
    const at = layout[name];
    assert.ok(at !== undefined, name);
    if (narrow[name] === 2) view.setUint16(at, value, true);
    else if (narrow[name] === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
  }
  return bytes;
}

const owner: Fields = { owner_start_ns: START, owner_cgroup_id: CGROUP, owner_tgid: PID };
const narrow: Fields = { owner_tgid: 4, owner_uid: 4 };

/** The rows that one entry of this source makes, by table. */
function rowsOf(
  sources: readonly MapSource[] | undefined,
  map: string,
  key: Uint8Array,
  value: Uint8Array,
): Record<string, Record<string, string | number>[]> {
  const folds = new Map<TableDefinition, Fold>();
  const context: DecodeContext = {
    fold: (table) => {
      const fold = folds.get(table) ?? new Fold(table);
      folds.set(table, fold);
      return fold;
    },
    owner: (pid, start_ns, cgroup_id) => {
      if (pid === 0) return { ...OWNER, process_name: '', cgroup_path: '', container_id: '' };
      assert.deepEqual([pid, start_ns, cgroup_id], [PID, START, CGROUP]);
      return OWNER;
    },
    options: probeOptions,
    domains: new DomainCache(),
    note: () => assert.fail('nothing is noted'),
    dropped: () => assert.fail('nothing is dropped'),
  };
  const source = sources?.find((one) => one.map === map);
  assert.ok(source !== undefined, map);
  const entries: MapEntries = {
    count: 1,
    keys: key,
    values: value,
    key_size: key.length,
    value_stride: value.length,
  };
  source.open(context).rows(entries, 1_000_000);
  return Object.fromEntries(
    [...folds.values()].flatMap((fold) => {
      const batch = fold.close(1_000_000);
      return batch === undefined ? [] : [[batch.definition.name, objects(batch)]];
    }),
  );
}

function objects(batch: Batch): Record<string, string | number>[] {
  return Array.from({ length: batch.rows }, (_, row) => {
    const cells: [string, string | number][] = batch.dimensions.map((column, i) => [
      batch.definition.dimensions[i]!.name,
      isStringColumn(column) ? column.dictionary[column.ids[row]!]! : column.values[row]!,
    ]);
    for (const [i, column] of batch.measures.entries()) {
      if ('values' in column) cells.push([batch.definition.measures[i]!.name, column.values[row]!]);
    }
    return Object.fromEntries(cells);
  });
}

const PROCESS = { pid: PID, process_name: 'nginx', cgroup_path: '/web', container_id: 'c0ffee' };
const OTHER = { pid: 0, process_name: '<other>', cgroup_path: '<other>', container_id: '<other>' };

test('an entry of system calls', () => {
  const key = bytesOf(syscall_key, { tgid: PID, nr: 1, error: 2 }, { tgid: 4, nr: 2, error: 2 });
  const value = bytesOf(syscall_sums, { ...owner, calls: 7 }, narrow);
  assert.deepEqual(rowsOf(syscalls.map_sources, 'syscalls', key, value), {
    syscall: [
      {
        ...PROCESS,
        syscall: process.arch === 'x64' ? 'write' : 'io_destroy',
        error_type: 'ENOENT',
        calls: 7,
        errors: 7,
      },
    ],
  });
});

test('system calls beyond the limit keep their name, and that some failed', () => {
  const key = new Uint8Array(Uint32Array.of(0).buffer);
  const value = bytesOf(syscall_rest, { calls: 9, errors: 4 });
  const rows = rowsOf(syscalls.map_sources, 'syscall_rest', key, value).syscall!;
  const syscall = process.arch === 'x64' ? 'read' : 'io_setup';
  assert.deepEqual(rows, [
    { ...OTHER, syscall, error_type: '', calls: 5, errors: 0 },
    { ...OTHER, syscall, error_type: '<other>', calls: 4, errors: 4 },
  ]);
});

test('an entry of reads and writes', () => {
  const words = { tgid: PID, kind: file_kind.FILE_TTY, operation: 1 };
  const key = bytesOf(file_key, words, { tgid: 4, kind: 2, operation: 2 });
  const value = bytesOf(file_sums, { ...owner, calls: 3, errors: 1, bytes: 500 }, narrow);
  assert.deepEqual(rowsOf(fileio.map_sources, 'file_io', key, value), {
    file_io: [
      { ...PROCESS, file_kind: 'tty', operation: 'write', calls: 3, errors: 1, bytes: 500 },
    ],
  });
});

test('an entry of a block device', () => {
  const device = 2100 * 2 ** 20 + 3; // the highest bit is set
  const key = bytesOf(block_key, { device, operation: 3 }, { device: 4, operation: 4 });
  const value = bytesOf(block_sums, { requests: 5, errors: 2, bytes: 4096 });
  value.set(Buffer.from('loop3\0'), block_sums.device);
  assert.deepEqual(rowsOf(blockIo.map_sources, 'block_io', key, value), {
    block_io: [
      {
        device: 'loop3',
        device_major: 2100,
        device_minor: 3,
        operation: 'discard',
        requests: 5,
        errors: 2,
        bytes: 4096,
      },
    ],
  });
});

test('totals of tasks fill two tables, each only with what it has', () => {
  const counts = {
    counts_cpu_ns: 11,
    counts_wait_ns: 12,
    counts_runs: 13,
    counts_voluntary: 14,
    counts_involuntary: 15,
    counts_migrations: 16,
  };
  const faults = { counts_faults_minor: 17, counts_faults_major: 18 };
  const key = new Uint8Array(4);
  const scheduled = {
    ...PROCESS,
    cpu_time: 11,
    runqueue_wait: 12,
    runs: 13,
    switches_voluntary: 14,
    switches_involuntary: 15,
    migrations: 16,
  };
  const both = bytesOf(task_totals, { ...owner, ...counts, ...faults }, narrow);
  const faulted = {
    ...PROCESS,
    faults_minor: 17,
    faults_major: 18,
    allocations: 0,
    allocated_pages: 0,
    allocation_failures: 0,
  };
  const rows = rowsOf(scheduler.map_sources, 'task_totals', key, both);
  assert.deepEqual(rows, { scheduler: [scheduled], memory: [faulted] });
  const only = bytesOf(task_totals, { ...owner, ...counts }, narrow);
  assert.deepEqual(rowsOf(memory.map_sources, 'task_totals', key, only), {
    scheduler: [scheduled],
  });
});

test('an entry of allocations', () => {
  const value = bytesOf(
    page_allocs,
    { ...owner, allocations: 5 * 2 ** 32 + 9, failures: 2 },
    narrow,
  );
  const rows = rowsOf(memory.map_sources, 'page_allocs', new Uint8Array(4), value).memory!;
  const { allocations, allocated_pages, allocation_failures } = rows[0]!;
  assert.deepEqual([allocations, allocated_pages, allocation_failures], [5, 9, 2]);
});

test('a kill for want of memory', () => {
  const sizes = { total_vm: 100, anon_rss: 50, file_rss: 20, shmem_rss: 10 };
  const words = { ...owner, owner_uid: 33, ...sizes, by_tgid: 77, oom_score_adj: 2 ** 32 - 5 };
  const value = bytesOf(oom_kill, words, { ...narrow, by_tgid: 4, oom_score_adj: 4 });
  value.set(Buffer.from('eater\0'), oom_kill.comm);
  value.set(Buffer.from('asker\0'), oom_kill.by_comm);
  assert.deepEqual(rowsOf(memory.map_sources, 'oom_kills', new Uint8Array(4), value), {
    oom_kill: [
      {
        ...PROCESS,
        comm: 'eater',
        uid: 33,
        oom_score_adj: -5,
        by_pid: 77,
        by_comm: 'asker',
        kills: 1,
        total_vm: 409_600,
        anon_rss: 204_800,
        file_rss: 81_920,
        shmem_rss: 40_960,
      },
    ],
  });
});
