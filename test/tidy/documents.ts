// What the documents claim about the tree is held against the tree.

import { type File, type Finding, linesOf } from './files.ts';

export const PROMISES = 'docs/promises.md';
export const DEPENDENCIES = 'docs/dependencies.md';

/** How many promises each of the five documents makes. */
const PROMISE_COUNT = { A: 8, B: 11, C: 3, D: 10, E: 9 };
const STATES = ['open', 'partly', 'done'];

interface Row {
  readonly line: number;
  readonly cells: readonly string[];
}

function rowsOf(file: File): readonly Row[] {
  return linesOf(file).flatMap((line, index) => {
    if (!line.startsWith('|') || /^\|[\s|:-]+$/.test(line)) return [];
    const cells = line.split(/(?<!\\)\|/).slice(1, -1);
    return [{ line: index + 1, cells: cells.map((cell) => cell.trim()) }];
  });
}

interface Project {
  readonly paths: ReadonlySet<string>;
  /** Names under "scripts" in package.json. */
  readonly scripts: readonly string[];
}

export function promises(file: File, project: Project): Finding[] {
  const rows = rowsOf(file).filter((row) => /^[A-E]\d+$/.test(row.cells[0]));
  const wanted = Object.entries(PROMISE_COUNT).flatMap(([letter, count]) =>
    Array.from({ length: count }, (_, index) => `${letter}${index + 1}`),
  );
  const missing = wanted
    .filter((id) => rows.filter((row) => row.cells[0] === id).length !== 1)
    .map((id) => ({
      path: file.path,
      line: 1,
      problem: `${id} does not stand there exactly once`,
      cure: 'give it one row',
    }));
  return [...missing, ...rows.flatMap((row) => promiseRow(file, row, project))];
}

function promiseRow(file: File, { line, cells }: Row, project: Project): Finding[] {
  const [id, , shown_by, state] = cells;
  const finding = (problem: string, cure: string): Finding => ({
    ...{ path: file.path, line },
    problem: `${id} ${problem}`,
    cure,
  });
  if (!STATES.includes(state)) return [finding(`has the state "${state}"`, STATES.join(', '))];
  const named = [...shown_by.matchAll(/`([^`]+)`/g)].map((match) => match[1]);
  const bad = named.filter((name) => !exists(name, project));
  const absent = bad.map((name) => finding(`is shown by ${name}, which does not exist`, 'mend it'));
  if (state !== 'done' || named.length > 0) return absent;
  return [finding('is done, but nothing shows it', 'name a command or a test file in backticks')];
}

/** A command of the project, or a file in it. */
function exists(name: string, project: Project): boolean {
  const npm = /^npm (?:run )?([\w:-]+)/.exec(name);
  if (npm) return project.scripts.includes(npm[1]);
  if (name.startsWith('./sonde ') || name.startsWith('sonde ')) return true;
  return !/^[\w./-]+\.\w+$/.test(name) || project.paths.has(name);
}

export interface Package {
  readonly dependencies: readonly string[];
  readonly devDependencies: readonly string[];
  /** Every bare specifier that a source file imports, with what imports it. */
  readonly imports: ReadonlyMap<string, readonly string[]>;
}

/** Each package has a row with its reason, and is imported or named by the file that the row gives. */
export function dependencies(file: File, own: Package, read: (path: string) => string): Finding[] {
  const rows = new Map(rowsOf(file).map((row) => [row.cells[0].replaceAll('`', ''), row]));
  const all = [...own.dependencies, ...own.devDependencies];
  const undeclared = [...own.imports].filter(([name]) => !all.includes(name));
  return [
    ...all.flatMap((name) => dependencyRow(file, name, rows.get(name), own, read)),
    ...undeclared.map(([name, by]) => ({
      ...{ path: by[0], line: 1, problem: `imports ${name}, which package.json does not name` },
      cure: 'add it there and in docs/dependencies.md, or do without it',
    })),
  ];
}

function dependencyRow(
  file: File,
  name: string,
  row: Row | undefined,
  own: Package,
  read: (path: string) => string,
): Finding[] {
  const line = row?.line ?? 1;
  const finding = (problem: string, cure: string) => [{ path: file.path, line, problem, cure }];
  if (!row || row.cells[1].length < 20) {
    return finding(`gives no reason for ${name}`, 'say what it does here and why not without it');
  }
  if (own.imports.has(name)) return [];
  const users = [...row.cells[2].matchAll(/`([^`]+)`/g)].map((match) => match[1]);
  if (users.some((path) => read(path).includes(row.cells[3]?.replaceAll('`', '') || name)))
    return [];
  return finding(
    `${name} is used nowhere`,
    'remove it from package.json, or name the file that uses it',
  );
}
