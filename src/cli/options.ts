// Flags: those of the configuration come from its schema, so that they are written once.

import { type Command, Option } from 'commander';
import { probes } from '../../probes/index.ts';
import { describeConfig } from '../config/describe.ts';
import { type Loaded, loadConfig } from '../config/load.ts';
import { type ReducerAt, type Role, reducerAt } from '../config/role.ts';
import type { Call } from './call.ts';

const SOURCES = probes.map(({ name }) => name);

export function addConfigOptions(command: Command, role: Role = 'run'): void {
  command.option('--config <file>', 'YAML configuration');
  for (const row of describeConfig(SOURCES, role)) {
    if (row.flag === '') continue;
    const flags = row.takes_value ? `${row.flag} <${row.kind}>` : row.flag;
    const notes = [row.default && row.takes_value ? `default ${row.default}` : '', row.env];
    command.addOption(
      new Option(flags, `${row.help} (${notes.filter((n) => n !== '').join('; ')})`),
    );
  }
}

/** For commands that ask a running reducer. */
export function addQueryOptions(command: Command): void {
  command.option(
    '--reducer <host:port>',
    'where the reducer listens (default, by --config and variables: reducer.listen, else the intake_host and intake_port; 127.0.0.1:8000)',
  );
  command.option('--config <file>', 'YAML configuration that says where the reducer listens');
  command.option('--token <token>', 'bearer token of the reducer (SONDE_TOKEN)');
  command.option('--ca <file>', 'certificates that may sign the reducer; turns TLS on');
  command.option('--data-dir <path>', 'read the embedded store here when no reducer runs');
  command.option('--timeout <seconds>', 'give up after so many seconds', '60');
}

/** @throws {ConfigError} with every fault of file, variables and flags. */
export function configOf(role: Role, call: Call): Loaded {
  const { '--config': file, '--for': _, '--json': __, '--grant': ___, ...flags } = call.options;
  return loadConfig({
    role,
    file: typeof file === 'string' ? file : undefined,
    env: process.env,
    flags,
    sources: SOURCES,
  });
}

/** The reducer that file and variables name. @throws {ConfigError} */
export function reducerOf(call: Call): ReducerAt {
  const file = call.options['--config'];
  const loaded = loadConfig({
    ...(typeof file === 'string' && { file }),
    env: process.env,
    sources: SOURCES,
  });
  return reducerAt(loaded.config, loaded.originOf);
}

/** The configuration flags of a call that a role takes, as words again, for a child process. */
export function configWords(call: Call, role: Role): string[] {
  const known = new Set(['--config', ...describeConfig(SOURCES, role).map(({ flag }) => flag)]);
  const words: string[] = [];
  for (const [flag, value] of Object.entries(call.options)) {
    if (!known.has(flag) || value === undefined || value === false) continue;
    words.push(flag, ...(typeof value === 'string' ? [value] : []));
  }
  return words;
}
