// Page faults, allocations and kills for want of memory, against what processes and the kernel say of them themselves.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { findMount } from '../../src/bpf/features.ts';
import { type Live, lacks, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { Spend } from '../../test/spend/spend.ts';

const FAULTS = ['faults_minor', 'faults_major'] as const;

function faults({ sink }: Live, pid: number): readonly number[] {
  const sums = sink.total({ pid }, FAULTS, 'memory');
  return FAULTS.map((name) => sums[name]!);
}

/** Of a process of one thread: the 10th and 12th field of /proc/<pid>/stat. */
function truth(pid: number): readonly number[] {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return [Number(fields[7]), Number(fields[9])];
}

test('what processes ask of memory', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { memory: { allocations: true } } });
  const missing = lacks(live, 'memory', 'totals');
  if (missing) return t.skip(missing);
  await t.test('faults of a process', async (t) => {
    const pages = 5000;
    const spend = Spend.start(t, 'faults', pages);
    const { pid, minor } = await spend.spent;
    await settles(
      () => live.collector.flush(),
      () => faults(live, pid),
      truth(pid),
    );
    assert.ok(minor! >= pages && truth(pid)[0]! >= minor!);
    const [row] = live.sink.rows({ pid }, 'memory');
    assert.equal(row?.process_name, 'spend');
    assert.ok(Number(row?.allocated_pages) >= pages, `${row?.allocated_pages} pages`);
    assert.equal(row?.allocation_failures, 0);
    await spend.end();
  });
  await t.test('faults of processes that end at once', async (t) => {
    const before = new Set(live.sink.rows({}, 'memory').map(({ pid }) => pid));
    const spend = Spend.start(t, 'children', 1000);
    const { pid: parent, minor } = await spend.spent;
    const children = () =>
      live.sink
        .rows({ process_name: 'spend' }, 'memory')
        .filter(({ pid }) => !before.has(pid!) && pid !== parent)
        .reduce((sum, row) => sum + Number(row.faults_minor), 0);
    await settles(() => live.collector.flush(), children, minor!);
    await spend.end();
  });
});

/** A memory cgroup with a limit, of version 1 or 2; undefined where there is no memory controller to be had. */
function limitedCgroup(t: TestContext, limit: number): string | undefined {
  const name = `sonde-oom-${process.pid}`;
  const old = join('/sys/fs/cgroup/memory', name);
  const folder = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes')
    ? old
    : join(findMount('cgroup2') ?? '/none', name);
  try {
    mkdirSync(folder);
    t.after(() => rmdirSync(folder));
    const file = folder === old ? 'memory.limit_in_bytes' : 'memory.max';
    writeFileSync(join(folder, file), String(limit));
  } catch {
    return undefined; // no controller, or no right to it
  }
  return folder;
}

test('a process that the kernel kills', { skip: NO_LIVE }, async (t) => {
  const limit = 32 << 20;
  const cgroup = limitedCgroup(t, limit);
  if (cgroup === undefined) return t.skip('needs a memory cgroup that can be limited');
  const live = await startLive(t);
  const spend = Spend.start(t, 'eat', 1, 512);
  writeFileSync(join(cgroup, 'cgroup.procs'), String(spend.pid));
  spend.begin();
  assert.equal(await spend.gone(), 'SIGKILL');
  const rows = () => live.sink.rows({ pid: spend.pid }, 'oom_kill');
  await settles(
    () => live.collector.flush(),
    () => rows().length,
    1,
  );
  const row = rows()[0]!;
  assert.deepEqual([row.kills, row.by_pid, row.by_comm], [1, spend.pid, 'spend']);
  if (oomVariant(live) !== 'tp_btf') return t.diagnostic('this kernel tells only the pid');
  assert.deepEqual([row.process_name, row.comm, row.uid], ['spend', 'spend', 0]);
  assert.ok(Number(row.anon_rss) > limit / 2 && Number(row.anon_rss) <= limit, `${row.anon_rss}`);
  const sizes = [row.total_vm, row.anon_rss, row.file_rss];
  const logged = killedSizes(spend.pid);
  if (logged.length > 0) assert.deepEqual(sizes, logged);
  else t.diagnostic('the log of the kernel cannot be read');
});

function oomVariant({ collector }: Live): string | undefined {
  const source = collector.kernel.plan.sources.find((one) => one.source === 'memory');
  return source?.parts.find(({ part }) => part === 'oom')?.variant;
}

/** What the kernel's log says of it: address space, anonymous and file memory, bytes; empty where it cannot be read. */
function killedSizes(pid: number): readonly number[] {
  const { stdout } = spawnSync('dmesg', { encoding: 'utf8', maxBuffer: 16 << 20 });
  const found = new RegExp(`Killed process ${pid} .*`).exec(stdout ?? '')?.[0] ?? '';
  return [...found.matchAll(/(?:total-vm|anon-rss|file-rss):(\d+)kB/g)].map(
    ([, size]) => Number(size) * 1024,
  );
}
