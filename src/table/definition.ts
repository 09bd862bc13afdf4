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
