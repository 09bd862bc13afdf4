// `npm run bench`: every benchmark in one run, or those that are named. Prints a note on the machine, then a table for each;
// asserts nothing. `--json FILE` writes the same, `--quick` shortens the turns.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Figure, printFigures, type RunOptions } from './figure.ts';
import { formatNote, machineNote } from './machine.ts';
import { undoAll, undoOnSignals } from './process.ts';

type Run = (options: RunOptions) => readonly Figure[] | Promise<readonly Figure[]>;

interface Benchmark {
  readonly name: string;
  readonly help: string;
  readonly load: () => Promise<Run>;
}

/** Those that start servers and load programs first: what they weigh is small against what a warm machine does. */
const BENCHMARKS: readonly Benchmark[] = [
  {
    name: 'server',
    help: 'requests a second and processor time of nginx, with and without sonde',
    load: async () => (await import('./server.ts')).run,
  },
  {
    name: 'programs',
    help: 'nanoseconds a run of each kernel program, under three loads',
    load: async () => (await import('./programs.ts')).run,
  },
  {
    name: 'sources',
    help: 'nanoseconds an event of the sources of what processes spend, beside bcc and bpftrace',
    load: async () => (await import('./sources.ts')).run,
  },
  {
    name: 'attached',
    help: 'processor time a request with the programs attached, turn about in slices of 0.3 s',
    load: async () => (await import('./attached.ts')).run,
  },
  {
    name: 'exchange',
    help: 'nanoseconds that the programs add to a request, where one thread has both ends',
    load: async () => (await import('./exchange.ts')).run,
  },
  {
    name: 'http',
    help: 'requests a second of nginx with and without the http source, nanoseconds a request',
    load: async () => (await import('./http.ts')).run,
  },
  {
    name: 'tls',
    help: 'processor time a request over TLS, with the programs where sonde places them and elsewhere',
    load: async () => (await import('./tls.ts')).run,
  },
  {
    name: 'collector',
    help: 'processor time and memory of the collector, what it lost, sweeps of many sockets',
    load: async () => (await import('./collector.ts')).run,
  },
  {
    name: 'peers',
    help: 'the same loads under nothing, sonde, and the tools of bcc',
    load: async () => (await import('./peers.ts')).run,
  },
  {
    name: 'table',
    help: 'rows through fold, encoding and merging',
    load: async () => (await import('./table.ts')).run,
  },
  {
    name: 'wire',
    help: 'rows through spool and Flight, memory of the libraries',
    load: async () => (await import('./wire.ts')).run,
  },
  {
    name: 'store',
    help: 'rows into the embedded store, milliseconds of its questions',
    load: async () => (await import('./store.ts')).run,
  },
];

const USAGE = `npm run bench -- [NAME…] [--quick] [--json FILE]

${BENCHMARKS.map(({ name, help }) => `  ${name.padEnd(10)} ${help}`).join('\n')}

docs/benchmarks.md says what each figure means.
`;

interface Wanted {
  readonly benchmarks: readonly Benchmark[];
  readonly quick: boolean;
  readonly json: string | undefined;
}

/** What the command line asks for; words where it asks for what there is not. */
function wanted(words: readonly string[]): Wanted | string {
  try {
    const { values, positionals } = parseArgs({
      args: [...words],
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        json: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) return USAGE;
    const unknown = positionals.find((name) => !BENCHMARKS.some((one) => one.name === name));
    if (unknown !== undefined) return `There is no benchmark '${unknown}'\n\n${USAGE}`;
    const named = BENCHMARKS.filter(({ name }) => positionals.includes(name));
    const benchmarks = named.length > 0 ? named : BENCHMARKS;
    return { benchmarks, quick: values.quick, json: values.json };
  } catch (error) {
    return `${error instanceof Error ? error.message : error}\n\n${USAGE}`;
  }
}

interface Result {
  readonly name: string;
  readonly load: readonly number[];
  readonly figures: readonly Figure[];
}

/** One that fails is told with its words, and the others go on. */
async function runOne(benchmark: Benchmark, quick: boolean): Promise<Result> {
  const { name, help } = benchmark;
  const { load } = machineNote();
  process.stdout.write(`\n${name}: ${help}\nload ${load.join(' ')} at its start\n`);
  try {
    const run = await benchmark.load();
    const figures = await run({ quick });
    printFigures(figures);
    return { name, load, figures };
  } catch (error) {
    process.stdout.write(`failed: ${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
    return { name, load, figures: [] };
  }
}

async function main(words: readonly string[]): Promise<void> {
  const what = wanted(words);
  if (typeof what === 'string') {
    const is_help = what === USAGE;
    process[is_help ? 'stdout' : 'stderr'].write(what);
    process.exitCode = is_help ? 0 : 2;
    return;
  }
  undoOnSignals();
  const machine = machineNote();
  process.stdout.write(`${formatNote(machine)}${what.quick ? '\nquick: short turns' : ''}\n`);
  const results: Result[] = [];
  for (const benchmark of what.benchmarks) {
    results.push(await runOne(benchmark, what.quick));
    if (what.json === undefined) continue;
    const all = { machine, quick: what.quick, results };
    // After each, so that none is lost.
    writeFileSync(what.json, `${JSON.stringify(all, null, 2)}\n`);
  }
}

await main(process.argv.slice(2));
await undoAll();
process.exit(); // handles of libraries must not keep a finished run
