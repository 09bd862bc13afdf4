// What is known of a configuration before its schema is asked: the tree, and where each value came from.

import type { ConfigFile, Tree } from './file.ts';

export interface Draft {
  readonly tree: Tree;
  readonly origins: Map<string, string>;
  readonly warnings: string[];
  /** Keys that the file holds under another name: ours → the file's path. */
  readonly moved: Map<string, readonly string[]>;
  readonly fileWhere: ConfigFile['where'];
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function valueAt(tree: unknown, at: readonly PropertyKey[]): unknown {
  return at.reduce<unknown>((node, name) => {
    return isTree(node) && Object.hasOwn(node, name) ? node[String(name)] : undefined;
  }, tree);
}

export function setValue(tree: Tree, at: readonly string[], value: unknown): void {
  let node = tree;
  for (const name of at.slice(0, -1)) {
    const next = Object.hasOwn(node, name) ? node[name] : undefined;
    // A section that is no section stays as it is: the schema reports it with its place.
    if (next !== undefined && !isTree(next)) return;
    const section: Tree = next ?? {};
    node[name] = section;
    node = section;
  }
  node[at[at.length - 1]] = value;
}

export function setDefault(tree: Tree, at: readonly string[]): void {
  if (valueAt(tree, at) === undefined) setValue(tree, at, {});
}

/** The place in the file of one of our paths, under the name that the file has for it. */
export function placeInFile(draft: Draft, at: readonly string[], of?: 'key'): string {
  for (let length = at.length; length > 0; length--) {
    const moved = draft.moved.get(at.slice(0, length).join('.'));
    if (moved) return draft.fileWhere([...moved, ...at.slice(length)], of);
  }
  return draft.fileWhere(at, of);
}
