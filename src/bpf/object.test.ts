import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BpfError } from './error.ts';
import { BpfObject } from './object.ts';
import { fixture, skipLive } from './testdata/fixture.ts';

const skip = skipLive();
const probe = await fixture('probe');
const bad = await fixture('bad');
const long = await fixture('long');

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof BpfError, `no BpfError: ${error}`);
    return error.code;
  }
  return 'none';
}

test('an object tells its maps and programs before anything is loaded', () => {
  using object = BpfObject.open(probe, { name: 'probe' });
  assert.deepEqual([...object.programs.keys()].sort(), [
    ...['each_count', 'each_task', 'on_call', 'on_egress'],
    ...['on_enter', 'on_enter_large', 'on_sample'],
  ]);
  assert.ok(['counts', 'events', '.rodata', '.bss'].every((name) => object.maps.has(name)));
  const counts = object.map('counts');
  assert.deepEqual(
    [counts.typeName, counts.keySize, counts.valueSize, counts.maxEntries, counts.live],
    ['hash', 4, 8, 1024, false],
  );
  assert.equal(object.program('on_egress').section, 'cgroup_skb/egress');
  assert.equal(
    codeOf(() => object.map('nope')),
    'ENOENT',
  );
  assert.equal(
    codeOf(() => object.program('nope')),
    'ENOENT',
  );
});

test('bytes that are no object are refused with the words of libbpf', () => {
  assert.notEqual(
    codeOf(() => BpfObject.open(new Uint8Array(0))),
    'none',
  );
  assert.notEqual(
    codeOf(() => BpfObject.open(new Uint8Array(4096))),
    'none',
  );
  try {
    BpfObject.open(
      Buffer.from('this is not an object at all, but long enough to look at'.repeat(4)),
    );
    assert.fail('opened');
  } catch (error) {
    assert.ok(error instanceof BpfError && /libbpf/.test(error.log), String(error));
  }
});

test('settings reach the kernel, variables are checked against their types', { skip }, () => {
  using object = BpfObject.open(probe, { name: 'probe' });
  object.rodata({ target_tgid: 0x12345678, signed_option: -5n, enabled: true });
  object.data({ hits: 41 });
  assert.equal(
    codeOf(() => object.rodata({ target_tgid: 2 ** 32 })),
    'ERANGE',
  );
  assert.equal(
    codeOf(() => object.rodata({ target_tgid: -1 })),
    'ERANGE',
  );
  assert.equal(
    codeOf(() => object.rodata({ enabled: 2 })),
    'ERANGE',
  );
  assert.equal(
    codeOf(() => object.rodata({ target_tgid: 1.5 })),
    'ERANGE',
  );
  assert.equal(
    codeOf(() => object.rodata({ nope: 1 })),
    'ENOENT',
  );
  assert.equal(
    codeOf(() => object.rodata({ hits: 1 })),
    'EARGUMENT',
  );
  assert.equal(
    codeOf(() => object.data({ holed_one: 1 })),
    'ERANGE',
  );
  object.map('counts').maxEntries = 77;
  object.program('each_task').autoload = false;
  object.load();
  assert.equal(object.map('counts').maxEntries, 77);
  assert.equal(object.program('each_task').loaded, false);
  assert.equal(object.program('each_count').loaded, true);
  assert.equal(
    codeOf(() => object.program('each_task').attachIter()),
    'ESTATE',
  );
  const view = sectionView(object, '.rodata');
  assert.equal(view.getUint32(object.variable('target_tgid').offset, true), 0x12345678);
  assert.equal(view.getBigInt64(object.variable('signed_option').offset, true), -5n);
  assert.equal(view.getUint8(object.variable('enabled').offset), 1);
  const bss = sectionView(object, '.bss');
  assert.equal(bss.getBigUint64(object.variable('hits').offset, true), 41n);
});

function sectionView(object: BpfObject, section: string): DataView {
  const map = object.map(section);
  const value = new Uint8Array(map.valueStride);
  assert.equal(map.lookup(new Uint8Array(4), value), true);
  return new DataView(value.buffer);
}

test('settings come before load, and a load comes once', { skip }, () => {
  using object = BpfObject.open(probe, { name: 'probe' });
  const counts = object.map('counts');
  assert.equal(
    codeOf(() => counts.fd),
    'ESTATE',
  );
  assert.equal(
    codeOf(() => counts.lookup(new Uint8Array(4), new Uint8Array(8))),
    'ESTATE',
  );
  assert.equal(
    codeOf(() => object.program('on_enter').attach()),
    'ESTATE',
  );
  object.load();
  assert.equal(
    codeOf(() => object.load()),
    'ESTATE',
  );
  assert.equal(
    codeOf(() => object.rodata({ enabled: true })),
    'ESTATE',
  );
  assert.equal(
    codeOf(() => counts.setPinPath('/sys/fs/bpf/x')),
    'ESTATE',
  );
  const set = () => {
    counts.maxEntries = 5;
  };
  assert.equal(codeOf(set), 'ESTATE');
});

test("a refused program is named, with the verifier's last words", { skip }, () => {
  using object = BpfObject.open(bad);
  try {
    object.load();
    assert.fail('loaded');
  } catch (error) {
    assert.ok(error instanceof BpfError);
    assert.equal(error.program, 'refused');
    assert.equal(error.code, 'EACCES');
    assert.match(error.log, /invalid mem access/);
    assert.match(error.message, /invalid mem access/);
    assert.ok(error.hidden_lines > 0);
    assert.doesNotMatch(error.log, /^processed/m);
  }
  using again = BpfObject.open(bad);
  again.program('refused').autoload = false;
  again.load();
  assert.equal(again.program('accepted').loaded, true);
});

test('signals wait while the verifier works: a CPU profile is made of a process that loads', {
  skip,
}, () => {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-bpf-'));
  const file = join(folder, 'long.bpf.o');
  writeFileSync(file, long);
  const script = `import { BpfObject } from ${JSON.stringify(import.meta.resolve('./object.ts'))};
    BpfObject.open(${JSON.stringify(file)}).load();`;
  const profile = ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', folder];
  const words = [...profile, '--input-type=module', '--eval', script];
  const { status, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  const made = readdirSync(folder).filter((name) => name.endsWith('.cpuprofile'));
  rmSync(folder, { recursive: true });
  assert.deepEqual([status, stderr, made.length], [0, '', 1]);
});

test('a map of another object stands in for a declared one', { skip }, () => {
  using first = BpfObject.open(probe, { name: 'first' });
  first.load();
  using second = BpfObject.open(probe, { name: 'second' });
  second.map('counts').reuse(first.map('counts').fd);
  second.load();
  assert.equal(second.map('counts').id, first.map('counts').id);
  assert.notEqual(second.map('slots').id, first.map('slots').id);
  using third = BpfObject.open(probe);
  assert.notEqual(
    codeOf(() => third.map('counts').reuse(99999)),
    'none',
  );
});

test('a map that is not created is not live, whatever the version of libbpf', { skip }, () => {
  using object = BpfObject.open(probe, { name: 'probe' });
  for (const program of object.programs.values()) program.autoload = false;
  object.map('slots').autocreate = false;
  object.load();
  assert.deepEqual([object.map('slots').live, object.map('counts').live], [false, true]);
});

test('use after close is an error, a second close is none', { skip }, () => {
  const object = BpfObject.open(probe, { name: 'probe' });
  object.load();
  const counts = object.map('counts');
  const program = object.program('each_task');
  const link = program.attachIter();
  object.close();
  object.close();
  assert.equal(
    codeOf(() => counts.lookup(new Uint8Array(4), new Uint8Array(8))),
    'ECLOSED',
  );
  assert.equal(
    codeOf(() => counts.fd),
    'ECLOSED',
  );
  assert.equal(
    codeOf(() => program.stats()),
    'ECLOSED',
  );
  assert.equal(
    codeOf(() => program.attachIter()),
    'ECLOSED',
  );
  assert.equal(
    codeOf(() => link.info()),
    'ECLOSED',
  );
  assert.equal(
    codeOf(() => link.pin('/sys/fs/bpf/x')),
    'ECLOSED',
  );
  assert.equal(
    codeOf(() => object.load()),
    'ECLOSED',
  );
});
