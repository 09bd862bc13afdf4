// A batch on the wire: an Arrow IPC stream with one record batch, written from columns and read back into them. The bytes
// may come from a stranger: whatever is wrong with them is a value with a reason, never a throw.

import {
  type Data,
  type DataType,
  Dictionary,
  Field,
  Float64,
  Int32,
  List,
  makeData,
  RecordBatch,
  RecordBatchReader,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  TimestampMillisecond,
  Uint8,
  Uint16,
  Uint32,
  Uint64,
  Utf8,
} from 'apache-arrow';
import {
  BadColumn,
  METADATA_SCALE,
  readDimension,
  readMeasure,
  readTimes,
  type Source,
  type Tally,
} from './arrow_read.ts';
import { dimensionData, histogramData, valueData, wholeData } from './arrow_write.ts';
import { type Batch, isHistogramColumn, type WireColumn, wireColumns } from './columns.ts';
import { SCALE_DEFAULT, type TableDefinition } from './definition.ts';
import { parseDefinition } from './foreign.ts';
import { streamProblem } from './verify.ts';

/** Schema metadata: the table's name, and its definition as JSON, so that a batch on disk explains itself. */
export const METADATA_TABLE = 'sonde.table';
export const METADATA_DEFINITION = 'sonde.definition';
const METADATA_HELP = 'sonde.help';

/** A row has at least its time. */
const ROW_BYTES_MIN = 8;

/** A closed set: it goes into the ledger. */
export type BadReason = 'bad_arrow' | 'unknown_table' | 'bad_column' | 'many_batches';

export type Decoded =
  | {
      readonly ok: true;
      readonly batch: Batch;
      /** u64 values that came above 2^53 - 1 and were held there. */
      readonly saturated: number;
      /** Columns of the bytes that the definition does not have: not read. */
      readonly ignored: readonly string[];
    }
  | { readonly ok: false; readonly reason: BadReason; readonly detail: string };

/** The reader's own definition of a table; undefined refuses the batch. */
export type DefinitionLookup = (name: string) => TableDefinition | undefined;

const schemas = new WeakMap<TableDefinition, Schema>();

/** The Arrow schema of a table. The same object for the same definition: dictionaries are known by their type. */
export function arrowSchema(def: TableDefinition): Schema {
  const known = schemas.get(def);
  if (known !== undefined) return known;
  const fields = wireColumns(def).map(fieldOf);
  const metadata = new Map([
    [METADATA_TABLE, def.name],
    [METADATA_DEFINITION, JSON.stringify(def)],
  ]);
  const schema = new Schema(fields, metadata);
  schemas.set(def, schema);
  return schema;
}

/** The batch as a complete Arrow IPC stream: schema, dictionaries, one record batch, end. */
export function encodeBatch(batch: Batch): Uint8Array {
  const writer = new RecordBatchStreamWriter();
  writer.write(toRecordBatch(batch));
  writer.finish();
  return writer.toUint8Array(true);
}

/**
 * Reads an Arrow IPC stream with one record batch. Without `lookup` the definition in the schema counts (our own
 * spool); with it, the reader's: columns that it has and the bytes have not are empty, others are ignored.
 * Accepts what any Arrow writer makes of the columns: plain or dictionary strings, any width of integer, any order.
 */
export function decodeBatch(bytes: Uint8Array, lookup?: DefinitionLookup): Decoded {
  const problem = streamProblem(bytes);
  if (problem !== undefined) return refused('bad_arrow', problem);
  try {
    return decode(aligned(bytes), lookup);
  } catch (error) {
    // apache-arrow throws on bytes that are no Arrow, of many kinds; to us it is one.
    const detail = error instanceof Error ? error.message : String(error);
    return refused(error instanceof BadColumn ? 'bad_column' : 'bad_arrow', detail);
  }
}

function decode(bytes: Uint8Array, lookup: DefinitionLookup | undefined): Decoded {
  const reader = RecordBatchReader.from(bytes);
  reader.open();
  // Apache Arrow's types promise a schema, but an empty stream has none.
  const metadata = (reader.schema as Schema | undefined)?.metadata;
  if (metadata === undefined) return refused('bad_arrow', 'the stream has no schema');
  const name = metadata.get(METADATA_TABLE) ?? '';
  const definition =
    lookup === undefined ? parseDefinition(metadata.get(METADATA_DEFINITION) ?? '') : lookup(name);
  if (definition === undefined) return refused('unknown_table', name.slice(0, 64));
  const first = reader.next();
  if (first.done === true) return refused('bad_arrow', 'the stream has no record batch');
  if (reader.next().done !== true) return refused('many_batches', definition.name);
  const record: RecordBatch = first.value;
  if (record.numRows * ROW_BYTES_MIN > bytes.length) {
    return refused('bad_arrow', `${record.numRows} rows in ${bytes.length} bytes`);
  }
  return toBatch(definition, record);
}

function refused(reason: BadReason, detail: string): Decoded {
  return { ok: false, reason, detail };
}

/** 64-bit views need an address that divides by 8, which a slice of a network buffer may not have. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes);
}

function toBatch(definition: TableDefinition, record: RecordBatch): Decoded {
  const rows = record.numRows;
  const tally: Tally = { saturated: 0 };
  const sources = new Map<string, Source>();
  const times_ms = new Float64Array(rows);
  // Without rows Arrow's reader may make up a batch whose columns have no arrays.
  if (rows > 0) {
    for (const [i, field] of record.schema.fields.entries()) {
      sources.set(field.name, { field, data: record.data.children[i]! });
    }
    readTimes(sources.get('time'), times_ms);
  }
  const batch: Batch = {
    definition,
    rows,
    times_ms,
    dimensions: definition.dimensions.map((each) => readDimension(each, sources, rows)),
    measures: definition.measures.map((each) => readMeasure(each, sources, rows, tally)),
  };
  for (const { name } of wireColumns(definition)) sources.delete(name);
  return { ok: true, batch, saturated: tally.saturated, ignored: [...sources.keys()] };
}

function toRecordBatch(batch: Batch): RecordBatch {
  const { definition, rows } = batch;
  const schema = arrowSchema(definition);
  const types = schema.fields.map(({ type }) => type as DataType);
  const children: Data[] = [wholeData(types[0]!, batch.times_ms, undefined)];
  for (const column of batch.dimensions) {
    children.push(dimensionData(types[children.length]!, column));
  }
  for (const [i, column] of batch.measures.entries()) {
    const at = children.length;
    if (isHistogramColumn(column)) {
      if (column.scale !== (definition.measures[i]!.scale ?? SCALE_DEFAULT)) {
        throw new Error(`column "${definition.measures[i]!.name}" has scale ${column.scale}`);
      }
      children.push(...histogramData(types.slice(at, at + 3), column));
    } else {
      const nullable = definition.measures[i]!.fold !== 'sum';
      children.push(valueData(types[at]!, column.values, nullable));
    }
  }
  const struct = new Struct(schema.fields);
  return new RecordBatch(schema, makeData({ type: struct, length: rows, nullCount: 0, children }));
}

function fieldOf(column: WireColumn, position: number): Field {
  const metadata = new Map([[METADATA_HELP, column.help]]);
  if (column.kind === 'buckets')
    metadata.set(METADATA_SCALE, String(column.measure?.scale ?? SCALE_DEFAULT));
  return new Field(column.name, typeOf(column, position), column.nullable, metadata);
}

function typeOf({ kind }: WireColumn, position: number): DataType {
  switch (kind) {
    case 'time':
      return new TimestampMillisecond();
    case 'string':
      return new Dictionary(new Utf8(), new Int32(), position);
    case 'u8':
      return new Uint8();
    case 'u16':
      return new Uint16();
    case 'u32':
      return new Uint32();
    case 'i32':
      return new Int32();
    case 'u64':
      return new Uint64();
    case 'f64':
      return new Float64();
    case 'buckets':
      return new List(new Field('item', new Int32(), false));
    case 'counts':
      return new List(new Field('item', new Uint64(), false));
  }
}
