// What every command line of sonde is made of: the program, a command with its loader, and how words become a call.
// main.ts is the whole of it; collector_main.ts has the collector alone, for the bundle that runs as that role.

import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import type { Run } from './call.ts';
import { describeFailure } from './failure.ts';
import { addConfigOptions } from './options.ts';
import { print } from './output.ts';

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string }; // our own file

export function program(): Command {
  return (
    new Command('sonde')
      .description(
        'eBPF telemetry: who talks to whom on this machine, counted exactly, without kprobes',
      )
      .version(version, '-V, --version', 'print the version')
      .helpOption('-h, --help', 'print this help')
      .showHelpAfterError('(sonde --help lists the commands)')
      .configureHelp({ showGlobalOptions: true })
      .configureOutput({ writeOut: print })
      // Commands inherit it only from here on. Whatever is wrong with the words is the operator's: 2.
      .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  );
}

export function command(
  top: Command,
  name: string,
  help: string,
  load: () => Promise<Run>,
): Command {
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

/** The role that both command lines have. */
export function addCollector(top: Command): void {
  const collector = command(
    top,
    'kernel-collector',
    'gather from the kernel of this node and send to a reducer (needs rights, see README)',
    async () => (await import('./kernel-collector.ts')).run,
  );
  addConfigOptions(collector, 'collector');
}

/** Runs the command that the words of this process name; without any, tells which there are. */
export async function parse(top: Command): Promise<void> {
  const [node = '', file = '', ...words] = process.argv;
  const [first, second] = words;
  const names = top.commands.map((one) => one.name());
  // of a command that there is not, `help` would print the list alone: called, it is named
  const unknown = first === 'help' && second !== undefined && !names.includes(second);
  const given = unknown ? [second] : words.length > 0 ? words : ['--help'];
  try {
    await top.parseAsync([node, file, ...given]);
  } catch (error) {
    process.exitCode = describeFailure(error); // a help that cannot be written
  }
}
