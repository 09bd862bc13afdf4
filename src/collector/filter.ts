// Which processes are reported (`collector.filter`). Asked of the rows of a closed interval, so that every table with
// columns about a process is filtered, whatever probe fills it, and so that what is left out is counted row by row.

import type { Config } from '../config/schema.ts';
import { type Batch, isStringColumn } from '../table/columns.ts';
import type { Ledger } from '../table/ledger.ts';
import { selectRows } from '../table/select.ts';

export type FilterOptions = Config['collector']['filter'];

type Test = (text: string) => boolean;

/** Columns of tables that are about processes, and how a value is held against the lists. */
interface Column {
  readonly name: string;
  readonly include: Test | undefined;
  readonly exclude: Test | undefined;
}

export class ProcessFilter {
  readonly #ledger: Ledger;
  #columns: readonly Column[] = [];

  constructor(options: FilterOptions, ledger: Ledger) {
    this.#ledger = ledger;
    this.update(options);
  }

  update(options: FilterOptions): void {
    const { include_names, exclude_names, include_cgroups, exclude_cgroups } = options;
    const all: readonly Column[] = [
      column('process_name', include_names, exclude_names, globOf),
      column('pid', options.include_pids.map(String), options.exclude_pids.map(String), plainOf),
      column('cgroup_path', include_cgroups, exclude_cgroups, subtreeOf),
    ];
    const asked = all.some(({ include, exclude }) => include ?? exclude);
    this.#columns = asked ? all : [];
  }

  /** A row passes that no list excludes, and that any of the including lists names where there are such. */
  apply(batches: readonly Batch[]): readonly Batch[] {
    if (this.#columns.length === 0) return batches;
    return batches.map((batch) => this.#filtered(batch)).filter(({ rows }) => rows > 0);
  }

  #filtered(batch: Batch): Batch {
    const own = this.#columns.flatMap((one) => {
      const index = batch.definition.dimensions.findIndex(({ name }) => name === one.name);
      const values = batch.dimensions[index];
      return values === undefined ? [] : [{ ...one, values }];
    });
    if (own.length === 0) return batch; // not about processes
    const includes = own.flatMap(({ values, include }) =>
      include ? [onRows(values, include)] : [],
    );
    const excludes = own.flatMap(({ values, exclude }) =>
      exclude ? [onRows(values, exclude)] : [],
    );
    if (includes.length === 0 && excludes.length === 0) return batch;
    const rows: number[] = [];
    for (let row = 0; row < batch.rows; row += 1) {
      const named = includes.length === 0 || includes.some((test) => test(row));
      if (named && !excludes.some((test) => test(row))) rows.push(row);
    }
    this.#book(batch, rows.length);
    return rows.length === batch.rows ? batch : selectRows(batch, Int32Array.from(rows));
  }

  #book(batch: Batch, kept: number): void {
    const { name } = batch.definition;
    this.#ledger.seen('filter', name, batch.rows);
    this.#ledger.kept('filter', name, kept);
    this.#ledger.sampled('filter', name, batch.rows - kept);
  }
}

function column(
  name: string,
  include: readonly string[],
  exclude: readonly string[],
  testOf: (pattern: string) => Test,
): Column {
  return { name, include: anyOf(include.map(testOf)), exclude: anyOf(exclude.map(testOf)) };
}

function anyOf(tests: readonly Test[]): Test | undefined {
  return tests.length === 0 ? undefined : (text) => tests.some((test) => test(text));
}

function plainOf(pattern: string): Test {
  return (text) => text === pattern;
}

/** `*` stands for any text. */
function globOf(pattern: string): Test {
  const parts = pattern.split('*').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const whole = new RegExp(`^${parts.join('.*')}$`, 's');
  return (text) => whole.test(text);
}

/** The cgroup of this path, and all below it. */
function subtreeOf(pattern: string): Test {
  const root = `/${pattern.replaceAll(/^\/+|\/+$/g, '')}`;
  const own = globOf(root);
  const below = globOf(root === '/' ? '/*' : `${root}/*`);
  return (text) => own(text) || below(text);
}

/** Each text of a dictionary is held against the lists once, not once a row. */
function onRows(values: Batch['dimensions'][number], test: Test): (row: number) => boolean {
  if (!isStringColumn(values)) return (row) => test(String(values.values[row]));
  const answers = values.dictionary.map(test);
  return (row) => answers[values.ids[row]!] === true;
}
