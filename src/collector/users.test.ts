import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parsePasswd, parseUidMap, Users, userDevice } from './users.ts';

/** A procfs with one process, whose root is a folder of it. */
function proc(t: TestContext, passwd: string, uid_map = '0 0 4294967295\n'): string {
  const folder = mkdtempSync(join(tmpdir(), 'users-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, '7/root/etc'), { recursive: true });
  writeFileSync(join(folder, '7/uid_map'), uid_map);
  writeFileSync(join(folder, '7/root/etc/passwd'), passwd);
  return folder;
}

/** Device numbers as the kernel writes them. */
function kernelDevice(dev: number): number {
  const major = (dev >>> 8) & 0xfff;
  return major * 2 ** 20 + ((dev & 0xff) | ((dev >>> 12) & 0xfff00));
}

function placeOf(folder: string, pid = 7) {
  const { dev, ino } = statSync(join(folder, '7/root'));
  return { pid, root_dev: kernelDevice(dev), root_ino: ino };
}

test('a user has the name that its own passwd gives', (t) => {
  const folder = proc(t, 'root:x:0:0::/:\nada:x:5:5::/:\nagain:x:5:5::/:\n');
  const users = new Users(folder);
  assert.equal(users.name(5, placeOf(folder)), 'ada');
  assert.equal(users.name(6, placeOf(folder)), '6');
  writeFileSync(join(folder, '7/root/etc/passwd'), '');
  assert.equal(users.name(0, placeOf(folder)), 'root');
});

test('a process that was learned has its names when it is gone', (t) => {
  const folder = proc(t, 'ada:x:5:5::/:\n');
  const users = new Users(folder);
  users.learn(7);
  users.learn(8);
  assert.equal(users.name(5, placeOf(folder, 99)), 'ada');
});

test('numbers are those of the user namespace', (t) => {
  const folder = proc(t, 'root:x:0:0::/:\nada:x:5:5::/:\n', '0 100000 65536\n');
  const users = new Users(folder);
  assert.equal(users.name(100_005, placeOf(folder)), 'ada');
  assert.equal(users.name(5, placeOf(folder)), '5');
  const outside = parseUidMap(' 0 1000 1\n 1 100000 10\n');
  assert.deepEqual(
    [outside(0), outside(1), outside(10), outside(11)],
    [1000, 100_000, 100_009, undefined],
  );
});

test('what is no passwd file is not believed, and not waited for', (t) => {
  const folder = proc(t, '');
  const passwd = join(folder, '7/root/etc/passwd');
  rmSync(passwd);
  execFileSync('mkfifo', [passwd]);
  assert.equal(new Users(folder).name(5, placeOf(folder)), '5');
  rmSync(passwd);
  execFileSync('ln', ['-s', '/etc/passwd', passwd]);
  assert.equal(new Users(folder).name(0, placeOf(folder)), '0');
  const long = `${'x'.repeat(65)}:x:3:3\n:x:4:4\nodd:x:-5:5\nshort\nok:x:6:6`;
  assert.deepEqual([...parsePasswd(long, (uid) => uid)], [[6, 'ok']]);
});

test('device numbers of the kernel are told as stat tells them', () => {
  const { dev } = statSync('/proc/self');
  assert.equal(userDevice(kernelDevice(dev)), dev);
  assert.equal(userDevice(0xfe00001), 0xfe01);
  assert.equal(userDevice((8 << 20) | 0x12345), (8 << 8) | 0x45 | (0x123 << 20));
});
