// The drain, fed with hand-made records through a ring of the kernel's.

import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { process_record, record_head, record_kind } from '../../probes/layout.gen.ts';
import { NO_LIVE } from '../../test/live.ts';
import { compileBpf } from '../bpf/compile.ts';
import { BpfObject } from '../bpf/object.ts';
import { Drain, type RecordSink } from './drain.ts';

const RING_BYTES = 64 * 1024;
const HEAD_BYTES = 16;
/** A record's header in the ring, beside its bytes. */
const HEADER_BYTES = 8;

const NAMES: ReadonlyMap<number, string> = new Map([
  [record_kind.RECORD_FLOW, 'flow'],
  [record_kind.RECORD_PROCESS, 'process'],
]);

/** Hears what the drain says, in words. */
class Sink implements RecordSink {
  readonly heard: string[] = [];
  #bytes: Uint8Array = new Uint8Array(0);

  over(bytes: Uint8Array): void {
    this.#bytes = bytes;
  }

  record(kind: number, at: number): void {
    const name = NAMES.get(kind) ?? 'bad';
    this.heard.push(name === 'bad' ? name : `${name} ${this.#bytes[at + record_head.flags]}`);
  }

  bad(): void {
    this.heard.push('bad');
  }
}

class Feed {
  readonly #object: BpfObject;
  readonly sink = new Sink();

  static async open(t: TestContext): Promise<Feed> {
    const source = join(import.meta.dirname, 'testdata/ring.bpf.c');
    const output = join(import.meta.dirname, `../../build/drain-test.${process.pid}.bpf.o`);
    await compileBpf(source, output);
    const object = BpfObject.open(readFileSync(output), { name: 'ring' });
    rmSync(output);
    object.load();
    t.after(() => object.close());
    return new Feed(object);
  }

  private constructor(object: BpfObject) {
    this.#object = object;
  }

  drain(cursor?: number): Drain {
    return new Drain(this.#object.map('ring').fd, RING_BYTES, this.sink, cursor);
  }

  /** A record of `length` bytes; false: the ring is full. */
  put(kind: number, flags: number, length = 24): boolean {
    const data = new Uint8Array(HEAD_BYTES + Math.max(length, 8));
    const view = new DataView(data.buffer);
    view.setUint16(0, length, true);
    view.setUint32(HEAD_BYTES + record_head.kind, kind, true);
    view.setUint32(HEAD_BYTES + record_head.flags, flags, true);
    const { result } = this.#object.program('put_record').run({ data });
    assert.ok(result === 0 || result === 2, `put_record: ${result}`);
    return result === 0;
  }
}

const { RECORD_FLOW, RECORD_PROCESS } = record_kind;

test('each record comes to its decoder, in order', { skip: NO_LIVE }, async (t) => {
  const feed = await Feed.open(t);
  const drain = feed.drain();
  feed.put(RECORD_PROCESS, 1, process_record.SIZE);
  feed.put(RECORD_FLOW, 2);
  feed.put(99, 3);
  feed.put(RECORD_FLOW, 4, record_head.SIZE - 1);
  feed.put(RECORD_FLOW, 5, 29);
  feed.put(RECORD_FLOW, 6);
  assert.equal(drain.turn(1 << 20), false);
  assert.deepEqual(feed.sink.heard, ['process 1', 'flow 2', 'bad', 'bad', 'flow 5', 'flow 6']);
  assert.equal(drain.records, 6);
  assert.equal(drain.waiting, 0);
  drain.close();
});

test('the kernel gets its room back by commit alone', { skip: NO_LIVE }, async (t) => {
  const feed = await Feed.open(t);
  const drain = feed.drain();
  const bytes = 1024 - HEADER_BYTES;
  let put = 0;
  while (feed.put(RECORD_FLOW, put % 256, bytes)) put += 1;
  assert.ok(put >= 62 && put <= 64, `${put} records fit`);
  drain.turn(1 << 20);
  assert.equal(feed.sink.heard.length, put);
  assert.equal(drain.uncommitted, put * 1024);
  assert.equal(feed.put(RECORD_FLOW, 7, bytes), false, 'what was read is not yet safe');
  drain.commit();
  assert.deepEqual([drain.uncommitted, drain.waiting], [0, 0]);
  assert.equal(feed.put(RECORD_FLOW, 7, bytes), true);
  drain.close();
});

test('a successor goes on from the cursor that was made safe', { skip: NO_LIVE }, async (t) => {
  const feed = await Feed.open(t);
  const first = feed.drain();
  for (let i = 0; i < 4; i += 1) feed.put(RECORD_FLOW, i);
  first.turn(1 << 20);
  const { cursor } = first;
  first.close(); // killed between spool and commit
  feed.put(RECORD_FLOW, 4);
  feed.sink.heard.length = 0;
  const second = feed.drain(cursor);
  second.turn(1 << 20);
  assert.deepEqual(feed.sink.heard, ['flow 4']);
  second.commit();
  second.close();
  feed.sink.heard.length = 0;
  const third = feed.drain(0); // an older cursor than the kernel's own position
  assert.equal(third.turn(1 << 20), false);
  assert.deepEqual(feed.sink.heard, []);
  third.close();
});
