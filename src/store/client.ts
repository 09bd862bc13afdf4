// The store: batches in, once each; questions answered. Embedded in a folder or a ClickHouse server by URL, with the same
// schema and SQL. Nothing here throws for a full disk or an engine in trouble: those are values, and no acknowledgement.

import { join } from 'node:path';
import { tableFromIPC } from 'apache-arrow';
import type { TableDefinition } from '../table/definition.ts';
import { type Engine, openEngine, type ServerTarget } from './engine.ts';
import { failure, failureOf, type StoreFailure } from './failure.ts';
import { insertStatement } from './insert.ts';
import { type Journal, type JournalEntry, openJournal } from './journal.ts';
import {
  cancelled,
  type OutputFormat,
  type QueryLimits,
  type QueryResult,
  runQuery,
} from './query.ts';
import { recoverBatch } from './recovery.ts';
import {
  type ExistingSchema,
  migrationStatements,
  RETENTION_DEFAULT,
  type Retention,
  type TableSchema,
  tableSchema,
} from './schema.ts';
import { Slots } from './slots.ts';
import { identifier, literal } from './sql.ts';

export interface StoreConfig {
  /** A folder for the embedded engine, made if missing; or a server. */
  readonly target: { readonly dir: string } | ServerTarget;
  readonly tables: readonly TableDefinition[];
  /** Absent: new tables get the default, and those that are there keep theirs. */
  readonly retention?: Retention;
}

/** One batch as it came from a collector, with what the reducer knows of it. */
export interface StoreBatch {
  readonly table: string;
  readonly collector_id: string;
  /** From 1, ascending for each collector and table. */
  readonly seq: number;
  readonly host: string;
  /** An Arrow IPC stream; columns that the table does not have are left out. */
  readonly arrow: Uint8Array;
}

export interface Stored {
  readonly ok: true;
  readonly rows: number;
  /** Columns of a newer collector, left out. */
  readonly unknown: readonly string[];
}

export interface StoreStats {
  readonly batches: number;
  readonly rows: number;
  readonly bytes: number;
  readonly failures: number;
  readonly recovered: number;
  readonly inserting: number;
  readonly queries: number;
}

/** The engine's calls run on four threads of the process: two are left for intake and files. */
const QUERIES_MAX = 2;
const QUERIES_WAITING_MAX = 32;
const INSERTS_MAX = 1;
const INSERTS_WAITING_MAX = 1024;
const REPAIRED_MAX = 10_000;
const COLLECTOR_PATTERN = /^[A-Za-z0-9_.:@-]{1,128}$/;

/** A whole batch must be one block, so that it is stored whole or not at all. */
const INSERT_SETTINGS = {
  insert_deduplicate: 1,
  deduplicate_blocks_in_dependent_materialized_views: 1,
  async_insert: 0,
  max_insert_threads: '1',
  max_threads: 1,
  max_block_size: '4194304',
  max_insert_block_size: '4194304',
  min_insert_block_size_rows: '4194304',
  min_insert_block_size_bytes: '1073741824',
} as const;

export class Store {
  readonly kind: 'embedded' | 'server';
  readonly schemas: ReadonlyMap<string, TableSchema>;
  readonly #engine: Engine;
  readonly #journal: Journal | undefined;
  readonly #retention: Retention;
  readonly #inserts = new Slots(INSERTS_MAX, INSERTS_WAITING_MAX);
  readonly #queries = new Slots(QUERIES_MAX, QUERIES_WAITING_MAX);
  /** Batches whose insertion failed half way: the next try repairs instead of inserting. */
  readonly #broken = new Map<string, JournalEntry>();
  /** Tokens of repaired batches: the engine does not know these, so that a repeat is recognised here. */
  readonly #repaired = new Set<string>();
  readonly #counts = { batches: 0, rows: 0, bytes: 0, failures: 0, recovered: 0 };
  #closed = false;

  private constructor(engine: Engine, journal: Journal | undefined, config: StoreConfig) {
    this.kind = engine.kind;
    this.#engine = engine;
    this.#journal = journal;
    this.#retention = config.retention ?? RETENTION_DEFAULT;
    const schemas = config.tables.map((def) => tableSchema(def, this.#retention));
    this.schemas = new Map(schemas.map((schema) => [schema.base.name, schema]));
  }

  /**
   * Opens the store, brings its tables up to date and repairs what a crash left half done.
   * Throws StoreOperatorError (engine missing, folder in use) or the engine's error for a schema it refuses.
   */
  static async open(config: StoreConfig): Promise<Store> {
    const { target } = config;
    let journal: Journal | undefined;
    const engine = await openEngine(target);
    try {
      // Only now is the folder ours: the engine holds its lock.
      if ('dir' in target) journal = openJournal(join(target.dir, 'journal'));
      const store = new Store(engine, journal, config);
      await store.#migrate(config.retention !== undefined);
      await store.#recoverAll();
      return store;
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  /** Stores a batch once. A repeat (same collector, table and sequence) changes nothing and is `ok` too. */
  async insert(batch: StoreBatch): Promise<Stored | StoreFailure> {
    const schema = this.schemas.get(batch.table);
    if (schema === undefined) return failure('bad_batch', `No table is called "${batch.table}"`);
    const checked = checkBatch(batch);
    if (!checked.ok) return this.#failed(checked);
    const slot = await this.#inserts.take();
    if (slot === undefined) return this.#failed(failure('busy', 'Too many batches wait'));
    try {
      return await this.#insertOne(schema, checked.entry, batch.arrow);
    } finally {
      slot.release();
    }
  }

  async #insertOne(
    schema: TableSchema,
    entry: JournalEntry,
    arrow: Uint8Array,
  ): Promise<Stored | StoreFailure> {
    if (this.#closed) return failure('closed', 'The store is closed');
    const token = tokenOf(entry);
    const broken = this.#broken.get(token);
    const { statement, structure, unknown } = insertStatement(schema, entry);
    if (this.#repaired.has(token)) return { ok: true, rows: entry.rows, unknown };
    try {
      if (broken !== undefined) {
        await this.#recover(schema, broken);
      } else {
        const path = this.#journal?.write(entry, arrow);
        // From here on nobody knows how far it got, until it is done.
        if (path !== undefined) this.#broken.set(token, entry);
        await this.#engine.insertArrow({
          statement,
          structure,
          source: { bytes: arrow, ...(path !== undefined && { path }) },
          settings: { ...INSERT_SETTINGS, insert_deduplication_token: token },
        });
        this.#journal?.remove(entry);
      }
    } catch (error) {
      const gone = this.#journal?.gone();
      return this.#failed(gone === undefined ? failureOf(error) : failure('engine', gone));
    }
    this.#broken.delete(token);
    this.#counts.batches += 1;
    this.#counts.rows += entry.rows;
    this.#counts.bytes += arrow.byteLength;
    return { ok: true, rows: entry.rows, unknown };
  }

  /** Highest stored sequence by collector and table: what a restarted reducer knows. */
  async maxSeqs(): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>> {
    const all = new Map<string, Map<string, number>>();
    for (const table of this.schemas.keys()) {
      const rows = await this.#read(
        `SELECT collector_id, max(batch_seq) FROM ${identifier(table)} GROUP BY collector_id`,
      );
      for (const [collector_id, seq] of rows) {
        const seqs = all.get(collector_id!) ?? new Map<string, number>();
        seqs.set(table, Number(seq));
        all.set(collector_id!, seqs);
      }
    }
    return all;
  }

  /** Answers a user's SQL, which can only read the store's own tables; until `signal`, where there is one. */
  async query(
    sql: string,
    format: OutputFormat,
    limits: Partial<QueryLimits> = {},
    signal?: AbortSignal,
  ): Promise<QueryResult> {
    if (this.#closed) return failure('closed', 'The store is closed');
    const slot = await this.#queries.take(signal);
    if (slot === undefined) {
      return signal?.aborted ? cancelled() : failure('busy', 'Too many queries wait: try again');
    }
    const release = () => slot.release();
    return await runQuery(this.#engine, { sql, format, limits, signal }, release);
  }

  stats(): StoreStats {
    const { inUse: inserting } = this.#inserts;
    return { ...this.#counts, inserting, queries: this.#queries.inUse };
  }

  /** Waits for running inserts. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#inserts.drain();
    await this.#queries.drain();
    await this.#engine.close();
  }

  #failed(value: StoreFailure): StoreFailure {
    this.#counts.failures += 1;
    return value;
  }

  async #recover(schema: TableSchema, entry: JournalEntry): Promise<void> {
    const journal = this.#journal;
    if (journal === undefined) return;
    const path = journal.arrowPath(entry);
    await recoverBatch(this.#engine, schema, entry, path, this.#retention.raw_s);
    journal.remove(entry);
    this.#counts.recovered += 1;
    this.#repaired.add(tokenOf(entry));
    for (const oldest of this.#repaired) {
      if (this.#repaired.size <= REPAIRED_MAX) break;
      this.#repaired.delete(oldest);
    }
  }

  async #recoverAll(): Promise<void> {
    for (const entry of this.#journal?.leftovers() ?? []) {
      const schema = this.schemas.get(entry.table);
      // A table that this version no longer has keeps its entry for the one that has it.
      if (schema !== undefined) await this.#recover(schema, entry);
    }
  }

  async #migrate(with_retention: boolean): Promise<void> {
    const existing = await this.#existing();
    await this.#engine.session(async (client) => {
      for (const schema of this.schemas.values()) {
        const statements = migrationStatements(schema, existing, with_retention);
        for (const query of statements) await client.command({ query });
      }
    });
  }

  async #existing(): Promise<ExistingSchema> {
    const names = [...this.schemas.values()].flatMap((schema) => [
      schema.base.name,
      ...schema.dependents.map((dependent) => dependent.table.name),
    ]);
    const list = names.map(literal).join(', ') || "''";
    const where = `database = currentDatabase() AND table IN (${list})`;
    const columns = new Map<string, Set<string>>();
    for (const [table, name] of await this.#read(
      `SELECT table, name FROM system.columns WHERE ${where}`,
    )) {
      const set = columns.get(table!) ?? new Set<string>();
      columns.set(table!, set.add(name!));
    }
    const views = await this.#read(
      "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'",
    );
    return { columns, views: new Set(views.map(([name]) => name!)) };
  }

  async #read(query: string): Promise<readonly (readonly string[])[]> {
    return await this.#engine.session(async (client) => {
      const result = await client.query({ query, format: 'JSONCompactStringsEachRow' });
      return await result.json<string[]>();
    });
  }
}

function tokenOf(entry: JournalEntry): string {
  return `${entry.collector_id}:${entry.table}:${entry.seq}`;
}

type Checked = { readonly ok: true; readonly entry: JournalEntry } | StoreFailure;

/** What a peer sent is checked before it becomes SQL or a file name. */
function checkBatch(batch: StoreBatch): Checked {
  const { table, collector_id, seq, host, arrow } = batch;
  if (!COLLECTOR_PATTERN.test(collector_id)) {
    return failure('bad_batch', 'collector_id is not 1 to 128 letters, digits or . _ : @ -');
  }
  if (!Number.isSafeInteger(seq) || seq < 0) return failure('bad_batch', `seq is ${seq}`);
  try {
    const { schema, numRows: rows } = tableFromIPC(arrow);
    const columns = schema.fields.map((field) => field.name);
    if (!columns.includes('time')) return failure('bad_batch', 'It has no column "time"');
    return { ok: true, entry: { table, collector_id, seq, host, rows, columns } };
  } catch (error) {
    return failure('bad_batch', `Not an Arrow stream: ${failureOf(error).message}`);
  }
}
