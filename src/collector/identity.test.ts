// From a pid to a process, out of hand-made records, a made-up /proc and a made-up cgroup tree.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { process_record } from '../../probes/layout.gen.ts';
import { Identity } from './identity.ts';
import { CgroupIndex } from './proc.ts';

const SEED = 20_260_121;
const ID = '9a8b7c6d5e4f30214152637485960718293a4b5c6d7e8f901122334455667788';
const START_NS = 77_000_000_000;
const TICKS = 7700;

interface Made {
  readonly tgid?: number;
  readonly start_ns?: number;
  readonly cgroup_id?: number;
  readonly flags?: number;
  readonly comm?: string;
  /** As the path reads; the record has its parts from the last to the first. */
  readonly path?: string;
}

/** The bytes of a process record, at an odd place, as the kernel side lays them out. */
function record(made: Made): { bytes: Uint8Array; at: number } {
  const at = 16;
  const bytes = Buffer.alloc(at + process_record.SIZE + 8, 0xee);
  bytes.fill(0, at, at + process_record.SIZE);
  const parts = (made.path ?? '').split('/').filter((part) => part !== '');
  bytes.writeUInt32LE(1, at + process_record.head_kind);
  bytes.writeUInt32LE(made.flags ?? 0, at + process_record.head_flags);
  bytes.writeBigUInt64LE(BigInt(made.start_ns ?? START_NS), at + process_record.start_ns);
  bytes.writeBigUInt64LE(BigInt(made.cgroup_id ?? 0), at + process_record.cgroup_id);
  bytes.writeUInt32LE(made.tgid ?? 42, at + process_record.tgid);
  bytes.writeUInt32LE(parts.length, at + process_record.parts);
  bytes.write(made.comm ?? '', at + process_record.comm, 'latin1');
  parts.reverse().forEach((part, i) => {
    bytes.write(part, at + process_record.path + i * process_record.path_stride);
  });
  return { bytes, at };
}

class World {
  readonly proc: string;
  readonly cgroups: string;
  readonly identity: Identity;

  constructor(t: TestContext, processes_max = 100) {
    const folder = mkdtempSync(join(tmpdir(), 'sonde-identity-'));
    t.after(() => rmSync(folder, { recursive: true }));
    this.proc = join(folder, 'proc');
    this.cgroups = join(folder, 'cgroup');
    mkdirSync(this.proc);
    mkdirSync(this.cgroups);
    const cgroups = new CgroupIndex(this.cgroups);
    this.identity = new Identity({ processes_max, cgroups, proc: this.proc });
  }

  announce(made: Made): void {
    const { bytes, at } = record(made);
    this.identity.announce(bytes, at, 1000);
  }

  /** A process that lives, as /proc shows it. */
  live(pid: number, ticks: number, exe: string, cgroup: string): void {
    const folder = join(this.proc, String(pid));
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    writeFileSync(join(folder, 'stat'), `${pid} (comm) S ${'0 '.repeat(18)}${ticks} 0\n`);
    writeFileSync(join(folder, 'cgroup'), `0::${cgroup}\n`);
    symlinkSync(exe, join(folder, 'exe'));
  }

  /** Makes a cgroup; its id. */
  cgroup(path: string): number {
    mkdirSync(join(this.cgroups, path), { recursive: true });
    return statSync(join(this.cgroups, path)).ino;
  }
}

test('an announced process that is gone has name, path and container', (t) => {
  const world = new World(t);
  const cgroup_id = world.cgroup(`docker/${ID}`);
  world.announce({ path: '/usr/local/bin/server', comm: 'MainThread', cgroup_id });
  assert.deepEqual(world.identity.lookup(42, START_NS, cgroup_id), {
    process_name: 'server',
    process_executable_path: '/usr/local/bin/server',
    cgroup_path: `/docker/${ID}`,
    container_id: ID,
  });
});

test('the same owner is the same object until something new is known', (t) => {
  const world = new World(t);
  const one = world.cgroup('one');
  const other = world.cgroup('other');
  world.announce({ path: '/bin/a', cgroup_id: one });
  const { identity } = world;
  const first = identity.lookup(42, START_NS, one);
  assert.equal(identity.lookup(42, START_NS, one), first);
  assert.equal(identity.lookup(42, START_NS, 0), first, 'no cgroup is no news');
  const moved = identity.lookup(42, START_NS, other);
  assert.deepEqual(moved, { ...first, cgroup_path: '/other' });
  world.announce({ path: '/bin/b', cgroup_id: other });
  assert.equal(identity.lookup(42, START_NS, other).process_name, 'b');
});

test('a pid that is used again is another process', (t) => {
  const world = new World(t);
  const cgroup_id = world.cgroup('old');
  world.announce({ path: '/bin/old', cgroup_id });
  world.live(42, TICKS + 500, '/bin/new', `/docker/${ID}`);
  const old = world.identity.lookup(42, START_NS, cgroup_id);
  assert.deepEqual([old.process_name, old.cgroup_path, old.container_id], ['old', '/old', '']);
  const fresh = world.identity.lookup(42, START_NS + 5_000_000_000, 0);
  assert.deepEqual([fresh.process_name, fresh.container_id], ['new', ID]);
});

test('the pid of an announced process that has gone tells nothing of its cgroup', (t) => {
  const world = new World(t);
  const cgroup_id = world.cgroup('old');
  world.live(42, TICKS + 500, '/bin/new', `/docker/${ID}`);
  world.announce({ path: '/bin/old', cgroup_id });
  const { cgroup_path, container_id } = world.identity.lookup(42, START_NS, cgroup_id);
  assert.deepEqual([cgroup_path, container_id], ['/old', '']);
});

test('a process that was not announced is read from /proc, or unknown and counted', (t) => {
  const world = new World(t);
  world.live(7, TICKS, '/opt/older', '/system.slice/older.service');
  assert.deepEqual(world.identity.lookup(7, START_NS, 0), {
    process_name: 'older',
    process_executable_path: '/opt/older',
    cgroup_path: '/system.slice/older.service',
    container_id: '',
  });
  assert.equal(world.identity.counts.unknown, 0);
  const nobody = world.identity.lookup(8, START_NS, 0);
  assert.deepEqual([nobody.process_name, nobody.process_executable_path], ['', '']);
  assert.equal(world.identity.counts.unknown, 1);
  assert.equal(world.identity.lookup(0, 0, 0).process_name, '');
  assert.equal(world.identity.counts.unknown, 1, 'pid 0 is no process');
});

test('a path that did not fit is read from /proc while the process lives', (t) => {
  const world = new World(t);
  const long = `/nix/store/${'x'.repeat(60)}/bin/long`;
  world.live(42, TICKS, long, '/');
  world.announce({ flags: 1, path: `/nix/store/${'x'.repeat(39)}/bin/long` });
  const { process_executable_path } = world.identity.lookup(42, START_NS, 0);
  assert.equal(process_executable_path, long);
});

test('what has no path has the name of its thread', (t) => {
  const world = new World(t);
  world.announce({ path: '', comm: 'kworker/u8:1' });
  const { process_name, process_executable_path } = world.identity.lookup(42, START_NS, 0);
  assert.deepEqual([process_name, process_executable_path], ['kworker/u8:1', '']);
});

test('beyond the limit the process that was named first is forgotten', (t) => {
  const world = new World(t, 3);
  for (const tgid of [1, 2, 3, 4]) world.announce({ tgid, path: `/bin/p${tgid}` });
  assert.equal(world.identity.counts.evicted, 1);
  assert.equal(world.identity.lookup(4, START_NS, 0).process_name, 'p4');
  assert.equal(world.identity.lookup(2, START_NS, 0).process_name, 'p2');
  assert.equal(world.identity.lookup(1, START_NS, 0).process_name, '');
});

test('who is gone and was not named for a minute is forgotten', (t) => {
  const world = new World(t);
  world.live(42, TICKS, '/bin/stays', '/');
  world.announce({ tgid: 42, path: '/bin/stays' });
  world.announce({ tgid: 43, path: '/bin/goes' });
  world.identity.tick(60_999);
  assert.equal(world.identity.counts.known, 2);
  world.identity.tick(61_000);
  assert.equal(world.identity.counts.known, 1);
  assert.equal(world.identity.lookup(42, START_NS, 0).process_name, 'stays');
});

test(`any bytes announce somebody, seed ${SEED}`, (t) => {
  const world = new World(t);
  const size = process_record.SIZE;
  fc.assert(
    fc.property(fc.uint8Array({ minLength: size, maxLength: size }), (bytes) => {
      const before = world.identity.counts.announced;
      world.identity.announce(bytes, 0, 1000);
      assert.equal(world.identity.counts.announced, before + 1);
    }),
    { seed: SEED, numRuns: 500 },
  );
});
