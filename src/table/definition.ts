// A table is the one idea of sonde: what a probe sees, as data. The wire schema, the store's columns, the
// exposition and the reference pages all follow from the definition below; nothing is written twice.

/** Type of a dimension. `u64` values must stay below 2^53: they travel as numbers inside the process. */
export type DimensionType = 'string' | 'u8' | 'u16' | 'u32' | 'i32' | 'u64';

/**
 * How rows with equal dimensions become one.
 * `mean` is weighted by the `sum` measure named in `weight`; `histogram` is exponential (OpenTelemetry's scale).
 */
export type Fold = 'sum' | 'max' | 'min' | 'last' | 'mean' | 'histogram';

/** UCUM units, as OpenTelemetry and the documents use them. */
export type Unit = '1' | 'By' | 'ns' | 'us' | 'ms' | 's';

export interface Dimension {
  readonly name: string;
  readonly type: DimensionType;
  readonly help: string;
  /** The closed set of values, where there is one. */
  readonly values?: readonly string[];
}

export interface Measure {
  readonly name: string;
  readonly type: 'u64' | 'f64';
  readonly unit: Unit;
  readonly fold: Fold;
  readonly help: string;
  /** For `mean`: the `sum` measure of the same table that weighs it. */
  readonly weight?: string;
  /** For `histogram`: 2^scale buckets a doubling, 3 if absent. A constant of the measure, so that rows merge. */
  readonly scale?: number;
}

export interface TableDefinition {
  /** The name in the store, the wire and the queries. */
  readonly name: string;
  readonly help: string;
  /** `fold`: rows of one interval with equal dimensions become one. `event`: rows stay as they are. */
  readonly kind: 'fold' | 'event';
  readonly dimensions: readonly Dimension[];
  readonly measures: readonly Measure[];
  /** Distinct keys held for one interval; what comes after folds into the overflow row and is counted. */
  readonly rows_max: number;
  /**
   * Columns that only the reducer fills (names, Kubernetes), empty on the wire. They are part of the stored table.
   */
  readonly enriched?: readonly Dimension[];
}

/** Scale of a histogram measure that names none: 8 buckets a doubling, an error of 4.5 % at most. */
export const SCALE_DEFAULT = 3;
export const SCALE_MIN = -10;
export const SCALE_MAX = 8;

/** Identifiers of ClickHouse, Prometheus labels and file names all take this many. */
const NAME_LENGTH_MAX = 63;
const COLUMNS_MAX = 256;
const ROWS_MAX = 1 << 22;

/** Columns that the batch and the store add; a definition cannot take their names. */
const NAMES_RESERVED: readonly string[] = ['time', 'collector_id', 'batch_seq'];
const NAME_PATTERN = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/;
const DIMENSION_TYPES: readonly string[] = ['string', 'u8', 'u16', 'u32', 'i32', 'u64'];
const FOLDS: readonly string[] = ['sum', 'max', 'min', 'last', 'mean', 'histogram'];
const UNITS: readonly string[] = ['1', 'By', 'ns', 'us', 'ms', 's'];

/** Names of the columns that a measure has on the wire and in the store. */
export function measureColumns(measure: Measure): readonly string[] {
  if (measure.fold !== 'histogram') return [measure.name];
  return [`${measure.name}_buckets`, `${measure.name}_counts`, `${measure.name}_sum`];
}

/**
 * Checks a definition and freezes it, all the way down.
 * A wrong one is a mistake of the programmer: it throws an Error that names the table and the column.
 */
export function defineTable(def: TableDefinition): TableDefinition {
  const problem = definitionProblem(def);
  if (problem !== undefined) throw new Error(`table "${def.name}": ${problem}`);
  return Object.freeze({
    ...def,
    dimensions: freezeDimensions(def.dimensions),
    measures: Object.freeze(def.measures.map((measure) => Object.freeze({ ...measure }))),
    ...(def.enriched && { enriched: freezeDimensions(def.enriched) }),
  });
}

/** What is wrong with a definition, in words that name the column; undefined if nothing is. */
export function definitionProblem(def: TableDefinition): string | undefined {
  if (!isName(def.name)) return `name is not snake_case of 1 to ${NAME_LENGTH_MAX} characters`;
  if (def.kind !== 'fold' && def.kind !== 'event') return `kind "${def.kind}" is not fold or event`;
  if (!Number.isInteger(def.rows_max) || def.rows_max < 1 || def.rows_max > ROWS_MAX) {
    return `rows_max ${def.rows_max} is not a whole number from 1 to ${ROWS_MAX}`;
  }
  if (def.dimensions.length + def.measures.length === 0) return 'it has no columns';
  const seen = new Set<string>(NAMES_RESERVED);
  const columns = [...def.dimensions, ...(def.enriched ?? [])].map((column) => column.name);
  for (const name of [...columns, ...def.measures.flatMap(measureColumns)]) {
    if (!isName(name)) return `column "${name}" is not snake_case of 1 to ${NAME_LENGTH_MAX}`;
    if (seen.has(name)) return `column "${name}" is reserved or stands twice`;
    seen.add(name);
  }
  if (seen.size > COLUMNS_MAX) return `it has ${seen.size} columns, more than ${COLUMNS_MAX}`;
  return dimensionsProblem(def) ?? measuresProblem(def);
}

function dimensionsProblem(def: TableDefinition): string | undefined {
  for (const { name, type, values } of [...def.dimensions, ...(def.enriched ?? [])]) {
    if (!DIMENSION_TYPES.includes(type)) return `column "${name}": unknown type "${type}"`;
    if (values === undefined) continue;
    if (type !== 'string') return `column "${name}": values are for strings, not for ${type}`;
    if (new Set(values).size !== values.length) return `column "${name}": a value stands twice`;
  }
  return undefined;
}

function measuresProblem(def: TableDefinition): string | undefined {
  for (const measure of def.measures) {
    const problem = measureProblem(measure, def.measures);
    if (problem !== undefined) return `column "${measure.name}": ${problem}`;
  }
  return undefined;
}

function measureProblem(measure: Measure, all: readonly Measure[]): string | undefined {
  const { type, unit, fold, weight, scale } = measure;
  if (type !== 'u64' && type !== 'f64') return `unknown type "${type}"`;
  if (!UNITS.includes(unit)) return `unknown unit "${unit}"`;
  if (!FOLDS.includes(fold)) return `unknown fold "${fold}"`;
  if (scale !== undefined) {
    if (fold !== 'histogram') return `scale is for histogram, not for ${fold}`;
    if (!Number.isInteger(scale) || scale < SCALE_MIN || scale > SCALE_MAX) {
      return `scale ${scale} is not a whole number from ${SCALE_MIN} to ${SCALE_MAX}`;
    }
  }
  if ((fold === 'mean') !== (weight !== undefined))
    return 'weight goes with mean, and only with it';
  if (weight === undefined) return undefined;
  const weigher = all.find((other) => other.name === weight);
  if (weigher === undefined) return `weight "${weight}" is no measure of the table`;
  return weigher.fold === 'sum' ? undefined : `weight "${weight}" is not a sum`;
}

function isName(name: string): boolean {
  return name.length <= NAME_LENGTH_MAX && NAME_PATTERN.test(name);
}

function freezeDimensions(dimensions: readonly Dimension[]): readonly Dimension[] {
  return Object.freeze(
    dimensions.map((dimension) =>
      Object.freeze({
        ...dimension,
        ...(dimension.values && { values: Object.freeze([...dimension.values]) }),
      }),
    ),
  );
}
