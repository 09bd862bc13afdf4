// What the engine shall have: tables with their columns, and those that a view fills from another.

export interface StoreColumn {
  readonly name: string;
  readonly type: string;
  readonly comment: string;
  /** An expression computed on reading; such a column is not stored and cannot be written. */
  readonly alias?: string;
}

/** A table as the engine shall have it. */
export interface StoreTable {
  readonly name: string;
  readonly columns: readonly StoreColumn[];
  readonly engine: string;
  readonly partition: string;
  /** The first names of `order` that stand in the index. */
  readonly primary: readonly string[];
  readonly order: readonly string[];
  readonly ttl_s: number;
  readonly comment: string;
}

/** A table that a materialized view fills from a base table. */
export interface Dependent {
  readonly table: StoreTable;
  readonly view: string;
  /** Width of its intervals in seconds: what a repair deletes and computes again. */
  readonly bucket_s: number;
  /** Aggregation of base rows; `where` narrows them (aliased `s`) for a repair. */
  readonly select: (where?: string) => string;
}
