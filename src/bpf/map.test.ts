import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { BpfError } from './error.ts';
import { possibleCpus } from './features.ts';
import { BPF_EXIST, BPF_NOEXIST, BpfMap, MapBuffer } from './map.ts';
import { BpfObject } from './object.ts';
import { fixture, pinFolder, skipLive } from './testdata/fixture.ts';

const skip = skipLive();
const bytes = await fixture('probe');
const object = BpfObject.open(bytes, { name: 'probe' });
if (!skip) object.load();
after(() => object.close());

function u32(value: number): Uint8Array {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, value, true);
  return key;
}

function u64(value: number): Uint8Array {
  const key = new Uint8Array(8);
  new DataView(key.buffer).setBigUint64(0, BigInt(value), true);
  return key;
}

function clear(map: BpfMap): void {
  new MapBuffer(map).drain();
}

/** Keys with their values, as numbers. */
function entries(map: BpfMap, keys: Uint8Array, values: Uint8Array, count: number) {
  const keyView = new DataView(keys.buffer, keys.byteOffset);
  const valueView = new DataView(values.buffer, values.byteOffset);
  return Array.from({ length: count }, (_, i): [number, number] => [
    keyView.getUint32(i * map.keySize, true),
    valueView.getUint32(i * map.valueStride, true),
  ]).sort((a, b) => a[0] - b[0]);
}

const expected = (count: number) =>
  Array.from({ length: count }, (_, i): [number, number] => [i, 1000 + 3 * i]);

function fill(map: BpfMap, count: number): void {
  for (let i = 0; i < count; i++) map.update(u32(i), u64(1000 + 3 * i));
}

test('one key: update, look up, delete, walk', { skip }, () => {
  const map = object.map('counts');
  const out = new Uint8Array(8);
  assert.equal(map.lookup(u32(1), out), false);
  map.update(u32(1), u64(11), BPF_NOEXIST);
  assert.throws(() => map.update(u32(1), u64(12), BPF_NOEXIST), { code: 'EEXIST' });
  assert.throws(() => map.update(u32(2), u64(12), BPF_EXIST), { code: 'ENOENT' });
  assert.equal(map.lookup(u32(1), out), true);
  assert.deepEqual(out, u64(11));
  const key = new Uint8Array(4);
  assert.equal(map.getNextKey(null, key), true);
  assert.deepEqual(key, u32(1));
  assert.equal(map.getNextKey(key, key), false);
  assert.equal(map.delete(u32(1)), true);
  assert.equal(map.delete(u32(1)), false);
  assert.equal(map.getNextKey(null, key), false);
});

test('a buffer of another size is refused, and nothing is written', { skip }, () => {
  const map = object.map('counts');
  const key = u32(1);
  for (const size of [0, 1, 7, 9, 4096]) {
    const out = new Uint8Array(size).fill(0xee);
    assert.throws(() => map.lookup(key, out), { name: 'BpfError', code: 'ERANGE' });
    assert.throws(() => map.update(key, out), { code: 'ERANGE' });
    assert.ok(out.every((byte) => byte === 0xee));
    assert.throws(() => map.delete(out), { code: 'ERANGE' });
    assert.throws(() => map.lookup(out, new Uint8Array(8)), { code: 'ERANGE' });
    assert.throws(() => map.getNextKey(null, out), { code: 'ERANGE' });
  }
  const totals = object.map('totals');
  assert.throws(() => totals.lookup(u32(0), new Uint8Array(4)), { code: 'ERANGE' });
  const detached = new Uint8Array(8);
  detached.buffer.transfer(0);
  assert.throws(() => map.lookup(key, detached), { code: 'ERANGE' });
});

test('all entries in batches and by walking are the same', { skip }, () => {
  const map = object.map('counts');
  clear(map);
  fill(map, 700);
  for (const way of ['batch', 'walk'] as const) {
    const keys = new Uint8Array(4 * 1024);
    const values = new Uint8Array(8 * 1024);
    const count = map.readAll(keys, values, way);
    assert.deepEqual(entries(map, keys, values, count), expected(700), way);
  }
  const exact = map.readAll(new Uint8Array(4 * 700), new Uint8Array(8 * 700));
  assert.equal(exact, 700);
});

test('buffers that are too small are refused without a write beyond them', { skip }, () => {
  const map = object.map('counts');
  clear(map);
  fill(map, 100);
  for (const room of [0, 1, 50, 99]) {
    for (const way of ['batch', 'walk'] as const) {
      const guard = new Uint8Array(8 * room + 64).fill(0xee);
      const values = guard.subarray(0, 8 * room);
      assert.throws(() => map.readAll(new Uint8Array(4 * room), values, way), { code: 'ENOSPC' });
      assert.ok(guard.subarray(8 * room).every((byte) => byte === 0xee));
    }
  }
  assert.throws(() => map.readAll(new Uint8Array(400), new Uint8Array(7)), { code: 'ENOSPC' });
});

test('a buffer grows to what the map holds', { skip }, () => {
  const map = object.map('counts');
  clear(map);
  fill(map, 1000);
  const buffer = new MapBuffer(map, 1);
  assert.equal(buffer.read(), 1000);
  assert.deepEqual(entries(map, buffer.keys, buffer.values, buffer.count), expected(1000));
  assert.equal(buffer.read(), 1000);
});

test('drain takes each entry out once, in whatever portions', { skip }, () => {
  const map = object.map('counts');
  for (const way of ['batch', 'walk'] as const) {
    clear(map);
    fill(map, 500);
    const seen: [number, number][] = [];
    const keys = new Uint8Array(4 * 64);
    const values = new Uint8Array(8 * 64);
    for (let more = true; more; ) {
      const part = map.drain(keys, values, way);
      seen.push(...entries(map, keys, values, part.count));
      more = part.more;
    }
    assert.deepEqual(
      seen.sort((a, b) => a[0] - b[0]),
      expected(500),
      way,
    );
    assert.equal(map.getNextKey(null, new Uint8Array(4)), false);
  }
  fill(map, 300);
  const buffer = new MapBuffer(map, 1);
  assert.equal(buffer.drain(), 300);
  assert.deepEqual(entries(map, buffer.keys, buffer.values, buffer.count), expected(300));
  assert.equal(buffer.drain(), 0);
});

test('arrays are read whole and cannot be drained', { skip }, () => {
  const map = object.map('slots');
  for (let i = 0; i < 16; i++) map.update(u32(i), u64(1000 + 3 * i));
  const keys = new Uint8Array(4 * 16);
  const values = new Uint8Array(8 * 16);
  assert.equal(map.readAll(keys, values), 16);
  assert.deepEqual(entries(map, keys, values, 16), expected(16));
  assert.throws(() => map.readAll(keys.subarray(4), values), { code: 'ENOSPC' });
  assert.throws(() => map.drain(keys, values), BpfError);
  const out = new Uint8Array(8);
  assert.equal(map.lookup(u32(3), out), true);
  assert.deepEqual(out, u64(1009));
});

test('a per-CPU value has one lane for each possible CPU', { skip }, () => {
  const cpus = possibleCpus();
  for (const name of ['totals', 'shares']) {
    const map = object.map(name);
    assert.equal(map.perCpu, true);
    assert.equal(map.valueSize, 4);
    assert.equal(map.valueStride, 8 * cpus);
    const key = name === 'totals' ? u32(2) : u64(2);
    const value = new Uint8Array(map.valueStride);
    for (let cpu = 0; cpu < cpus; cpu++) value[8 * cpu] = 0x31 + cpu;
    map.update(key, value);
    const out = new Uint8Array(map.valueStride).fill(0xee);
    assert.equal(map.lookup(key, out), true);
    for (let cpu = 0; cpu < cpus; cpu++) assert.equal(out[8 * cpu], 0x31 + cpu);
    const buffer = new MapBuffer(map);
    buffer.read();
    const at = name === 'totals' ? 2 : 0;
    assert.equal(buffer.values[at * map.valueStride], 0x31);
  }
  assert.equal(object.map('counts').perCpu, false);
  assert.equal(object.map('counts').valueStride, 8);
});

test('a ring has no keys to walk', { skip }, () => {
  const events = object.map('events');
  assert.equal(events.typeName, 'ringbuf');
  const read = () => events.readAll(new Uint8Array(8), new Uint8Array(8));
  assert.throws(read, { code: 'EUNSUPPORTED', unsupported: true });
});

test('a map is opened by descriptor and by pin, and knows itself', { skip }, () => {
  const folder = pinFolder('map');
  const map = object.map('counts');
  clear(map);
  map.update(u32(5), u64(55));
  using copy = BpfMap.fromFd(map.fd);
  assert.deepEqual(
    [copy.id, copy.name, copy.typeName, copy.keySize, copy.maxEntries],
    [map.id, 'counts', 'hash', 4, 1024],
  );
  map.pin(`${folder}/counts`);
  using pinned = BpfMap.openPinned(`${folder}/counts`);
  const out = new Uint8Array(8);
  assert.equal(pinned.lookup(u32(5), out), true);
  assert.deepEqual(out, u64(55));
  assert.ok(pinned.memoryBytes > 0);
  map.unpin();
  assert.throws(() => BpfMap.openPinned(`${folder}/counts`), { code: 'ENOENT' });
  assert.throws(() => BpfMap.fromFd(0), BpfError);
  assert.throws(() => BpfMap.fromFd(-1), BpfError);
});
