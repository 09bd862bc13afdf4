import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { BpfMap } from './map.ts';
import { BpfObject } from './object.ts';
import { RECORD_HEADER_BYTES, Ring, type RingRead, Waker } from './ring.ts';
import { fixture, getppid, pinFolder, skipLive } from './testdata/fixture.ts';

const skip = skipLive();
const bytes = await fixture('probe');
const EVENT_BYTES = 96;
const RECORD_BYTES = RECORD_HEADER_BYTES + EVENT_BYTES;
const RING_BYTES = 64 * 1024;
/** Many times what the addon maps at once. */
const LONG_RING_BYTES = 2 * 1024 * 1024;

/** A loaded object whose ring gets one event for each getppid of this process; every fifth is discarded. */
function attached(size = RING_BYTES): BpfObject {
  const object = BpfObject.open(bytes, { name: 'probe' });
  object.rodata({ target_tgid: process.pid });
  object.map('events').maxEntries = size;
  object.load();
  object.program('on_enter').attach();
  after(() => object.close());
  return object;
}

function stamps(into: Uint8Array, read: RingRead): number[] {
  const view = new DataView(into.buffer, into.byteOffset);
  const found: number[] = [];
  for (let at = 0; at < read.bytes; at += RECORD_BYTES) {
    assert.equal(view.getUint32(at, true), EVENT_BYTES);
    assert.equal(view.getUint32(at + 4, true), 0);
    found.push(view.getUint32(at + RECORD_HEADER_BYTES, true));
  }
  assert.equal(found.length, read.records);
  return found;
}

/** The stamps that are not discarded, of `count` calls from `first` on. */
function expected(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i).filter((stamp) => stamp % 5 !== 4);
}

test('records stay until they are committed, a second opening goes on', { skip }, () => {
  const object = attached();
  const { fd } = object.map('events');
  const into = new Uint8Array(RING_BYTES);
  using ring = Ring.open(fd, RING_BYTES);
  const start = ring.consumerPosition;
  assert.equal(start, 0);
  getppid(10);
  const first = ring.read(start, into);
  assert.deepEqual(stamps(into, first), expected(0, 10));
  assert.deepEqual([first.discarded, first.cursor], [2, 10 * RECORD_BYTES]);
  assert.deepEqual([ring.consumerPosition, ring.producerPosition], [0, 10 * RECORD_BYTES]);

  using second = Ring.open(fd, RING_BYTES);
  const again = second.read(second.consumerPosition, into);
  assert.deepEqual(stamps(into, again), expected(0, 10));

  ring.commit(first.cursor);
  assert.equal(ring.consumerPosition, first.cursor);
  using third = Ring.open(fd, RING_BYTES);
  const rest = third.read(third.consumerPosition, into);
  assert.deepEqual([rest.records, rest.cursor], [0, first.cursor]);
  getppid(3);
  const next = third.read(rest.cursor, into);
  assert.deepEqual(stamps(into, next), expected(10, 3));
});

test('a read goes on where the buffer was full', { skip }, () => {
  const object = attached();
  using ring = Ring.open(object.map('events').fd, RING_BYTES);
  getppid(100);
  const into = new Uint8Array(7 * RECORD_BYTES + 50);
  const found: number[] = [];
  let cursor = ring.consumerPosition;
  for (let turn = 0; turn < 100; turn++) {
    const read = ring.read(cursor, into);
    if (read.records === 0) break;
    assert.ok(read.records <= 7);
    found.push(...stamps(into, read));
    cursor = read.cursor;
  }
  assert.deepEqual(found, expected(0, 100));
  ring.commit(cursor);
  assert.equal(ring.consumerPosition, ring.producerPosition);
  getppid(1);
  assert.throws(() => ring.read(cursor, into.subarray(0, RECORD_BYTES - 1)), { code: 'ENOSPC' });
  assert.equal(ring.read(cursor, into.subarray(0, RECORD_BYTES)).records, 1);
});

test('a full ring keeps what it has, and takes more after a commit', { skip }, () => {
  const object = attached();
  using ring = Ring.open(object.map('events').fd, RING_BYTES);
  const into = new Uint8Array(RING_BYTES);
  const fits = Math.floor(RING_BYTES / RECORD_BYTES);
  let cursor = 0;
  // Twice around, so that records lie over the end of the ring.
  for (let turn = 0; turn < 4; turn++) {
    getppid(fits + 50);
    const read = ring.read(cursor, into);
    const found = stamps(into, read);
    assert.equal(read.records + read.discarded, Math.floor((RING_BYTES - 1) / RECORD_BYTES));
    for (let i = 1; i < found.length; i++) assert.ok((found[i] ?? 0) > (found[i - 1] ?? 0));
    ring.commit(read.cursor);
    cursor = read.cursor;
  }
  assert.ok(cursor > 3 * (RING_BYTES - RECORD_BYTES));
});

test('a commit goes neither back nor beyond what was read', { skip }, () => {
  const object = attached();
  using ring = Ring.open(object.map('events').fd, RING_BYTES);
  const into = new Uint8Array(RING_BYTES);
  getppid(10);
  assert.throws(() => ring.commit(RECORD_BYTES), { code: 'ECURSOR' });
  const read = ring.read(0, into.subarray(0, 4 * RECORD_BYTES));
  assert.throws(() => ring.commit(read.cursor + RECORD_BYTES), { code: 'ECURSOR' });
  assert.throws(() => ring.commit(RECORD_BYTES + 8), { code: 'ECURSOR' });
  ring.commit(2 * RECORD_BYTES);
  ring.commit(2 * RECORD_BYTES);
  assert.throws(() => ring.commit(RECORD_BYTES), { code: 'ECURSOR' });
  assert.throws(() => ring.commit(-8), { code: 'EARGUMENT' });
  assert.throws(() => ring.commit(0.5), { code: 'EARGUMENT' });
  assert.equal(ring.consumerPosition, 2 * RECORD_BYTES);
  ring.commit(read.cursor);
});

test('a read takes only a cursor that begins a record', { skip }, () => {
  const object = attached();
  using ring = Ring.open(object.map('events').fd, RING_BYTES);
  const into = new Uint8Array(RING_BYTES);
  getppid(10);
  for (const cursor of [8, RECORD_BYTES + 8, 11 * RECORD_BYTES, 2 ** 40]) {
    assert.throws(() => ring.read(cursor, into), { code: 'ECURSOR' }, String(cursor));
  }
  // The cursor that a killed predecessor wrote down: saved, not yet committed.
  const read = ring.read(6 * RECORD_BYTES, into);
  assert.deepEqual(stamps(into, read), expected(6, 4));
  ring.commit(6 * RECORD_BYTES);
  assert.throws(() => ring.read(5 * RECORD_BYTES, into), { code: 'ECURSOR' });
  ring.commit(read.cursor);
});

test('a ring is opened by its true size only, and by a ring only', { skip }, () => {
  const object = attached();
  const { fd } = object.map('events');
  assert.throws(() => Ring.open(fd, 2 * RING_BYTES), { code: 'ERANGE' });
  assert.throws(() => Ring.open(fd, 4096), { code: 'ERANGE' });
  assert.throws(() => Ring.open(object.map('counts').fd, RING_BYTES), { code: 'EINVAL' });
  assert.throws(() => Ring.open(0, RING_BYTES), { code: 'EINVAL' });
  assert.throws(() => Ring.open(-1, RING_BYTES), { name: 'BpfError' });
  const ring = Ring.open(fd, RING_BYTES);
  ring.close();
  ring.close();
  assert.throws(() => ring.read(0, new Uint8Array(8)), { code: 'ECLOSED' });
  assert.throws(() => ring.consumerPosition, { code: 'ECLOSED' });
  assert.throws(() => ring.wait(0), { code: 'ECLOSED' });
  assert.throws(() => ring.commit(0), { code: 'ECLOSED' });
});

/** Asserts that the records are the first one byte by byte, but for their stamps. */
function assertAlike(into: Uint8Array, read: RingRead): void {
  const first = Buffer.from(into.subarray(0, RECORD_BYTES));
  for (let at = 0; at < read.bytes; at += RECORD_BYTES) {
    first.set(into.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + 8), 8);
    assert.ok(first.equals(into.subarray(at, at + RECORD_BYTES)), `record at ${at}`);
  }
}

test('records over the borders of what is mapped at once are whole', { skip }, () => {
  const object = attached(LONG_RING_BYTES);
  const { fd } = object.map('events');
  using ring = Ring.open(fd, LONG_RING_BYTES);
  const into = new Uint8Array(LONG_RING_BYTES);
  const calls = 19_000;
  let cursor = 0;
  // Three times around the ring, from another offset each time.
  for (let turn = 0; turn < 3; turn++) {
    getppid(calls);
    const read = ring.read(cursor, into);
    assert.deepEqual(stamps(into, read), expected(turn * calls, calls));
    assertAlike(into, read);
    // A successor starts behind several windows of headers, and must not start between them.
    using successor = Ring.open(fd, LONG_RING_BYTES);
    const late = cursor + 18_000 * RECORD_BYTES;
    assert.throws(() => successor.read(late + 8, into), { code: 'ECURSOR' });
    const rest = successor.read(late, into);
    assert.deepEqual(stamps(into, rest), expected(turn * calls + 18_000, 1000));
    assert.throws(() => ring.commit(late + 8), { code: 'ECURSOR' });
    ring.commit(late);
    assert.equal(ring.consumerPosition, late);
    ring.commit(read.cursor);
    cursor = read.cursor;
  }
});

test('a record larger than what is mapped at once is whole', { skip }, () => {
  const object = attached(LONG_RING_BYTES);
  object.program('on_enter_large').attach();
  const map = object.map('pattern');
  const words = new Uint32Array(map.valueSize / 4).map((_, i) => Math.imul(i, 2_654_435_761));
  const pattern = Buffer.from(words.buffer);
  map.update(new Uint8Array(4), pattern);
  using ring = Ring.open(object.map('events').fd, LONG_RING_BYTES);
  const into = Buffer.alloc(LONG_RING_BYTES);
  let cursor = 0;
  for (let turn = 0; turn < 8; turn++) {
    getppid(5);
    const read = ring.read(cursor, into);
    assert.deepEqual([read.records, read.discarded], [9, 1]);
    let large = 0;
    for (let at = 0; at < read.bytes; ) {
      const length = into.readUInt32LE(at);
      const record = into.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
      if (length !== EVENT_BYTES) assert.ok(record.equals(pattern), `turn ${turn}, at ${at}`);
      if (length !== EVENT_BYTES) large++;
      at += RECORD_HEADER_BYTES + length;
    }
    assert.equal(large, 5);
    ring.commit(read.cursor);
    cursor = read.cursor;
  }
  assert.ok(cursor > 5 * LONG_RING_BYTES);
});

/** What this process has mapped of BPF maps, bytes. */
function mappedBytes(): number {
  const lines = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return lines
    .filter((line) => line.includes('bpf-map'))
    .map((line) =>
      line
        .split(' ', 1)[0]
        .split('-')
        .map((end) => Number.parseInt(end, 16)),
    )
    .reduce((sum, [start, end]) => sum + end - start, 0);
}

test('a ring takes memory only while it is read', { skip }, () => {
  const object = attached(LONG_RING_BYTES);
  const before = mappedBytes();
  const ring = Ring.open(object.map('events').fd, LONG_RING_BYTES);
  const opened = mappedBytes() - before;
  // The positions of the consumer and of the producer, a page each.
  assert.ok(opened > 0 && opened <= 2 * 65_536, String(opened));
  const into = new Uint8Array(LONG_RING_BYTES);
  getppid(10_000);
  const read = ring.read(0, into);
  ring.commit(4 * RECORD_BYTES);
  assert.throws(() => ring.read(read.cursor - 8, into), { code: 'ECURSOR' });
  assert.throws(() => ring.read(4 * RECORD_BYTES, into.subarray(0, 8)), { code: 'ENOSPC' });
  assert.equal(mappedBytes() - before, opened);
  ring.close();
  assert.equal(mappedBytes(), before);
});

test('wait returns for data that is not read, and not for what is', { skip }, () => {
  const object = attached();
  using ring = Ring.open(object.map('events').fd, RING_BYTES);
  const into = new Uint8Array(RING_BYTES);
  assert.equal(ring.wait(0), 'timeout');
  getppid(2);
  assert.equal(ring.wait(-1), 'ready');
  assert.equal(ring.wait(-1), 'ready');
  const read = ring.read(0, into);
  // The wake-up of the first record may still be due once; read and uncommitted records are not.
  ring.wait(0);
  assert.equal(ring.wait(0), 'timeout');
  ring.commit(read.cursor);
  assert.equal(ring.wait(0), 'timeout');
  getppid(1);
  assert.equal(ring.wait(-1), 'ready');
});

test('a waker ends a wait of another thread, which opened the ring by number', {
  skip,
}, async () => {
  const object = attached();
  using waker = Waker.open();
  const code = `
    const { workerData, parentPort } = require('node:worker_threads');
    import(workerData.module).then(({ Ring, Waker }) => {
      const waker = Waker.fromFd(workerData.waker);
      const ring = Ring.open(workerData.fd, workerData.size, { waker });
      parentPort.postMessage('waiting');
      const ended = ring.wait(-1, 'wakeup');
      const read = ring.read(ring.consumerPosition, new Uint8Array(workerData.size));
      parentPort.postMessage([ended, read.records, ring.wait(0, 'wakeup')]);
      ring.close();
    });`;
  const workerData = {
    module: new URL('./ring.ts', import.meta.url).href,
    fd: object.map('events').fd,
    size: RING_BYTES,
    waker: waker.fd,
  };
  const worker = new Worker(code, { eval: true, workerData });
  const messages = messagesOf(worker);
  assert.equal(await messages.next(), 'waiting');
  waker.wake();
  assert.deepEqual(await messages.next(), ['waker', 0, 'timeout']);
  await worker.terminate();
});

function messagesOf(worker: Worker): { next(): Promise<unknown> } {
  const waiting: ((message: unknown) => void)[] = [];
  const arrived: unknown[] = [];
  worker.on('message', (message) => {
    const taker = waiting.shift();
    if (taker) taker(message);
    else arrived.push(message);
  });
  return {
    next: () =>
      new Promise((resolve, reject) => {
        worker.once('error', reject);
        if (arrived.length > 0) resolve(arrived.shift());
        else waiting.push(resolve);
      }),
  };
}

test('records outlive a killed reader when the ring is pinned', { skip }, () => {
  const object = attached();
  const folder = pinFolder('ring');
  const path = `${folder}/events`;
  const events = object.map('events');
  events.pin(path);
  getppid(6);
  const module = (name: string) => new URL(name, import.meta.url).href;
  const code = `
    const { BpfMap } = await import('${module('./map.ts')}');
    const { Ring } = await import('${module('./ring.ts')}');
    const map = BpfMap.openPinned('${path}');
    const ring = Ring.open(map.fd, map.maxEntries);
    const read = ring.read(ring.consumerPosition, new Uint8Array(map.maxEntries));
    ring.commit(2 * ${RECORD_BYTES});
    process.stdout.write(String(read.records), () => process.kill(process.pid, 'SIGKILL'));`;
  const child = () => execFileSync(process.execPath, ['--input-type=module', '-e', code]);
  assert.throws(child, (error: { signal?: string; stdout?: Buffer }) => {
    return error.signal === 'SIGKILL' && String(error.stdout) === '5';
  });
  using map = BpfMap.openPinned(path);
  using ring = Ring.open(map.fd, map.maxEntries);
  assert.equal(ring.consumerPosition, 2 * RECORD_BYTES);
  const into = new Uint8Array(RING_BYTES);
  assert.deepEqual(stamps(into, ring.read(ring.consumerPosition, into)), expected(2, 4));
  events.unpin();
});
