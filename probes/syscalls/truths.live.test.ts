// System calls of a real program beside what those count who can stop it or follow it: strace -c and perf stat.

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';

const COPIES = 20_000;
const WORK = ['if=/dev/zero', 'of=/dev/null', 'bs=1', `count=${COPIES}`];

/** What the children of strace and perf do on their own before they become dd; they are one process, but not yet watched. */
const BEFORE_EXEC = ['close', 'read', 'set_robust_list'];

type Counts = Record<string, { readonly calls: number; readonly errors: number }>;

function missing(program: string, debian_package: string): string | undefined {
  const { status } = spawnSync(program, ['--version'], { stdio: 'ignore' });
  return status === 0 ? undefined : `needs the Debian package ${debian_package}`;
}

/** `dd` by a name that no other process of the machine has. */
function ownDd(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-dd-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, `dd${folder.slice(-6)}`);
  copyFileSync(execFileSync('sh', ['-c', 'command -v dd'], { encoding: 'utf8' }).trim(), path);
  chmodSync(path, 0o700);
  return path;
}

/** What sonde counted for the program, of the calls that the truth names. */
function counted({ sink }: Live, process_name: string, truth: Counts): Counts {
  const sums: Record<string, { calls: number; errors: number }> = {};
  for (const row of sink.rows({ process_name, syscall: Object.keys(truth) }, 'syscall')) {
    const name = String(row.syscall);
    const sum = sums[name] ?? { calls: 0, errors: 0 };
    sums[name] = {
      calls: sum.calls + Number(row.calls),
      errors: sum.errors + Number(row.errors),
    };
  }
  return sums;
}

/** `strace -c -U calls,errors,name`: numbers, and the name as the last word. */
function straceCounts(text: string): Counts {
  const rows = text.matchAll(/^ *(\d+)(?: +(\d+))? +([a-z]\w+)$/gm);
  const counts = [...rows].map(
    ([, calls, errors, name]) =>
      [name!, { calls: Number(calls), errors: Number(errors ?? 0) }] as const,
  );
  return Object.fromEntries(
    counts.filter(([name]) => name !== 'total' && !BEFORE_EXEC.includes(name)),
  );
}

test('every call of dd, as strace -c counts them', { skip: NO_LIVE }, async (t) => {
  const lacking = missing('strace', 'strace');
  if (lacking !== undefined) return t.skip(lacking);
  const live = await startLive(t, { collector: { probes: { syscalls: { enabled: true } } } });
  const dd = ownDd(t);
  const summary = `${dd}.strace`;
  const words = ['-f', '-c', '-U', 'calls,errors,name', '-o', summary, dd, ...WORK];
  execFileSync('strace', words, { stdio: 'ignore' });
  const truth = straceCounts(readFileSync(summary, 'utf8'));
  if ((truth.write?.calls ?? 0) < COPIES) throw new Error(`strace saw ${JSON.stringify(truth)}`);
  const sums = () => counted(live, basename(dd), truth);
  await settles(() => live.collector.flush(), sums, truth);
});

test('calls of dd, as perf stat counts them', { skip: NO_LIVE }, async (t) => {
  const lacking = missing('perf', 'linux-perf');
  if (lacking !== undefined) return t.skip(lacking);
  const live = await startLive(t, { collector: { probes: { syscalls: { enabled: true } } } });
  const dd = ownDd(t);
  const output = `${dd}.perf`;
  const names = ['write', 'openat', 'mmap', 'newfstatat'];
  const events = names.map((name) => `syscalls:sys_enter_${name}`).join();
  execFileSync('perf', ['stat', '-x,', '-o', output, '-e', events, '--', dd, ...WORK], {
    stdio: 'ignore',
  });
  const rows = readFileSync(output, 'utf8').matchAll(/^(\d+),,syscalls:sys_enter_(\w+),/gm);
  const truth = Object.fromEntries([...rows].map(([, calls, name]) => [name!, Number(calls)]));
  if ((truth.write ?? 0) < COPIES) throw new Error(`perf saw ${JSON.stringify(truth)}`);
  const calls = () => {
    const sums = counted(
      live,
      basename(dd),
      Object.fromEntries(names.map((name) => [name, { calls: 0, errors: 0 }])),
    );
    return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum.calls]));
  };
  await settles(() => live.collector.flush(), calls, truth);
});
