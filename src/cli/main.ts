// The command line. One file a command, loaded only when it is called, so that the collector carries no store and
// `--help` comes at once.

import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { describeFailure } from './failure.ts';
import { addConfigOptions, addQueryOptions } from './options.ts';

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string }; // our own file

/** The words of the command line, and what the command file's function gets. */
export interface Call {
  readonly version: string;
  readonly args: readonly string[];
  /** By the flag's long name. */
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
}

export type Run = (call: Call) => Promise<number>;

function program(): Command {
  const top = new Command('sonde')
    .description(
      'eBPF telemetry: who talks to whom on this machine, counted exactly, without kprobes',
    )
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .showHelpAfterError('(sonde --help lists the commands)')
    .configureHelp({ showGlobalOptions: true })
    // Commands inherit it only from here on. Whatever is wrong with the words is the operator's: 2.
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));
  addRoles(top);
  addQuestions(top);
  return top;
}

function addRoles(top: Command): void {
  const run = command(
    top,
    'run',
    'collector, reducer and embedded store on this machine',
    async () => (await import('./run.ts')).run,
  );
  run.option('--for <seconds>', 'stop after so many seconds, with a last table');
  addConfigOptions(run);
  const collector = command(
    top,
    'kernel-collector',
    'gather from the kernel of this node and send to a reducer (needs rights, see README)',
    async () => (await import('./kernel-collector.ts')).run,
  );
  addConfigOptions(collector, 'collector');
  const reducer = command(
    top,
    'reducer',
    'take, store and serve what collectors send',
    async () => (await import('./reducer.ts')).run,
  );
  addConfigOptions(reducer, 'reducer');
}

function addQuestions(top: Command): void {
  const query = command(
    top,
    'query',
    'ask the running reducer in SQL',
    async () => (await import('./query.ts')).run,
  );
  query.argument(
    '<sql>',
    "for example 'SELECT process_name, sum(bytes_read) FROM netflow GROUP BY 1'",
  );
  query.option('--format <format>', 'table, json, csv or arrow', 'table');
  query.option('--fresh', 'first wait until all that the kernel saw before this call is stored');
  addQueryOptions(query);
  const live = command(
    top,
    'top',
    'live table of connections',
    async () => (await import('./top.ts')).run,
  );
  live.option('--sort <column>', 'read, written, new, closed, rtt or process', 'read');
  live.option('--once', 'print one table and end');
  addQueryOptions(live);
  const doctor = command(
    top,
    'doctor',
    'what this machine lacks for sonde, with the cure',
    async () => (await import('./doctor.ts')).run,
  );
  doctor.option('--json', 'as JSON');
  addConfigOptions(doctor);
  const ledger = command(
    top,
    'ledger',
    'what was seen, kept, folded and lost, stage by stage',
    async () => (await import('./ledger.ts')).run,
  );
  ledger.option('--json', 'as JSON');
  addQueryOptions(ledger);
  const detach = command(
    top,
    'detach',
    'remove programs that a killed collector left running',
    async () => (await import('./detach.ts')).run,
  );
  addConfigOptions(detach);
}

function command(top: Command, name: string, help: string, load: () => Promise<Run>): Command {
  return top
    .command(name)
    .description(help)
    .action(async (...given: unknown[]) => {
      const self = given.at(-1) as Command; // commander passes the command last
      try {
        const run = await load();
        process.exitCode = await run({ version, args: self.args, options: flagsOf(self) });
      } catch (error) {
        process.exitCode = describeFailure(error);
      }
    });
}

/** What was given, by long flag; defaults of the configuration are not among it. */
function flagsOf(self: Command): Record<string, string | boolean | undefined> {
  const flags: Record<string, string | boolean | undefined> = {};
  for (const option of self.options) {
    const value: unknown = self.getOptionValue(option.attributeName());
    if (option.negate) flags[option.long ?? ''] = value === false ? true : undefined;
    else if (typeof value === 'string' || typeof value === 'boolean')
      flags[option.long ?? ''] = value;
  }
  return flags;
}

const argv = process.argv.length > 2 ? process.argv : [...process.argv, '--help'];
await program().parseAsync(argv);
