// Lines typed through pseudo terminals into several bashes: each appears exactly once, with its process, user and terminal.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Live, settles, startLive } from '../../test/live.ts';
import { BASH, NO_PTY, type Shell, Typist } from '../../test/typist.ts';

/** A root directory with a bash of its own and what it needs, as a container has it. */
function makeRoot(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'sonde-root-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  chmodSync(root, 0o755);
  const libraries = execFileSync('ldd', [BASH], { encoding: 'utf8' }).match(/\/\S+/g) ?? [];
  for (const path of [BASH, ...libraries]) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    copyFileSync(path, join(root, path));
  }
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nguest:x:1234:1234::/:/bin/sh\n');
  return root;
}

function lines(live: Live, shells: readonly Shell[]): readonly (readonly unknown[])[] {
  const pids = shells.map(({ pid }) => pid);
  return live.sink
    .rows({ pid: pids }, 'bash')
    .map(({ pid, user, cmd, tty, truncated, uid }) => [pid, user, cmd, tty, truncated, uid]);
}

/** The files that bashes run now, ours and those of the machine around: of a container, or outside of this root. */
function bashFiles(): ReadonlySet<string> {
  const names = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const files = names.flatMap((pid) => {
    try {
      // It is deleted where it was upgraded under its shell.
      const path = readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '');
      if (basename(path) !== 'bash') return [];
      const { dev, ino } = statSync(`/proc/${pid}/exe`);
      return [`${dev} ${ino}`];
    } catch {
      return []; // a thread of the kernel, or gone
    }
  });
  return new Set(files);
}

/** Until the collector has looked at every process, as after some hundred milliseconds. */
async function placed(live: Live): Promise<void> {
  for (const end = Date.now() + 60_000; !live.collector.uprobes.settled; await delay(50)) {
    assert.ok(Date.now() < end, 'uprobes do not settle');
  }
}

test('each line typed into a bash is a row, once', { skip: NO_PTY }, async (t) => {
  const typist = new Typist(t);
  const before = await typist.open('before');
  const root = makeRoot(t);
  const inside = await typist.open('inside', { root, uid: 1234 });
  const live = await startLive(t, {
    collector: {
      probes: { bash: { enabled: true } },
      bash: { redact: ['(?<=--password[= ])\\S+', 'AKIA[0-9A-Z]{16}'] },
    },
  });
  const after = await typist.open('after');
  const other_user = await typist.open('other user', { uid: 12_345 });
  await placed(live);
  const expected: (readonly unknown[])[] = [];
  const type = async (shell: Shell, user: string, uid: number, line: string, cmd = line) => {
    await typist.type(shell, line);
    expected.push([shell.pid, user, cmd, shell.tty, 0, uid]);
  };
  for (let round = 0; round < 20; round += 1) {
    await type(before, 'root', 0, `echo before ${round}`);
    await type(inside, 'guest', 1234, `echo inside ${round}`);
    await type(after, 'root', 0, `echo after ${round}`);
    await type(other_user, '12345', 12_345, `echo other ${round}`);
  }
  await typist.type(before, '');
  await typist.type(before, '   ');
  await type(before, 'root', 0, 'echo "ünïcode 漢字 😀"');
  await type(after, 'root', 0, 'x --password=secret1 -v', 'x --password=<redacted> -v');
  await type(inside, 'guest', 1234, 'k=AKIAABCDEFGHIJKLMNOP', 'k=<redacted>');
  for (const flags of ['-e', '-es']) {
    const asks = `read ${flags} -p $'a\\x73k> ' x`;
    await typist.type(before, asks, 'ask> ');
    expected.push([before.pid, 'root', asks, before.tty, 0, 0]);
    await typist.type(before, 'an answer, which is no row');
  }
  await typist.type(after, 'for i in 1 2', '> ');
  await typist.type(after, 'do echo $i', '> ');
  await typist.type(after, 'done');
  for (const cmd of ['for i in 1 2', 'do echo $i', 'done']) {
    expected.push([after.pid, 'root', cmd, after.tty, 0, 0]);
  }
  const shells = [before, inside, after, other_user];
  const files = bashFiles();
  for (const [shell, user, uid] of [
    [before, 'root', 0],
    [inside, 'guest', 1234],
    [after, 'root', 0],
    [other_user, '12345', 12_345],
  ] as const) {
    await typist.exit(shell);
    expected.push([shell.pid, user, 'exit', shell.tty, 0, uid]);
  }
  const sort = (rows: readonly (readonly unknown[])[]) =>
    rows.map((row) => JSON.stringify(row)).sort();
  await settles(
    () => live.collector.flush(),
    () => sort(lines(live, shells)),
    sort(expected),
  );
  const [row] = live.sink.rows({ cmd: 'echo before 7', pid: before.pid }, 'bash');
  const message = String(row?.message);
  const rest = `pid:${before.pid} user:root cmd:echo before 7`;
  assert.match(message, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /);
  assert.equal(message.slice(message.indexOf(' ') + 1), rest);
  assert.deepEqual(
    live.collector.uprobes.placed.filter((path) => basename(path) === 'bash').length,
    files.size,
    'each file that a bash of this machine runs, once',
  );
});

/** Two roots over the same lower layer, as containers of one image have them. */
function makeOverlays(t: TestContext, lower: string): readonly string[] {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-overlay-'));
  const roots = ['one', 'two'].map((name) => {
    const [upper, work, root] = ['upper', 'work', 'root'].map((part) => join(folder, name, part));
    for (const path of [upper!, work!, root!]) mkdirSync(path, { recursive: true });
    const layers = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', layers, root!]);
    return root!;
  });
  t.after(() => {
    for (const root of roots) spawnSync('umount', ['-l', root]);
    rmSync(folder, { recursive: true, force: true });
  });
  return roots;
}

/** False in a guest whose own root is such a layer. */
function canOverlay(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-overlay-'));
  const script = `cd ${folder} && mkdir l u w r &&
    mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w r && umount r`;
  const { status } = spawnSync('sh', ['-c', script]);
  rmSync(folder, { recursive: true, force: true });
  return status === 0;
}

test('containers of one image share a file, and each line is one row', {
  skip: NO_PTY || (!canOverlay() && 'needs overlayfs on the folder of temporary files'),
}, async (t) => {
  const typist = new Typist(t);
  const roots = makeOverlays(t, makeRoot(t));
  const shells: Shell[] = [];
  for (const root of roots) shells.push(await typist.open(root, { root }));
  const live = await startLive(t, { collector: { probes: { bash: { enabled: true } } } });
  await placed(live);
  const expected: (readonly unknown[])[] = [];
  for (let round = 0; round < 5; round += 1) {
    for (const shell of shells) {
      const line = `echo ${shell.pid} ${round}`;
      await typist.type(shell, line);
      expected.push([shell.pid, 'root', line, shell.tty, 0, 0]);
    }
  }
  await settles(
    () => live.collector.flush(),
    () => lines(live, shells),
    expected,
  );
});

test('long lines are kept to 4095 bytes', { skip: NO_PTY }, async (t) => {
  const typist = new Typist(t);
  const live = await startLive(t, { collector: { probes: { bash: { enabled: true } } } });
  const shell = await typist.open('shell');
  await placed(live);
  const expected: [string, number][] = [];
  for (const length of [254, 255, 256, 257, 1000, 4094, 4095, 4096, 5000]) {
    const line = `: ${'x'.repeat(length - 2)}`;
    await typist.type(shell, `${line}`, '\nready> ');
    expected.push([line.slice(0, 4095), length > 4095 ? 1 : 0]);
  }
  await settles(
    () => live.collector.flush(),
    () => live.sink.rows({ pid: shell.pid }, 'bash').map(({ cmd, truncated }) => [cmd, truncated]),
    expected,
  );
});

test('programs leave a file some time after its last user', { skip: NO_PTY }, async (t) => {
  const typist = new Typist(t);
  const root = makeRoot(t);
  const inside = await typist.open('inside', { root });
  const live = await startLive(t, { collector: { probes: { bash: { enabled: true } } } });
  const { uprobes } = live.collector;
  await placed(live);
  const count = uprobes.placed.length;
  await typist.exit(inside);
  uprobes.turn(performance.now() + 60_000, 10_000);
  assert.equal(uprobes.placed.length, count);
  uprobes.turn(performance.now() + 3_600_000, 10_000);
  assert.equal(uprobes.placed.length, count - 1);
});

test('commands of a bash that is not interactive are no rows', { skip: NO_PTY }, async (t) => {
  const live = await startLive(t, { collector: { probes: { bash: { enabled: true } } } });
  const child = spawn(BASH, ['-c', 'read -r x; echo $x'], { stdio: ['pipe', 'ignore', 'ignore'] });
  await placed(live);
  child.stdin.end('words\n');
  await once(child, 'exit');
  await live.collector.flush();
  assert.deepEqual(live.sink.rows({ pid: child.pid! }, 'bash'), []);
});
