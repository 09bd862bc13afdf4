import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { ElfFile } from './elf-file.ts';
import { BpfError } from './error.ts';
import { findMount, possibleCpus } from './features.ts';
import { BpfIter } from './iter.ts';
import { BpfLink } from './link.ts';
import { BpfObject } from './object.ts';
import { BpfProgram } from './program.ts';
import { enableStats } from './stats.ts';
import { fixture, getppid, pinFolder, skipLive } from './testdata/fixture.ts';

const skip = skipLive();
const bytes = await fixture('probe');

function loaded(): BpfObject {
  const object = BpfObject.open(bytes, { name: 'probe' });
  object.rodata({ target_tgid: process.pid });
  object.load();
  after(() => object.close());
  return object;
}

/** The sum over the CPUs of one entry of `totals`. */
function total(object: BpfObject, index: number): number {
  const key = new Uint8Array(4);
  key[0] = index;
  const map = object.map('totals');
  const value = new Uint8Array(map.valueStride);
  map.lookup(key, value);
  const view = new DataView(value.buffer);
  let sum = 0;
  for (let cpu = 0; cpu < possibleCpus(); cpu++) sum += view.getUint32(8 * cpu, true);
  return sum;
}

test('a program runs while it is attached, and its runs are counted', { skip }, () => {
  const object = loaded();
  const program = object.program('on_enter');
  using stats = enableStats();
  const link = program.attach();
  assert.equal(link.programId, program.id);
  assert.ok(link.info().id > 0);
  getppid(20);
  link.close();
  assert.equal(total(object, 0), 20);
  const { run_count, run_time_ns } = program.stats();
  assert.ok(run_count >= 20 && run_time_ns > 0);
  getppid(20);
  assert.equal(total(object, 0), 20);
  assert.equal(program.stats().run_count, run_count);
  stats.close();
  stats.close();
});

test('attachAll attaches what it can and gives reasons for the rest', { skip }, () => {
  const results = loaded().attachAll();
  const by = new Map(results.map((result) => [result.program.name, result]));
  assert.equal(results.length, 7);
  assert.ok(by.get('on_enter')?.link);
  assert.ok(by.get('each_task')?.link);
  assert.equal(by.get('on_egress')?.link, undefined);
  assert.ok(by.get('on_egress')?.error?.code);
});

test('a cgroup program counts the packets of its cgroup', { skip }, async () => {
  const root = findMount('cgroup2');
  assert.ok(root, 'no cgroup2 mount');
  const object = loaded();
  const program = object.program('on_egress');
  assert.throws(() => program.attachCgroup('/nonexistent'), { code: 'ENOENT' });
  assert.throws(() => program.attachCgroup('/'), { code: 'EBADF' });
  const folder = `${root}/bpf-test-${process.pid}`;
  mkdirSync(folder);
  const link = program.attachCgroup(folder);
  try {
    assert.equal(link.info().typeName, 'cgroup');
    assert.equal(link.info().programId, program.id);
    // A child joins the folder before it makes its socket: a socket belongs to the cgroup that made it.
    const code = `
      require('node:fs').writeFileSync('${folder}/cgroup.procs', String(process.pid));
      const socket = require('node:dgram').createSocket('udp4');
      const send = (left) =>
        left === 0 ? socket.close() : socket.send('x', 9, '127.0.0.1', () => send(left - 1));
      send(7);`;
    execFileSync(process.execPath, ['-e', code], { stdio: 'ignore' });
    assert.equal(total(object, 1), 7);
    await sendOutside();
    assert.equal(total(object, 1), 7);
  } finally {
    link.close();
    rmdirSync(folder);
  }
});

function sendOutside(): Promise<void> {
  const socket = createSocket('udp4');
  return new Promise((resolve) => {
    socket.send('x', 9, '127.0.0.1', () => socket.close(() => resolve()));
  });
}

test('an iterator passes over the tasks, whole and piece by piece', { skip }, () => {
  const iter = loaded().program('each_task').iterate();
  const into = new Uint8Array(8 * 100_000);
  const size = iter.run(into);
  assert.ok(size >= 16 && size % 8 === 0);
  assert.ok(pids(into, size).includes(process.pid));
  assert.ok(pids(into, iter.run(into)).includes(process.pid));
  assert.throws(() => iter.run(new Uint8Array(8)), { code: 'ENOSPC' });
  assert.throws(() => iter.drainText(8), { code: 'ENOSPC' });
  assert.ok(iter.drainText().length >= 16);
  const piece = new Uint8Array(24);
  const found: number[] = [];
  using pass = iter.pass();
  for (let read = pass.read(piece); read > 0; read = pass.read(piece)) {
    found.push(...pids(piece, read));
  }
  assert.ok(found.includes(process.pid));
  assert.equal(pass.read(piece), 0);
});

function pids(rows: Uint8Array, size: number): number[] {
  const view = new DataView(rows.buffer, rows.byteOffset);
  return Array.from({ length: size / 8 }, (_, i) => view.getUint32(8 * i, true));
}

test('an iterator over a map gives its entries', { skip }, () => {
  const object = loaded();
  const counts = object.map('counts');
  for (let i = 0; i < 9; i++)
    counts.update(Uint8Array.of(i, 0, 0, 0), new Uint8Array(8).fill(i + 1));
  const iter = object.program('each_count').iterate({ map: counts });
  const into = new Uint8Array(16 * 10);
  assert.equal(iter.run(into), 16 * 9);
  const rows = Array.from({ length: 9 }, (_, i) => [into[16 * i], into[16 * i + 15]]);
  assert.deepEqual(
    rows.sort((a, b) => (a[0] ?? 0) - (b[0] ?? 0)),
    Array.from({ length: 9 }, (_, i) => [i, i + 1]),
  );
  assert.throws(() => object.program('each_count').attachIter(), { name: 'BpfError' });
});

test('a uprobe counts the calls of a function in a library', { skip }, () => {
  const object = loaded();
  const libc = execFileSync('sh', ['-c', 'ldd /bin/true | grep -o "/[^ ]*libc[^ ]*"'])
    .toString()
    .trim();
  const program = object.program('on_call');
  const link = program.attachUprobe({ path: libc, symbol: 'getppid', pid: process.pid });
  getppid(12);
  link.close();
  assert.equal(total(object, 2), 12);
  const ret = program.attachUprobe({ path: libc, symbol: 'getppid', pid: process.pid, ret: true });
  getppid(5);
  ret.close();
  assert.equal(total(object, 2), 17);
  assert.throws(() => program.attachUprobe({ path: libc, symbol: 'no_such_function' }), {
    name: 'BpfError',
  });
  assert.throws(() => program.attachUprobe({ path: '/nonexistent', offset: 1 }), {
    name: 'BpfError',
  });
});

const STEPS = `
#include <stdlib.h>
__attribute__((noinline)) int step(int n) { __asm__ volatile(""); return n + 1; }
int main(int n, char **words) {
  int done = 0;
  for (int i = 0; n > 1 && i < atoi(words[1]); i++) done = step(done);
  return done != (n > 1 ? atoi(words[1]) : 0);
}
`;

test('a program is placed on an instruction, also when it was opened from a pin', { skip }, (t) => {
  const path = join(tmpdir(), `bpf-test-steps-${process.pid}`);
  t.after(() => rmSync(path, { force: true }));
  execFileSync('cc', ['-O1', '-x', 'c', '-o', path, '-'], { input: STEPS });
  const object = loaded();
  const program = object.program('on_call');
  const pin = join(pinFolder('place'), 'on_call');
  program.pin(pin);
  const pinned = BpfProgram.openPinned(pin);
  using file = ElfFile.open(path);
  const place = { path, offset: file.symbols(['step']).get('step')!.offset };
  const link = pinned.place(place);
  const again = program.place({ ...place, ret: true });
  execFileSync(path, ['7']);
  assert.equal(total(object, 2), 14);
  again.close();
  execFileSync(path, ['3']);
  assert.equal(total(object, 2), 17);
  link.close();
  link.close();
  execFileSync(path, ['3']);
  assert.equal(total(object, 2), 17);
  assert.throws(() => program.place({ path: '/nonexistent', offset: 1 }), { code: 'ENOENT' });
  assert.throws(() => object.program('on_enter').place(place), { name: 'BpfError' });
});

test('a perf event runs the program on its clock', { skip }, () => {
  const object = loaded();
  const program = object.program('on_sample');
  assert.throws(() => program.attachPerfEvent({ cpu: 0 }), { code: 'EARGUMENT' });
  assert.throws(() => program.attachPerfEvent({ cpu: 4095, frequency: 99 }), { name: 'BpfError' });
  // Of this process on any CPU, so that it is this loop that drives the clock.
  const link = program.attachPerfEvent({ cpu: -1, pid: process.pid, frequency: 999 });
  for (let turn = 0; turn < 1_000_000 && total(object, 3) === 0; turn++) getppid(10);
  link.close();
  assert.ok(total(object, 3) > 0);
});

test('a program runs on test data', { skip }, () => {
  const program = loaded().program('on_egress');
  assert.equal(program.run({ data: new Uint8Array(64) }).result, 1);
  assert.throws(() => program.run({ data: new Uint8Array(1) }), { name: 'BpfError' });
});

test('pins outlive the process that made them', { skip }, async () => {
  const folder = pinFolder('program');
  const module = new URL('./object.ts', import.meta.url).href;
  const source = join(tmpdir(), `${basename(folder)}.o`);
  writeFileSync(source, bytes);
  const code = `
    const { BpfObject } = await import('${module}');
    const object = BpfObject.open('${source}', { name: 'probe' });
    object.rodata({ target_tgid: ${process.pid} });
    object.load();
    object.map('totals').pin('${folder}/totals');
    const program = object.program('on_enter');
    program.pin('${folder}/on_enter');
    program.attach().pin('${folder}/link');
    object.program('each_task').attachIter().pin('${folder}/iter');
    console.log(program.id);
    object.close();`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', code]);
  rmSync(source);
  using stats = enableStats();
  using program = BpfProgram.openPinned(`${folder}/on_enter`);
  assert.deepEqual([program.id, program.name], [Number(output), 'on_enter']);
  assert.throws(() => program.attach(), { code: 'ESTATE' });
  const link = BpfLink.openPinned(`${folder}/link`);
  assert.equal(link.programId, program.id);
  const before = program.stats().run_count;
  getppid(5);
  assert.ok(program.stats().run_count >= before + 5);
  using iterLink = BpfLink.openPinned(`${folder}/iter`);
  const iter = new BpfIter(iterLink);
  assert.ok(iter.run(new Uint8Array(800_000)) > 0);
  assert.throws(() => new BpfIter(link), { code: 'EARGUMENT' });
  assert.throws(() => BpfLink.openPinned(`${folder}/on_enter`), { code: 'EARGUMENT' });
  assert.throws(() => BpfProgram.openPinned(`${folder}/totals`), { code: 'EARGUMENT' });
  link.unpin();
  link.close();
  // The kernel detaches in its own time after the last reference: when its readers of that moment are done.
  let ran = true;
  for (let turn = 0; turn < 1000 && ran; turn++) {
    await setTimeout(1);
    const before_calls = program.stats().run_count;
    getppid(5);
    ran = program.stats().run_count > before_calls;
  }
  assert.equal(ran, false, 'the program goes on without its link');
  stats.close();
});

test('a pinned perf event goes on after its handle is closed', { skip }, () => {
  const folder = pinFolder('perf');
  const object = loaded();
  const link = object
    .program('on_sample')
    .attachPerfEvent({ cpu: -1, pid: process.pid, frequency: 999 });
  try {
    link.pin(`${folder}/link`);
  } catch (error) {
    // Before 5.15 a perf event has no link that could be pinned.
    if (error instanceof BpfError && error.code === 'EINVAL') return;
    throw error;
  }
  link.close();
  const before = total(object, 3);
  for (let turn = 0; turn < 1_000_000 && total(object, 3) === before; turn++) getppid(10);
  assert.ok(total(object, 3) > before);
  const again = BpfLink.openPinned(`${folder}/link`);
  again.unpin();
  again.close();
});
