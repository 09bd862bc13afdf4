// The keys in words: rows for --help, the configuration page, the configuration in force for the log.

import { type ConfigKey, configKeys, SOURCE_PLACEHOLDER } from './keys.ts';
import type { Role } from './role.ts';
import type { Config } from './schema.ts';

export interface ConfigRow {
  readonly key: string;
  readonly kind: string;
  readonly env: string;
  /** Empty where there is none. */
  readonly flag: string;
  /** As one would write it in the file; empty where there is none. */
  readonly default: string;
  readonly help: string;
  readonly flag_help?: string;
  readonly live: boolean;
  /** The flag stands alone, or takes the value. */
  readonly takes_value: boolean;
}

/** Beginnings of the keys that a role does not read. */
const FOREIGN: Readonly<Record<Role, readonly string[]>> = {
  collector: ['reducer.', 'agent.'],
  reducer: ['collector.', 'agent.'],
  run: ['agent.'],
  agent: [
    ...['reducer.', 'data_dir', 'collector.intake_', 'collector.tls', 'collector.token'],
    ...['collector.allow_plaintext', 'collector.spool_'],
  ],
};

export function readsKey(role: Role, key: string): boolean {
  return !FOREIGN[role].some((head) => key.startsWith(head));
}

/** What --help of a role shows: the keys that it reads; a flag that means several keys stands once. */
export function describeConfig(
  sources?: readonly string[],
  role: Role = 'run',
): readonly ConfigRow[] {
  const rows = allRows(sources).filter((row) => readsKey(role, row.key));
  const first = new Map([...rows].reverse().map((row) => [row.flag, row.key]));
  return rows.map((row) => ({
    ...row,
    flag: first.get(row.flag) === row.key ? row.flag : '',
    help: row.flag_help ?? row.help,
  }));
}

function allRows(sources?: readonly string[]): readonly ConfigRow[] {
  return configKeys(sources).map((row) => ({
    key: row.key,
    kind: row.kind,
    env: row.env,
    flag: row.flag ?? '',
    default: shown(row.default),
    help: row.help,
    ...(row.flag_help !== undefined && { flag_help: row.flag_help }),
    live: row.live ?? false,
    takes_value: row.flag_value === undefined,
  }));
}

function shown(value: unknown): string {
  if (value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** `docs/configuration.md`: one table for each section. */
export function configurationPage(): string {
  const sections = new Map<string, ConfigRow[]>();
  for (const row of allRows()) {
    const section = row.key.split('.').slice(0, -1).join('.');
    sections.set(section, [...(sections.get(section) ?? []), row]);
  }
  const tables = [...sections].map(([section, rows]) => sectionTable(section, rows));
  return `${INTRODUCTION}\n${tables.join('\n')}`;
}

const INTRODUCTION = `# Configuration

Written by \`npm run docs\` from the schema in \`src/config/schema.ts\`; change it there.

A flag wins over a variable, a variable over the file (\`--config FILE\`, YAML with merge keys), the file over the default. Durations carry a
unit (\`500ms\`, \`10s\`, \`1m\`, \`7d\`), sizes too (\`64KiB\`, \`8MiB\`, \`1GB\`). Lists in variables and flags are separated by
commas. A faulty value stops the start with its place and the cure, exit status 2; so does an unknown key. Keys marked *live*
change on HUP, the others at the next start. \`${SOURCE_PLACEHOLDER}\` stands for the name of a source (\`tcp\`, \`udp\`). The section
\`collectors.ebpf\` of other agents' files is read as well: its \`enabled\`, \`interval\`, \`btf_path\`, \`pin_path\`, \`maps\`,
\`filter\` and \`metrics\` mean the keys of the same name in \`collector\` and \`agent\`; \`syscalls\`, \`network\`, \`fileio\`, \`scheduler\`,
\`memory\` and \`tcp_state\` (each \`true\`, \`false\` or \`{enabled: …}\`) switch the sources of that name. \`sonde start\` has other
defaults: these six sources alone, interval 15s, log to standard error, pins in \`/sys/fs/bpf/tfo-agent\`, kernel_prefix \`tfo\`, a ring of 2MiB.

\`sonde query\`, \`top\`, \`ledger\` and \`catalog\` read the same file and variables for where to ask: at \`reducer.listen\` with
\`reducer.token\` if it is set (trusting \`reducer.tls.cert_path\` whoever signed it, and showing the collector's certificate),
else at \`collector.intake_host\` and \`intake_port\` with the collector's token and TLS, else at
127.0.0.1:8000. \`--reducer HOST:PORT\` wins over all, with \`--token\` and \`--ca\`. In \`sonde run\` one role delivers to the other: with
\`reducer.tls\` it needs \`collector.tls\` too, and refuses to start without.
`;

function sectionTable(section: string, rows: readonly ConfigRow[]): string {
  const title = section === '' ? 'Both roles' : `\`${section}\``;
  const lines = rows.map((row) => {
    const name = row.key.split('.').at(-1) ?? row.key;
    const set_by = [row.env, row.flag].filter((part) => part !== '').map(code);
    const help = cell(row.live ? `${row.help} (*live*)` : row.help);
    return `| ${code(name)} | ${cell(row.kind)} | ${code(row.default)} | ${help} | ${set_by.join(' ')} |`;
  });
  const head = '| key | value | default | meaning | variable, flag |\n|---|---|---|---|---|';
  return `## ${title}\n\n${head}\n${lines.join('\n')}\n`;
}

function code(text: string): string {
  return text === '' ? '' : `\`${cell(text)}\``;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

/** One leaf of a configuration, by the key's path; `undefined` where it is not set. */
export function configValue(config: Config, key: string): unknown {
  return key.split('.').reduce<unknown>((node, name) => {
    if (typeof node !== 'object' || node === null || !Object.hasOwn(node, name)) return undefined;
    return Reflect.get(node, name);
  }, config);
}

/** The configuration in force, flat, for the log at start; secrets are named but not shown. */
export function configInForce(config: Config): Readonly<Record<string, unknown>> {
  const rows = configKeys(Object.keys(config.collector.probes));
  return Object.fromEntries(
    rows.map((row): [string, unknown] => {
      const value = configValue(config, row.key);
      return [row.key, row.secret && value !== undefined ? '(set, not shown)' : value];
    }),
  );
}

export interface ConfigChange {
  readonly key: string;
  readonly before: unknown;
  readonly after: unknown;
}

export interface ConfigDiff {
  /** Can be taken over while running. */
  readonly live: readonly ConfigChange[];
  /** Wait for the next start. */
  readonly restart: readonly ConfigChange[];
}

export function diffConfig(old: Config, next: Config): ConfigDiff {
  const names = [old, next].flatMap((config) => Object.keys(config.collector.probes));
  const changed = configKeys([...new Set(names)]).filter((row) => {
    return JSON.stringify(configValue(old, row.key)) !== JSON.stringify(configValue(next, row.key));
  });
  const change = (row: ConfigKey): ConfigChange => {
    const seen = (config: Config) => (row.secret ? '(not shown)' : configValue(config, row.key));
    return { key: row.key, before: seen(old), after: seen(next) };
  };
  return {
    live: changed.filter((row) => row.live).map(change),
    restart: changed.filter((row) => !row.live).map(change),
  };
}
