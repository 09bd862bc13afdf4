// Golden bytes of a process's events → rows. Each byte differs from its neighbours.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { process_event, process_event_flag, process_exec_event } from '../layout.gen.ts';
import { type TestContext, testContext } from '../map_testing.ts';
import { ProcessDecoder, processEventTable } from './process.ts';

const SEED = 20_260_130;
const [FORK, EXEC, EXIT] = [1, 2, 3];
const ID = 'c0ffee00'.repeat(8);
const PLACE = { path: `/docker/${ID}`, container_id: ID };

interface Event {
  readonly event: number;
  readonly flags?: number;
  readonly status?: number;
  readonly path?: string;
  readonly args?: string;
}

function record({ event, flags = 0, status = 0, path = '', args }: Event): Uint8Array {
  const length = args === undefined ? process_exec_event.args : process_exec_event.SIZE;
  const bytes = new Uint8Array(event === EXEC ? length : process_event.SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(process_event.head_flags, flags, true);
  view.setBigUint64(process_event.time_ns, 0x0002_0304_0506_0908n, true);
  view.setBigUint64(process_event.start_ns, 0x0001_0203_0405_0607n, true);
  view.setBigUint64(process_event.cgroup_id, 0x0004_0506_0708_090an, true);
  view.setUint32(process_event.tgid, 0x0011_2233, true);
  view.setUint32(process_event.ppid, 0x0044_5566, true);
  view.setUint32(process_event.uid, 0x7788_99aa, true);
  view.setUint32(process_event.status, status, true);
  view.setUint16(process_event.event, event, true);
  bytes.set(Buffer.from('comm-15-chars-x'), process_event.comm);
  if (event !== EXEC) return bytes;
  bytes.set(Buffer.from(path), process_exec_event.path);
  view.setUint16(process_event.args_length, Buffer.byteLength(args ?? ''), true);
  bytes.set(Buffer.from(args ?? ''), process_exec_event.args);
  return bytes;
}

/** Decodes at an odd place. */
function decode(bytes: Uint8Array, context: TestContext): boolean {
  const decoder = new ProcessDecoder(context);
  const placed = new Uint8Array(24 + bytes.length);
  placed.set(bytes, 24);
  decoder.over(placed);
  return decoder.decode(24, bytes.length);
}

function row(event: Event): Readonly<Record<string, unknown>> {
  const asked: number[] = [];
  const context = testContext({
    cgroup: (id) => {
      asked.push(id);
      return PLACE;
    },
  });
  assert.equal(decode(record(event), context), true);
  assert.deepEqual(asked, [0x0004_0506_0708_090a]);
  const [only, ...more] = context.rows(processEventTable);
  assert.deepEqual(more, []);
  return only!;
}

const WHO = {
  pid: 0x0011_2233,
  ppid: 0x0044_5566,
  process_name: 'comm-15-chars-x',
  uid: 0x7788_99aa,
  cgroup_path: PLACE.path,
  container_id: ID,
  duration: 0x0001_0101_0101_0301,
};
const NOTHING = {
  process_executable_path: '',
  process_command_args: '',
  exit_code: 0,
  exit_signal: '',
};

test('golden bytes of a begin', () => {
  assert.deepEqual(row({ event: FORK! }), { ...WHO, ...NOTHING, event: 'fork' });
});

test('golden bytes of an exec, with and without its arguments', () => {
  const told = { ...WHO, ...NOTHING, event: 'exec', process_executable_path: '/bin/ü' };
  assert.deepEqual(row({ event: EXEC!, path: '/bin/ü' }), told);
  const args = 'ls\0-l\0\0';
  const all = { event: EXEC!, path: '/bin/ü', args };
  assert.deepEqual(row(all), { ...told, process_command_args: 'ls -l ' });
  const flags = process_event_flag.PROCESS_PATH_CUT | process_event_flag.PROCESS_ARGS_CUT;
  const cut = row({ ...all, flags });
  assert.deepEqual([cut.process_executable_path, cut.process_command_args], ['/bin/ü…', 'ls -l …']);
});

for (const [status, code, signal] of [
  [0, 0, ''],
  [0x0300, 3, ''],
  [0xff00, 255, ''],
  [9, -1, 'SIGKILL'],
  [0x80 | 11, -1, 'SIGSEGV'],
  [34, -1, 'signal 34'],
] as const) {
  test(`the end with status 0x${status.toString(16)}`, () => {
    const end = row({ event: EXIT!, status });
    assert.deepEqual([end.event, end.exit_code, end.exit_signal], ['exit', code, signal]);
  });
}

test('records that are cut, or of an unknown kind, are refused', () => {
  const whole = record({ event: EXEC!, path: '/x' });
  for (const bytes of [
    record({ event: FORK! }).subarray(0, process_event.SIZE - 1),
    whole.subarray(0, process_exec_event.args - 1),
    record({ event: 0 }),
    record({ event: 4 }),
  ]) {
    const context = testContext();
    assert.equal(decode(bytes, context), false);
    assert.deepEqual(context.rows(processEventTable), []);
  }
});

test(`any bytes are read without a throw, seed ${SEED}`, () => {
  const bytes = fc.uint8Array({ minLength: 0, maxLength: process_exec_event.SIZE });
  const event = fc.integer({ min: 0, max: 4 });
  fc.assert(
    fc.property(bytes, event, (given, kind) => {
      if (given.length > process_event.event) given[process_event.event] = kind;
      if (given.length > process_event.event + 1) given[process_event.event + 1] = 0;
      const context = testContext();
      const taken = decode(given, context);
      assert.equal(context.rows(processEventTable).length, taken ? 1 : 0);
    }),
    { seed: SEED, numRuns: 1000 },
  );
});
