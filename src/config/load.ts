// From file, variables and flags to the configuration in force. A flag wins over a variable, a variable over the file,
// the file over the default. Every fault found is reported at once, each with its place.

import { resolve } from 'node:path';
import type * as z from 'zod';
import { moveDocumentSection, setAgentDefaults } from './document.ts';
import { type Draft, isTree, placeInFile, setDefault, setValue, valueAt } from './draft.ts';
import { ConfigError, type ConfigIssue, quoteValue } from './error.ts';
import { readConfigFile } from './file.ts';
import { type ConfigKey, configKeys, namesBelow } from './keys.ts';
import { checkRole, type Role } from './role.ts';
import { type Config, config_schema } from './schema.ts';
import { didYouMean } from './suggest.ts';

export interface LoadOptions {
  /** Left out: nothing is started, so that no role's needs are checked. */
  readonly role?: Role;
  readonly file?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** By the flag's long name: `{'--interval': '5s', '--log-console': true}`. Unknown ones are the caller's fault. */
  readonly flags?: Readonly<Record<string, string | boolean | undefined>>;
  /** The names of the sources, from the list of probes. */
  readonly sources?: readonly string[];
}

export interface Loaded {
  readonly config: Config;
  /** Worth one line in the log each; nothing that stops. */
  readonly warnings: readonly string[];
  /** Where a key's value came from: `file:line:column`, a variable, a flag, or `default`. */
  readonly originOf: (key: string) => string;
}

export function loadConfig(options: LoadOptions): Loaded {
  const sources = options.sources ?? [];
  const keys = configKeys(sources);
  const draft = draftOf(options.file);
  moveDocumentSection(draft, sources);
  for (const source of sources) setDefault(draft.tree, ['collector', 'probes', source]);
  if (options.role === 'agent') setAgentDefaults(draft, sources, keys);
  applyEnvironment(draft, keys, options.env ?? {});
  applyFlags(draft, keys, options.flags ?? {});
  const parsed = config_schema.safeParse(draft.tree);
  if (!parsed.success) {
    throw new ConfigError(parsed.error.issues.flatMap((issue) => explain(issue, draft, keys)));
  }
  const config = { ...parsed.data, data_dir: resolve(parsed.data.data_dir) };
  const origin = (key: string): string => originOf(draft, key);
  const needs = options.role === undefined ? [] : checkRole(options.role, config);
  const issues = [...checkSources(config, sources), ...needs];
  if (issues.length > 0) {
    throw new ConfigError(issues.map((issue) => placed(issue, origin(issue.key))));
  }
  return { config, warnings: draft.warnings, originOf: origin };
}

function placed(issue: ConfigIssue, origin: string): ConfigIssue {
  return { ...issue, where: issue.where || (origin === 'default' ? '' : origin) };
}

function draftOf(file: string | undefined): Draft {
  const read = file === undefined ? undefined : readConfigFile(file);
  return {
    tree: read?.tree ?? {},
    origins: new Map(),
    warnings: [],
    moved: new Map(),
    fileWhere: read?.where ?? (() => ''),
  };
}

function originOf(draft: Draft, key: string): string {
  const at = key.split('.');
  if (valueAt(draft.tree, at) === undefined) return 'default';
  return draft.origins.get(key) ?? (placeInFile(draft, at) || 'default');
}

type Environment = Readonly<Record<string, string | undefined>>;

function applyEnvironment(draft: Draft, keys: readonly ConfigKey[], env: Environment): void {
  for (const row of keys) {
    const value = env[row.env];
    // Set but empty is how a shell or a manifest says "not set".
    if (value === undefined || value === '') continue;
    setValue(draft.tree, row.key.split('.'), value);
    draft.origins.set(row.key, row.env);
  }
  const known = new Set(keys.map((row) => row.env));
  for (const name of Object.keys(env)) {
    if (known.has(name) || !OURS.test(name) || FROM_KUBERNETES.test(name)) continue;
    draft.warnings.push(`${name}: no such variable, ignored; ${didYouMean(name, [...known])}`);
  }
}

const OURS = /^(SONDE_(COLLECTOR|REDUCER|LOG)_|EBPF_NET_)/;
/** Kubernetes sets these for a service called sonde-reducer; they are none of ours. */
const FROM_KUBERNETES = /_(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)$/;

function applyFlags(
  draft: Draft,
  keys: readonly ConfigKey[],
  flags: NonNullable<LoadOptions['flags']>,
): void {
  for (const row of keys) {
    const given = row.flag === undefined ? undefined : flags[row.flag];
    if (row.flag === undefined || given === undefined || given === false) continue;
    setValue(draft.tree, row.key.split('.'), row.flag_value ?? given);
    draft.origins.set(row.key, row.flag);
  }
}

function checkSources(config: Config, sources: readonly string[]): readonly ConfigIssue[] {
  const unknown = (key: string, name: string): ConfigIssue => {
    const problem = `${quoteValue(name)} is no source`;
    return { where: '', key, problem, cure: didYouMean(name, sources) };
  };
  return [
    ...Object.keys(config.collector.probes)
      .filter((name) => !sources.includes(name))
      .map((name) => unknown(`collector.probes.${name}`, name)),
    ...config.collector.fail_sources
      .filter((name) => !sources.includes(name))
      .map((name) => unknown('collector.fail_sources', name)),
  ];
}

/** A fault of the schema, in the operator's words and with its place. */
function explain(issue: z.core.$ZodIssue, draft: Draft, keys: readonly ConfigKey[]): ConfigIssue[] {
  const at = issue.path.map(String);
  const key = at.join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((name) => ({
      where: placeInFile(draft, [...at, name], 'key'),
      key: [...at, name].join('.'),
      problem: 'is no known key',
      cure: didYouMean(name, namesBelow(at)),
    }));
  }
  const row = keys.find((candidate) => candidate.key === key);
  const value = valueAt(draft.tree, at);
  const shown =
    row?.secret || value === undefined || isTree(value) ? {} : { value: quoteValue(value) };
  const where = draft.origins.get(key) ?? placeInFile(draft, at);
  if (issue.code !== 'custom') {
    const cure = `give the keys of this section: ${namesBelow(at).join(', ')}`;
    return [{ where, key, ...shown, problem: 'is no section', cure }];
  }
  const cure = String(issue.params?.cure ?? 'see docs/configuration.md');
  return [{ where, key, ...shown, problem: issue.message, cure }];
}
