import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type DataType,
  Field,
  Int32,
  List,
  RecordBatchStreamWriter,
  Schema,
  Table,
  Uint8,
} from 'apache-arrow';
import { encodeBatch } from './batch.ts';
import { foldRows, sampleTable } from './testing.ts';
import { streamProblem } from './verify.ts';

const batch = foldRows(sampleTable, [
  { dimensions: ['a', 'client', 1, 2, 3, 4, 5], measures: [1, 2, 3, 4, 5, 6, 7, 8] },
]).close(1);

function schemaStream(fields: readonly Field[]): Uint8Array {
  const writer = new RecordBatchStreamWriter();
  writer.write(new Table(new Schema([...fields])));
  writer.finish();
  return writer.toUint8Array(true);
}

test('what we write passes', () => {
  assert.equal(streamProblem(encodeBatch(batch!)), undefined);
  assert.equal(streamProblem(schemaStream([new Field('a', new Uint8())])), undefined);
});

test('a length or an offset that grew beyond the message is found, wherever it stands', () => {
  const bytes = encodeBatch(batch!);
  const header_bytes = new DataView(bytes.buffer, bytes.byteOffset).getInt32(4, true);
  const found = new Map<string, number>();
  for (let at = 8; at < 8 + header_bytes; at += 4) {
    const broken = bytes.slice();
    new DataView(broken.buffer).setUint32(at, 0x7fffffff, true);
    const problem = streamProblem(broken) ?? 'none';
    found.set(problem, (found.get(problem) ?? 0) + 1);
  }
  // 20 fields have a name, children and metadata of one or two pairs each; every one of them has a length.
  const columns = 20;
  assert.ok((found.get('a list is longer than its message') ?? 0) >= columns * 4);
  assert.ok((found.get('an offset points outside of the message') ?? 0) >= columns * 4);
});

test('a message or a body that is longer than the stream is found', () => {
  const bytes = encodeBatch(batch!);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  assert.match(streamProblem(bytes.subarray(0, bytes.length - 16)) ?? '', /body is longer/);
  assert.match(streamProblem(bytes.subarray(0, 100)) ?? '', /message is longer/);
  assert.match(streamProblem(bytes.subarray(0, 6)) ?? '', /outside/);
  assert.match(streamProblem(bytes.subarray(8)) ?? '', /no message begins/);
  view.setInt32(4, -8, true);
  assert.match(streamProblem(bytes) ?? '', /message is longer/);
});

test('schemas that are deep or wide beyond reason are found', () => {
  let type: DataType = new Int32();
  for (let depth = 0; depth < 10; depth += 1) type = new List(new Field('item', type));
  assert.match(streamProblem(schemaStream([new Field('deep', type)])) ?? '', /nested too deep/);
  const wide = Array.from({ length: 40_000 }, (_, i) => new Field(`c${i}`, new Uint8()));
  assert.match(streamProblem(schemaStream(wide)) ?? '', /too many tables/);
});
