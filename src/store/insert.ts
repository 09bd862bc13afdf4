// The one INSERT of a batch: which columns of the Arrow stream go in, and what the store adds to each row.

import { insertableTypes, type TableSchema } from './schema.ts';
import { identifier, identifiers, literal } from './sql.ts';

export interface InsertShape {
  readonly host: string;
  readonly collector_id: string;
  readonly seq: number;
  /** Names of the columns in the Arrow stream. */
  readonly columns: readonly string[];
}

export interface InsertStatement {
  readonly statement: string;
  /** Names and types of the stream's columns, for `file()` and `input()`. */
  readonly structure: string;
  /** Columns that came and have no place: of a collector newer than this reducer. */
  readonly unknown: readonly string[];
}

export function insertStatement(schema: TableSchema, shape: InsertShape): InsertStatement {
  const types = insertableTypes(schema.definition);
  const columns = shape.columns.filter((name) => types.has(name));
  const unknown = shape.columns.filter((name) => !types.has(name));
  const structure = columns.map((name) => `${identifier(name)} ${types.get(name)}`).join(', ');
  const own = [literal(shape.host), literal(shape.collector_id), String(shape.seq)].join(', ');
  const into = `host, collector_id, batch_seq, ${identifiers(columns)}`;
  const statement = `INSERT INTO ${identifier(schema.base.name)} (${into}) SELECT ${own}, ${identifiers(columns)}`;
  return { statement, structure, unknown };
}
