// From a table's definition to what ClickHouse is told: the base table, its rollups, the views that feed them, and the
// additive changes that bring an older store up to date. Nothing here speaks to an engine.

import type { Dimension, DimensionType, Measure, TableDefinition } from '../table/definition.ts';
import { connectionsDependent } from './connections.ts';
import type { Dependent, StoreColumn, StoreTable } from './shape.ts';
import { identifier, identifiers, literal } from './sql.ts';

/** For how many seconds rows are kept, by the width of their interval. */
export interface Retention {
  readonly raw_s: number;
  readonly minute_s: number;
  readonly hour_s: number;
}

const DAY_S = 86_400;
export const RETENTION_DEFAULT: Retention = {
  raw_s: 3 * DAY_S,
  minute_s: 30 * DAY_S,
  hour_s: 365 * DAY_S,
};

/** Block ids that a table remembers: repeats of a batch older than so many blocks are not recognised. */
const DEDUPLICATION_WINDOW = 10_000;

/** Dimensions in the primary index; all of them are in the sorting key of a rollup. */
const PRIMARY_DIMENSIONS_MAX = 4;

export interface TableSchema {
  readonly definition: TableDefinition;
  readonly base: StoreTable;
  readonly dependents: readonly Dependent[];
}

const DIMENSION_TYPES: Readonly<Record<DimensionType, string>> = {
  string: 'LowCardinality(String)',
  u8: 'UInt8',
  u16: 'UInt16',
  u32: 'UInt32',
  i32: 'Int32',
  u64: 'UInt64',
};

/** Everything the store keeps for one definition. */
export function tableSchema(def: TableDefinition, retention = RETENTION_DEFAULT): TableSchema {
  const dependents: Dependent[] = [];
  if (def.kind === 'fold') {
    dependents.push(rollup(def, 'minute', retention.minute_s));
    dependents.push(rollup(def, 'hour', retention.hour_s));
    const connections = connectionsDependent(def, retention.minute_s);
    if (connections !== undefined) dependents.push(connections);
  }
  return { definition: def, base: baseTable(def, retention.raw_s), dependents };
}

/** Dimensions of the probe and those that the reducer fills, in stored order. */
export function storedDimensions(def: TableDefinition): readonly Dimension[] {
  return [...def.dimensions, ...(def.enriched ?? [])];
}

/** The type of each column that may come in a batch, by name: wire columns and enriched ones. */
export function insertableTypes(def: TableDefinition): ReadonlyMap<string, string> {
  const types = new Map([['time', "DateTime64(3, 'UTC')"]]);
  for (const { name, type } of storedDimensions(def)) types.set(name, DIMENSION_TYPES[type]);
  for (const measure of def.measures) {
    for (const { name, type } of baseMeasureColumns(measure)) types.set(name, type);
  }
  return types;
}

function baseTable(def: TableDefinition, ttl_s: number): StoreTable {
  const time = def.kind === 'event' ? 'When it happened' : 'End of the interval';
  const order = ['host', ...leadingDimensions(def), 'time'];
  return {
    name: def.name,
    columns: [
      { name: 'time', type: "DateTime64(3, 'UTC')", comment: time },
      { name: 'host', type: 'LowCardinality(String)', comment: 'The host of the collector' },
      { name: 'collector_id', type: 'LowCardinality(String)', comment: 'Who sent the batch' },
      { name: 'batch_seq', type: 'UInt64', comment: 'Which of its batches it was' },
      ...dimensionColumns(def),
      ...def.measures.flatMap(baseMeasureColumns),
    ],
    engine: 'MergeTree',
    partition: 'toDate(time)',
    primary: order,
    order,
    ttl_s,
    comment: def.help,
  };
}

/** Closed sets sort well and are asked for most: they lead; the process follows. */
function leadingDimensions(def: TableDefinition): readonly string[] {
  const closed = def.dimensions.filter((d) => d.values !== undefined).map((d) => d.name);
  const process = def.dimensions.filter((d) => d.name === 'process_name').map((d) => d.name);
  return [...closed.slice(0, PRIMARY_DIMENSIONS_MAX - 1), ...process];
}

function dimensionColumns(def: TableDefinition): readonly StoreColumn[] {
  return storedDimensions(def).map(({ name, type, help }) => ({
    name,
    type: DIMENSION_TYPES[type],
    comment: help,
  }));
}

function scalarType(measure: Measure): string {
  return measure.type === 'u64' ? 'UInt64' : 'Float64';
}

function baseMeasureColumns(measure: Measure): readonly StoreColumn[] {
  const { name, fold, help, unit } = measure;
  const comment = `${help} (${unit})`;
  if (fold === 'sum') return [{ name, type: scalarType(measure), comment }];
  if (fold !== 'histogram') return [{ name, type: `Nullable(${scalarType(measure)})`, comment }];
  return [
    { name: `${name}_buckets`, type: 'Array(Int32)', comment: `${comment}, bucket indices` },
    { name: `${name}_counts`, type: 'Array(UInt64)', comment: `${comment}, counts` },
    { name: `${name}_sum`, type: 'Float64', comment: `${comment}, sum` },
  ];
}

type Width = 'minute' | 'hour';
const WIDTHS = {
  minute: { suffix: '1m', start: 'toStartOfMinute', bucket_s: 60, partition: 'toMonday(time)' },
  hour: { suffix: '1h', start: 'toStartOfHour', bucket_s: 3600, partition: 'toYYYYMM(time)' },
} as const;

function rollup(def: TableDefinition, width: Width, ttl_s: number): Dependent {
  const { suffix, start, bucket_s, partition } = WIDTHS[width];
  const dimensions = storedDimensions(def).map((d) => d.name);
  const leading = leadingDimensions(def);
  const rest = dimensions.filter((name) => !leading.includes(name));
  // New dimensions can only be appended to a sorting key, so `time` stands before those that sort badly.
  const order = ['host', ...leading, 'time', ...rest];
  const measures = def.measures.map(rollupMeasure);
  const table: StoreTable = {
    name: `${def.name}_${suffix}`,
    columns: [
      { name: 'time', type: "DateTime('UTC')", comment: `Start of the ${width}` },
      { name: 'host', type: 'LowCardinality(String)', comment: 'The host of the collector' },
      ...dimensionColumns(def),
      ...measures.flatMap((measure) => measure.columns),
    ],
    engine: 'AggregatingMergeTree',
    partition,
    primary: ['host', ...leading, 'time'],
    order,
    ttl_s,
    comment: `${def.help}: by ${width}`,
  };
  const keys = ['host', ...dimensions];
  const list = [
    `${start}(s.time, 'UTC') AS time`,
    ...keys.map((name) => `s.${identifier(name)} AS ${identifier(name)}`),
    ...measures.flatMap((measure) => measure.selects),
  ].join(',\n  ');
  const group = ['time', ...keys.map(identifier)].join(', ');
  const select = (where?: string) =>
    `SELECT ${list}\nFROM ${identifier(def.name)} AS s\n` +
    `${where === undefined ? '' : `WHERE ${where}\n`}GROUP BY ${group}`;
  return { table, view: `${table.name}_mv`, bucket_s, select };
}

interface RollupMeasure {
  readonly columns: readonly StoreColumn[];
  readonly selects: readonly string[];
}

/** How a measure lives in a rollup, and how base rows (aliased `s`) become it. */
function rollupMeasure(measure: Measure): RollupMeasure {
  const { name, fold, help, unit } = measure;
  const type = scalarType(measure);
  const comment = `${help} (${unit})`;
  const column = `s.${identifier(name)}`;
  const as = ` AS ${identifier(name)}`;
  switch (fold) {
    case 'sum':
      return {
        columns: [{ name, type: `SimpleAggregateFunction(sum, ${type})`, comment }],
        selects: [`sum(${column})${as}`],
      };
    case 'min':
    case 'max':
      return {
        columns: [{ name, type: `SimpleAggregateFunction(${fold}, Nullable(${type}))`, comment }],
        selects: [`${fold}(${column})${as}`],
      };
    case 'last':
      return {
        columns: [{ name, type: `SimpleAggregateFunction(anyLast, Nullable(${type}))`, comment }],
        selects: [`argMax(${column}, s.time)${as}`],
      };
    case 'mean':
      return meanMeasure(measure, comment);
    case 'histogram':
      return histogramMeasure(measure, comment);
  }
}

/** A mean is kept as its weighted sum: the weight itself is a `sum` measure of the same table. */
function meanMeasure(measure: Measure, comment: string): RollupMeasure {
  const weight = identifier(measure.weight ?? '');
  const weighted = `${measure.name}_weighted`;
  const total = identifier(weighted);
  return {
    columns: [
      {
        name: weighted,
        type: 'SimpleAggregateFunction(sum, Float64)',
        comment: `${comment}, times its weight`,
      },
      {
        name: measure.name,
        type: 'Nullable(Float64)',
        comment,
        alias: `if(${weight} = 0, NULL, ${total} / ${weight})`,
      },
    ],
    selects: [`sum(ifNull(s.${identifier(measure.name)}, 0) * s.${weight}) AS ${total}`],
  };
}

/** One map from bucket to count, which merges; the columns of the base table are read from it. */
function histogramMeasure(measure: Measure, comment: string): RollupMeasure {
  const { name } = measure;
  const map = identifier(`${name}_map`);
  const buckets = identifier(`${name}_buckets`);
  const counts = identifier(`${name}_counts`);
  const sum = identifier(`${name}_sum`);
  return {
    columns: [
      {
        name: `${name}_map`,
        type: 'SimpleAggregateFunction(sumMap, Tuple(Array(Int32), Array(UInt64)))',
        comment: `${comment}, bucket indices and counts`,
      },
      {
        name: `${name}_buckets`,
        type: 'Array(Int32)',
        comment: `${comment}, bucket indices`,
        alias: `tupleElement(${map}, 1)`,
      },
      {
        name: `${name}_counts`,
        type: 'Array(UInt64)',
        comment: `${comment}, counts`,
        alias: `tupleElement(${map}, 2)`,
      },
      {
        name: `${name}_sum`,
        type: 'SimpleAggregateFunction(sum, Float64)',
        comment: `${comment}, sum`,
      },
    ],
    selects: [`sumMap(s.${buckets}, s.${counts}) AS ${map}`, `sum(s.${sum}) AS ${sum}`],
  };
}

/** Statements for a store that has none of it, in order. */
export function createStatements(schema: TableSchema): readonly string[] {
  return [
    createTable(schema.base),
    ...schema.dependents.flatMap((dependent) => [
      createTable(dependent.table),
      createView(dependent),
    ]),
  ];
}

export function createTable(table: StoreTable): string {
  const columns = table.columns.map(columnClause).join(',\n  ');
  return [
    `CREATE TABLE IF NOT EXISTS ${identifier(table.name)} (\n  ${columns}\n)`,
    `ENGINE = ${table.engine}`,
    `PARTITION BY ${table.partition}`,
    `PRIMARY KEY (${identifiers(table.primary)})`,
    `ORDER BY (${identifiers(table.order)})`,
    `TTL ${ttlExpression(table)}`,
    `SETTINGS non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`,
    `COMMENT ${literal(table.comment)}`,
  ].join('\n');
}

export function createView(dependent: Dependent): string {
  const view = identifier(dependent.view);
  const target = identifier(dependent.table.name);
  return `CREATE MATERIALIZED VIEW IF NOT EXISTS ${view} TO ${target} AS\n${dependent.select()}`;
}

function ttlExpression(table: StoreTable): string {
  return `toDateTime(time) + INTERVAL ${Math.ceil(table.ttl_s)} SECOND`;
}

function columnClause(column: StoreColumn): string {
  const alias = column.alias === undefined ? '' : ` ALIAS ${column.alias}`;
  const { name, type, comment } = column;
  return `${identifier(name)} ${type}${alias} COMMENT ${literal(comment)}`;
}

/** What the engine says that it has: column names by table, the retention of each, and its views. */
export interface ExistingSchema {
  readonly columns: ReadonlyMap<string, ReadonlySet<string>>;
  readonly views: ReadonlySet<string>;
}

/**
 * Statements that bring an older store to `schema`: new tables, new columns, views that fill them, retention. Only
 * additions: a column that the definition no longer has stays, and keeps what it holds. Retention is changed only by who
 * was told one: a mere reader must not shorten it.
 */
export function migrationStatements(
  schema: TableSchema,
  existing: ExistingSchema,
  with_retention: boolean,
): string[] {
  const statements: string[] = [];
  const { base, dependents } = schema;
  statements.push(...tableMigration(base, existing, with_retention, false));
  for (const dependent of dependents) {
    statements.push(...tableMigration(dependent.table, existing, with_retention, true));
    statements.push(
      existing.views.has(dependent.view)
        ? `ALTER TABLE ${identifier(dependent.view)} MODIFY QUERY ${dependent.select()}`
        : createView(dependent),
    );
  }
  return statements;
}

function tableMigration(
  table: StoreTable,
  existing: ExistingSchema,
  with_retention: boolean,
  aggregates: boolean,
): readonly string[] {
  const has = existing.columns.get(table.name);
  if (has === undefined) return [createTable(table)];
  const name = identifier(table.name);
  const ttl = with_retention ? [`ALTER TABLE ${name} MODIFY TTL ${ttlExpression(table)}`] : [];
  const missing = table.columns.filter((column) => !has.has(column.name));
  if (missing.length === 0) return ttl;
  const adds = missing.map((column) => `ADD COLUMN ${columnClause(column)}`);
  const keys = missing.filter((column) => table.order.includes(column.name));
  if (aggregates && keys.length > 0) {
    // A dimension outside the sorting key would be folded away by a merge: it is appended in the same statement.
    const old = table.order.filter((column) => has.has(column));
    const order = [...old, ...keys.map((column) => column.name)];
    adds.push(`MODIFY ORDER BY (${identifiers(order)})`);
  }
  return [`ALTER TABLE ${name} ${adds.join(', ')}`, ...ttl];
}
