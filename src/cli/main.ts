// The command line. One file a command, loaded only when it is called, so that the collector carries no store and
// `--help` comes at once.

import type { Command } from 'commander';
import { addAgent } from './agent.ts';
import { addConfigOptions, addQueryOptions } from './options.ts';
import { addCollector, command, parse, program } from './program.ts';

function addRoles(top: Command): void {
  const run = command(
    top,
    'run',
    'collector, reducer and embedded store on this machine',
    async () => (await import('./run.ts')).run,
  );
  run.option('--for <seconds>', 'stop after so many seconds, with a last table');
  addConfigOptions(run);
  addCollector(top);
  addAgent(top);
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
  query.option('--format <format>', 'table, json, csv or arrow (an Arrow IPC stream)', 'table');
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
  doctor.argument('[sources...]', 'with --grant: the sources that are to have rights');
  doctor.option('--json', 'as JSON');
  doctor.option(
    '--grant',
    'print the setcap, systemd and Kubernetes lines for sources; with --json: the rights alone',
  );
  addConfigOptions(doctor);
  const ledger = command(
    top,
    'ledger',
    'what was seen, kept, folded and lost, stage by stage',
    async () => (await import('./ledger.ts')).run,
  );
  ledger.option('--json', 'as JSON');
  addQueryOptions(ledger);
  const catalog = command(
    top,
    'catalog',
    'operations of HTTP services that were seen, with their parameters',
    async () => (await import('./catalog.ts')).run,
  );
  catalog.option('--format <format>', 'table, json or openapi', 'table');
  catalog.option('--service <name>', 'only this service');
  addQueryOptions(catalog);
  const detach = command(
    top,
    'detach',
    'remove programs that a killed collector left running',
    async () => (await import('./detach.ts')).run,
  );
  addConfigOptions(detach);
}

function addDemo(top: Command): void {
  const demo = command(
    top,
    'cgroup-demo',
    'count the packets of one cgroup by a program on it, step by step',
    async () => (await import('./cgroup_demo.ts')).run,
  );
  demo.option('--every <seconds>', 'print the count this often', '1');
  demo.option('--rate <packets>', 'packets sent a second', '10');
  demo.option('--for <seconds>', 'stop after so many seconds; else on TERM or INT');
  const profile = command(
    top,
    'profile',
    'what the processors are busy with: stacks of kernel and programs',
    async () => (await import('./profile.ts')).run,
  );
  profile.option('--seconds <seconds>', 'how long to look', '10');
  profile.option('--frequency <hertz>', 'samples a second on each processor', '49');
  profile.option('--format <format>', 'folded (flame graphs) or pprof', 'folded');
  profile.option('--pid <pid>', 'one process alone');
  profile.option('--output <file>', 'instead of standard output');
}

const top = program();
addRoles(top);
addQuestions(top);
addDemo(top);
await parse(top);
