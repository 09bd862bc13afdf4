// What the tests of deploy/ share: its files, and the configuration that they carry, held against the schema.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { probes } from '../../probes/index.ts';
import { configKeys } from '../../src/config/keys.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Role } from '../../src/config/role.ts';
import type { Config } from '../../src/config/schema.ts';

export const ROOT = join(import.meta.dirname, '../..');
export const DEPLOY = join(ROOT, 'deploy');

export const SOURCES = probes.map(({ name }) => name);

export type Tree = { readonly [name: string]: unknown };

export function textOf(path: string): string {
  return readFileSync(join(DEPLOY, path), 'utf8');
}

export function namesIn(folder: string, end: string): readonly string[] {
  return readdirSync(join(DEPLOY, folder)).filter((name) => name.endsWith(end));
}

/** The documents of a YAML file; any fault of its syntax fails. */
export function documentsOf(text: string, what: string): readonly Tree[] {
  return parseAllDocuments(text).map((document) => {
    assert.deepEqual(document.errors, [], what);
    return document.toJS();
  });
}

/** A value by its path; numbers are places in lists. */
export function at(tree: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>((node, name) => {
    return typeof node === 'object' && node !== null ? Reflect.get(node, name) : undefined;
  }, tree);
}

export function listAt(tree: unknown, ...path: readonly (string | number)[]): readonly Tree[] {
  const found = at(tree, ...path);
  return Array.isArray(found) ? found : [];
}

/** A configuration as a role would read it, without a fault. */
export function configOf(
  text: string,
  role: Role,
  env: Readonly<Record<string, string>> = {},
): Config {
  const path = join(tmpdir(), `sonde-deploy-${process.pid}.yaml`);
  writeFileSync(path, text);
  try {
    const { config, warnings } = loadConfig({ role, file: path, sources: SOURCES, env });
    // Sub-collectors that this sonde does not have are told of, and nothing else is.
    const others = warnings.filter((line) => !line.includes('has no such source yet'));
    assert.deepEqual(others, []);
    return config;
  } finally {
    rmSync(path);
  }
}

export function knowsVariable(name: string): boolean {
  return configKeys(SOURCES).some(({ env }) => env === name);
}

/** Capabilities of all sources that are on by themselves, and the two for the names of processes. */
export function rightsNeeded(): readonly string[] {
  const on = probes.filter(({ enabled_default }) => enabled_default !== false);
  const rights = on.flatMap((probe) => probe.rights);
  return [...new Set([...rights, 'CAP_SYS_PTRACE', 'CAP_DAC_READ_SEARCH'])];
}
