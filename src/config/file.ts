// Reads the YAML file: YAML 1.2 core schema and merge keys (`<<: *anchor`), no duplicate keys, no tags of one's own, and for
// every value its line and column, so that a fault found later by the schema can still point into the file.

import { readFileSync } from 'node:fs';
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml';
import { ConfigError, type ConfigIssue } from './error.ts';

export type Tree = { [name: string]: unknown };

export interface ConfigFile {
  readonly tree: Tree;
  /** `file:line:column` of the value at a path, or of its key; of the nearest parent where it is absent. */
  readonly where: (path: readonly PropertyKey[], of?: 'key' | 'value') => string;
}

const FILE_BYTES_MAX = 1 << 20;
const ALIASES_MAX = 32;

export function readConfigFile(name: string): ConfigFile {
  let text: string;
  try {
    text = readFileSync(name, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw fault(
      name,
      `cannot be read (${reason})`,
      'give a file that exists and that this user may read',
    );
  }
  return parseConfigFile(name, text);
}

export function parseConfigFile(name: string, text: string): ConfigFile {
  if (text.length > FILE_BYTES_MAX)
    throw fault(name, 'is longer than 1 MiB', 'give a smaller file');
  const lines = new LineCounter();
  const options = { version: '1.2', schema: 'core', merge: true, lineCounter: lines } as const;
  const document = parseDocument(text, options);
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const errors = [...document.errors, ...document.warnings].map((error): ConfigIssue => {
    const problem =
      error.code === 'MULTIPLE_DOCS'
        ? 'begins a second document, and one alone is read'
        : error.message.split('\n')[0].replace(/ at line \d+, column \d+:?$/, '');
    return { where: at(error.pos[0]), key: '', problem, cure: 'mend the YAML there' };
  });
  if (errors.length > 0) throw new ConfigError(errors);
  return { tree: treeOf(name, document), where: (path, of) => at(offsetOf(document, path, of)) };
}

function treeOf(name: string, document: Document): Tree {
  if (document.contents === null || isEmptyScalar(document.contents)) return {};
  if (!isMap(document.contents)) {
    throw fault(
      `${name}:1:1`,
      'holds no mapping at the top',
      'write keys and values, such as log:',
    );
  }
  try {
    return nullsUnset(document.toJS({ maxAliasCount: ALIASES_MAX }));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw fault(name, `cannot be unfolded (${reason})`, 'write the values out instead of by alias');
  }
}

function isEmptyScalar(node: unknown): boolean {
  return isScalar(node) && node.value === null;
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * A section whose lines are all commented out is null in YAML; here its value is the same as absent. Its name stays, so that
 * one that is not known is refused.
 */
function nullsUnset(tree: unknown): Tree {
  if (!isTree(tree)) return {};
  const unset = (value: unknown) => (isTree(value) ? nullsUnset(value) : (value ?? undefined));
  return Object.fromEntries(Object.entries(tree).map(([name, value]) => [name, unset(value)]));
}

/** Where in the text a path begins: a value's own place, a key's where the value is a section. */
function offsetOf(document: Document, path: readonly PropertyKey[], of = 'value'): number {
  let node: unknown = document.contents;
  let offset = 0;
  for (const name of path) {
    const next = isMap(node)
      ? node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(name))
      : undefined;
    if (!next) break;
    const value: unknown = next.value;
    const shown = isScalar(value) && of === 'value' ? value : next.key;
    if (isNode(shown) && shown.range) offset = shown.range[0];
    node = value;
  }
  return offset;
}

function fault(where: string, problem: string, cure: string): ConfigError {
  return new ConfigError([{ where, key: '', problem, cure }]);
}
