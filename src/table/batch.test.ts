import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Float32,
  Int64,
  RecordBatchStreamWriter,
  Table,
  tableFromIPC,
  Utf8,
  type Vector,
  vectorFromArray,
} from 'apache-arrow';
import fc from 'fast-check';
import { arrowSchema, decodeBatch, encodeBatch } from './batch.ts';
import { type Batch, numberArray, wireColumns } from './columns.ts';
import { defineTable } from './definition.ts';
import { Fold } from './fold.ts';
import { parseDefinition } from './foreign.ts';
import { encodePieces, joinPieces, splitStream } from './pieces.ts';
import {
  addRow,
  foldRows,
  type SampleRow,
  SEED,
  sampleEvents,
  sampleRow,
  sampleRows,
  sampleTable,
} from './testing.ts';

const TIME = 1_700_000_000_123;

const some = fc.array(sampleRow, { minLength: 1, maxLength: 100 });

/** Every value differs from its neighbours, so that a swapped column cannot pass. */
const odd: SampleRow = {
  dimensions: ['ü€😀', 'client', 201, 40_001, 0xfffffff1, -17, 2 ** 53 - 1],
  measures: [2 ** 53 - 1, 0.25, undefined, 2 ** 53 - 3, -1.5, 33, 1000, 0],
};
const empty: SampleRow = {
  dimensions: ['', 'server', 0, 0, 0, 0, 0],
  measures: [0, 0, 0, undefined, undefined, undefined, undefined, undefined],
};

function sampleBatch(rows: readonly SampleRow[] = [odd, empty]): Batch {
  return foldRows(sampleTable, rows).close(TIME)!;
}

function emptyBatch(): Batch {
  const dimensions = sampleTable.dimensions.map(({ type }) =>
    type === 'string'
      ? { ids: new Int32Array(0), dictionary: [] }
      : { values: numberArray(type, 0) },
  );
  const { measures } = sampleBatch();
  const none = measures.map((column) =>
    'offsets' in column
      ? {
          scale: column.scale,
          offsets: new Int32Array(1),
          buckets: new Int32Array(0),
          counts: new Float64Array(0),
          sums: new Float64Array(0),
        }
      : { values: new Float64Array(0) },
  );
  const times_ms = new Float64Array(0);
  return { definition: sampleTable, rows: 0, times_ms, dimensions, measures: none };
}

test(`what is encoded is decoded again (seed ${SEED})`, () => {
  const property = fc.property(some, (rows) => {
    const batch = sampleBatch(rows);
    const decoded = decodeBatch(encodeBatch(batch));
    assert.deepEqual(decoded, { ok: true, batch, saturated: 0, ignored: [] });
  });
  fc.assert(property, { seed: SEED });
});

test(`events keep their order and their times (seed ${SEED})`, () => {
  const property = fc.property(some, (rows) => {
    const fold = new Fold(sampleEvents);
    for (const [i, row] of rows.entries()) addRow(fold, row, TIME - 1000 * i);
    const batch = fold.close(TIME)!;
    const decoded = decodeBatch(encodeBatch(batch), () => sampleEvents);
    assert.deepEqual(decoded, { ok: true, batch, saturated: 0, ignored: [] });
  });
  fc.assert(property, { seed: SEED });
});

test("Arrow's own reader sees every column, value and null", () => {
  const table = tableFromIPC(encodeBatch(sampleBatch()));
  assert.deepEqual(
    table.schema.fields.map(({ name, type, nullable }) => `${name} ${type}${nullable ? '?' : ''}`),
    [
      'time Timestamp<MILLISECOND>',
      'text Dictionary<Int32, Utf8>',
      'side Dictionary<Int32, Utf8>',
      'tiny Uint8',
      'port Uint16',
      'address Uint32',
      'code Int32',
      'cgroup Uint64',
      'bytes Uint64',
      'seconds Float64',
      'least Uint64?',
      'most Uint64?',
      'state Float64?',
      'rtt Float64?',
      'latency_buckets List<Int32>',
      'latency_counts List<Uint64>',
      'latency_sum Float64',
      'size_buckets List<Int32>',
      'size_counts List<Uint64>',
      'size_sum Float64',
    ],
  );
  const rows: unknown[][] = table.toArray().map((row) => Object.values(row.toJSON()).map(plain));
  const most = 2n ** 53n - 1n;
  const expected: unknown[][] = [
    [TIME, 'ü€😀', 'client', 201, 40_001, 0xfffffff1, -17, most],
    [TIME, '', 'server', 0, 0, 0, 0, 0n],
  ];
  expected[0]?.push(most, 0.25, null, most - 2n, -1.5, 33, [79], [1n], 1000, [-(2 ** 31)], [1n], 0);
  expected[1]?.push(0n, 0, 0n, null, null, null, [], [], 0, [], [], 0);
  assert.deepEqual(rows, expected);
});

/** Lists as plain arrays. */
function plain(value: unknown): unknown {
  const iterable = typeof value === 'object' && value !== null && Symbol.iterator in value;
  return iterable ? [...(value as Iterable<unknown>)] : value; // an Arrow vector is iterable
}

test('a batch of no rows is read by Arrow and by us', () => {
  const bytes = encodeBatch(emptyBatch());
  const table = tableFromIPC(bytes);
  assert.equal(table.numRows, 0);
  assert.equal(table.numCols, wireColumns(sampleTable).length);
  const expected = { ok: true, batch: emptyBatch(), saturated: 0, ignored: [] };
  assert.deepEqual(decodeBatch(bytes), expected);
  const [schema] = encodePieces(emptyBatch());
  assert.deepEqual(decodeBatch(joinPieces([schema!])), expected);
});

test(`Flight pieces are the stream taken apart, and join to it (seed ${SEED})`, () => {
  const property = fc.property(some, (rows) => {
    const batch = sampleBatch(rows);
    const pieces = encodePieces(batch);
    const kinds = pieces.map(({ kind }) => kind);
    assert.deepEqual(kinds, ['schema', 'dictionary', 'dictionary', 'batch']);
    assert.equal(pieces[0]?.data_body.length, 0);
    assert.deepEqual(joinPieces(pieces), encodeBatch(batch));
    assert.deepEqual(splitStream(joinPieces(pieces)), pieces);
  });
  fc.assert(property, { seed: SEED, numRuns: 20 });
});

test('the wire columns and the Arrow schema say the same, and the schema tells the table', () => {
  const schema = arrowSchema(sampleTable);
  const columns = wireColumns(sampleTable);
  assert.equal(arrowSchema(sampleTable), schema);
  assert.deepEqual(
    columns.map(({ name }) => name),
    schema.fields.map(({ name }) => name),
  );
  assert.deepEqual(
    columns.map(({ nullable }) => nullable),
    schema.fields.map((f) => f.nullable),
  );
  assert.equal(schema.metadata.get('sonde.table'), 'sample');
  assert.deepEqual(parseDefinition(schema.metadata.get('sonde.definition')!), sampleTable);
  assert.equal(schema.fields[17]?.metadata.get('sonde.scale'), '1');
});

test('a reader of another version fills what is missing and names what it ignores', () => {
  const bytes = encodeBatch(sampleBatch());
  const newer = defineTable({
    ...sampleTable,
    dimensions: [
      { name: 'added', type: 'string', help: 'New' },
      ...sampleTable.dimensions.filter(({ name }) => name !== 'port'),
    ],
    measures: [
      { name: 'fresh', type: 'u64', unit: '1', fold: 'sum', help: 'New' },
      { name: 'shape', type: 'u64', unit: '1', fold: 'histogram', help: 'New' },
      { name: 'edge', type: 'u64', unit: '1', fold: 'max', help: 'New' },
      ...sampleTable.measures.filter(({ name }) => name !== 'size'),
    ],
  });
  const decoded = decodeBatch(bytes, (name) => (name === 'sample' ? newer : undefined));
  assert.ok(decoded.ok);
  assert.deepEqual(decoded.ignored, ['port', 'size_buckets', 'size_counts', 'size_sum']);
  const { dimensions, measures } = decoded.batch;
  assert.deepEqual(dimensions[0], { ids: Int32Array.of(0, 0), dictionary: [''] });
  assert.deepEqual(measures[0], { values: Float64Array.of(0, 0) });
  assert.deepEqual(measures[2], { values: Float64Array.of(Number.NaN, Number.NaN) });
  assert.deepEqual(measures[3], sampleBatch().measures[0]);
});

/** A stream as a stranger writes it: plain strings, signed and short numbers, another order. */
function foreignStream(change: Record<string, unknown> = {}): Uint8Array {
  const ours = tableFromIPC(encodeBatch(sampleBatch()));
  const columns: Record<string, unknown> = {
    cgroup: vectorFromArray([5n, null], new Int64()),
    seconds: vectorFromArray([0.5, 2], new Float32()),
    text: vectorFromArray(['same', 'same'], new Utf8()),
    time: ours.getChild('time'),
    ...change,
  };
  const present = Object.entries(columns).filter(([, vector]) => vector !== undefined);
  const table = new Table(Object.fromEntries(present) as Record<string, Vector>); // all made above
  const writer = new RecordBatchStreamWriter();
  writer.write(table);
  writer.finish();
  return writer.toUint8Array(true);
}

test('columns that another Arrow library writes differently are understood', () => {
  const decoded = decodeBatch(foreignStream(), () => sampleTable);
  assert.ok(decoded.ok);
  const { dimensions, measures } = decoded.batch;
  assert.deepEqual(dimensions[0], { ids: Int32Array.of(0, 0), dictionary: ['same'] });
  assert.deepEqual(dimensions[6], { values: Float64Array.of(5, 0) });
  assert.deepEqual(measures[1], { values: Float64Array.of(0.5, 2) });
});

test('what a column cannot be is refused with its name', () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ time: undefined }, /"time" is missing/],
    [{ time: vectorFromArray([1n, 2n], new Int64()) }, /"time" is Int64, not a timestamp/],
    [{ cgroup: vectorFromArray([-1n, 0n], new Int64()) }, /"cgroup": -1 is no u64/],
    [{ cgroup: vectorFromArray([2n ** 60n, 0n], new Int64()) }, /"cgroup": \d+ is no u64/],
    [{ tiny: vectorFromArray([256n, 0n], new Int64()) }, /"tiny": 256 is no u8/],
    [{ bytes: vectorFromArray([-1n, 0n], new Int64()) }, /"bytes": -1 is no u64/],
    [{ bytes: vectorFromArray(['1', '2'], new Utf8()) }, /"bytes" is Utf8, no number/],
    [{ text: vectorFromArray([1n, 2n], new Int64()) }, /"text" is Int64, neither text/],
    [
      { latency_buckets: vectorFromArray([1n, 2n], new Int64()), latency_counts: foreignList() },
      /"latency_buckets" is Int64, no list/,
    ],
  ];
  for (const [change, message] of cases) {
    const decoded = decodeBatch(foreignStream(change), () => sampleTable);
    assert.ok(!decoded.ok, `${message}`);
    assert.equal(decoded.reason, 'bad_column');
    assert.match(decoded.detail, message);
  }
});

test('a string that the dictionary does not have is refused', () => {
  for (const id of [2, -1]) {
    const batch = sampleBatch();
    const text = { ids: Int32Array.of(0, id), dictionary: ['a', 'b'] };
    const bytes = encodeBatch({ ...batch, dimensions: batch.dimensions.with(0, text) });
    const decoded = decodeBatch(bytes);
    assert.ok(!decoded.ok && decoded.reason === 'bad_column');
    assert.match(decoded.detail, new RegExp(`"text": no string ${id} in the dictionary`));
  }
});

function foreignList(): unknown {
  return tableFromIPC(encodeBatch(sampleBatch())).getChild('latency_counts');
}

test('u64 sums above 2^53 are held at the limit and counted', () => {
  const bytes = foreignStream({ bytes: vectorFromArray([2n ** 62n, 7n], new Int64()) });
  const decoded = decodeBatch(bytes, () => sampleTable);
  assert.ok(decoded.ok);
  assert.equal(decoded.saturated, 1);
  assert.deepEqual(decoded.batch.measures[0], { values: Float64Array.of(2 ** 53 - 1, 7) });
});

test('no bytes, unknown tables, many batches and too many rows have a reason each', () => {
  const bytes = encodeBatch(sampleBatch());
  const reason = (from: Uint8Array, known = true): string => {
    const decoded = decodeBatch(from, () => (known ? sampleTable : undefined));
    return decoded.ok ? 'ok' : decoded.reason;
  };
  assert.equal(reason(new Uint8Array(0)), 'bad_arrow');
  assert.equal(reason(new Uint8Array(64)), 'bad_arrow');
  assert.equal(reason(bytes.subarray(0, bytes.length - 200)), 'bad_arrow');
  assert.equal(reason(bytes, false), 'unknown_table');
  const pieces = encodePieces(sampleBatch());
  assert.equal(reason(joinPieces([...pieces, pieces.at(-1)!])), 'many_batches');
});

test(`bytes with any damage are refused or read, and never throw (seed ${SEED})`, () => {
  const bytes = encodeBatch(sampleBatch());
  const at = fc.nat(bytes.length - 1);
  const damage = fc.array(fc.tuple(at, fc.nat(255)), { minLength: 1, maxLength: 8 });
  let refused = 0;
  const property = fc.property(damage, fc.boolean(), (changes, ours) => {
    const broken = bytes.slice();
    for (const [position, value] of changes) broken[position] = value;
    const decoded = decodeBatch(broken, ours ? undefined : () => sampleTable);
    if (!decoded.ok) refused += 1;
  });
  fc.assert(property, { seed: SEED, numRuns: 3000 });
  assert.ok(refused > 100, `${refused} of 3000 were refused`);
});

test('bytes at an odd address are read', () => {
  const bytes = encodeBatch(sampleBatch());
  const shifted = new Uint8Array(bytes.length + 3);
  shifted.set(bytes, 3);
  assert.ok(decodeBatch(shifted.subarray(3)).ok);
});

test('a foreign definition is checked before it is believed', () => {
  const text = JSON.stringify(sampleTable);
  assert.equal(parseDefinition(text), parseDefinition(text));
  const bad = ['', '{}', 'null', text.replace('"sample"', '"Sample"'), text.replace('u64', 'u65')];
  for (const each of [...bad, text.replace('{', '{"x":1,'), `${text} ${' '.repeat(300_000)}`]) {
    assert.equal(parseDefinition(each), undefined, each.slice(0, 40));
  }
});

test(`rows are not lost between fold and wire, whatever the order (seed ${SEED})`, () => {
  const property = fc.property(sampleRows, (rows) => {
    const [there, back] = [rows, [...rows].reverse()].map((each) => {
      const batch = foldRows(sampleTable, each).close(TIME);
      if (batch === undefined) return 0;
      const decoded = decodeBatch(encodeBatch(batch));
      assert.ok(decoded.ok);
      const [bytes] = decoded.batch.measures;
      return 'values' in bytes! ? bytes.values.reduce((a, b) => a + b, 0) : -1;
    });
    assert.equal(there, back);
    assert.equal(
      there,
      rows.reduce((sum, { measures }) => sum + (measures[0] ?? 0), 0),
    );
  });
  fc.assert(property, { seed: SEED });
});
