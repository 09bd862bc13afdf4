// Hostile use of the addon itself, below the checks of TypeScript.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { buildNative } from './build-native.ts';
import { BpfError } from './error.ts';
import { native } from './native.ts';
import { fixture, skipLive } from './testdata/fixture.ts';

await buildNative();
const skip = skipLive();

/** These take nothing, and work; any function is good for the last. */
const EXEMPT = [
  ...['libbpfVersion', 'possibleCpus', 'raiseMemlock', 'memoryTrim', 'statsEnable'],
  ...['setErrorFactory', 'programsWait'],
];

test('every function refuses arguments that are none of its own', () => {
  const addon = native();
  const waker = addon.wakerOpen(-1);
  const closed = addon.wakerOpen(-1);
  addon.close(closed);
  const strange = [undefined, null, {}, [], '', 'x', -1, 1.5, Number.NaN, 2 ** 60, true, Symbol()];
  const odd = [new Uint8Array(0), new Float64Array(4), new ArrayBuffer(8), () => 1, 7n];
  const handles = [waker, closed, Object.create(waker), new Proxy(waker, {})];
  const functions = Object.entries(addon).filter(([name]) => !EXEMPT.includes(name));
  assert.ok(functions.length > 40);
  for (const [name, call] of functions) {
    for (const value of [...strange, ...odd, ...handles]) {
      for (const count of [0, 1, 9, 12]) {
        const words = Array.from({ length: count }, () => value);
        if (name === 'close' && value === closed && count > 0) continue;
        outcome(() => call(...words), `${name}(${String(typeof value)} × ${count})`);
      }
    }
  }
  // Not a function is the point.
  assert.throws(() => addon.setErrorFactory({} as never), { code: 'EARGUMENT' });
  assert.throws(() => addon.wakerWake(closed), { code: 'ECLOSED' });
  addon.close(waker);
});

/** Whatever it is, it is an answer or an error with a code: this process lives. */
function outcome(act: () => unknown, what: string): void {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof BpfError, `${what}: ${error}`);
  }
}

test('a handle of one kind does not pass for another', () => {
  const addon = native();
  const waker: unknown = addon.wakerOpen(-1);
  const calls: ((handle: never) => unknown)[] = [
    (handle) => addon.mapInfo(handle),
    (handle) => addon.programInfo(handle),
    (handle) => addon.linkInfo(handle),
    (handle) => addon.objectLoad(handle),
    (handle) => addon.ringPosition(handle, true),
    (handle) => addon.pin(handle, '/sys/fs/bpf/x'),
  ];
  // The wrong kind is the point.
  for (const call of calls) assert.throws(() => call(waker as never), { code: 'EARGUMENT' });
});

test('a first value is written within its section only', async () => {
  const addon = native();
  const object = addon.objectOpen(await fixture('probe'), null, null, null);
  const maps = addon.objectMaps(object);
  const rodata = maps.findIndex((map) => map.name.endsWith('.rodata'));
  const size = maps[rodata]?.valueSize ?? 0;
  addon.objectSetInitial(object, rodata, size - 1, new Uint8Array(1));
  const beyond: [number, number][] = [
    [size, 1],
    [size - 1, 2],
    [0, size + 1],
    [2 ** 32 - 1, 1],
    [2 ** 32 - 1, 0],
  ];
  for (const [offset, length] of beyond) {
    const write = () => addon.objectSetInitial(object, rodata, offset, new Uint8Array(length));
    assert.throws(write, { code: 'ERANGE' }, `${offset}, ${length}`);
  }
  const counts = maps.findIndex((map) => map.name === 'counts');
  const wrong = () => addon.objectSetInitial(object, counts, 0, new Uint8Array(1));
  assert.throws(wrong, { code: 'EARGUMENT' });
  assert.throws(() => addon.objectMap(object, maps.length), { code: 'EARGUMENT' });
  assert.throws(() => addon.objectProgram(object, 1000), { code: 'EARGUMENT' });
  addon.close(object);
});

function child(code: string): string {
  const words = ['--expose-gc', '--input-type=module', '-e', code];
  return execFileSync(process.execPath, words, { encoding: 'utf8' }).trim();
}

const module = (name: string) => new URL(name, import.meta.url).href;

test('what is dropped without a close is closed by the collector', { skip }, () => {
  const code = `
    const { readdirSync } = await import('node:fs');
    const { fixture } = await import('${module('./testdata/fixture.ts')}');
    const { BpfObject } = await import('${module('./object.ts')}');
    const { Ring } = await import('${module('./ring.ts')}');
    const bytes = await fixture('probe');
    const settle = async () => {
      for (let i = 0; i < 10; i++) { gc(); await new Promise(setImmediate); }
      return readdirSync('/proc/self/fd').length;
    };
    const before = await settle();
    const use = () => {
      const object = BpfObject.open(bytes);
      object.load();
      object.program('on_enter').attach();
      return Ring.open(object.map('events').fd, 65536);
    };
    for (let i = 0; i < 5; i++) use();
    const during = readdirSync('/proc/self/fd').length;
    console.log(during > before, (await settle()) - before);`;
  assert.equal(child(code), 'true 0');
});

test('an attachment stays while its object is referenced', { skip }, () => {
  const code = `
    const { fixture, getppid } = await import('${module('./testdata/fixture.ts')}');
    const { BpfObject } = await import('${module('./object.ts')}');
    const { enableStats } = await import('${module('./stats.ts')}');
    const object = BpfObject.open(await fixture('probe'));
    object.load();
    object.program('on_enter').attach();
    for (let i = 0; i < 10; i++) { gc(); await new Promise(setImmediate); }
    using stats = enableStats();
    getppid(50);
    console.log(object.program('on_enter').stats().run_count >= 50);
    object.close();`;
  assert.equal(child(code), 'true');
});
