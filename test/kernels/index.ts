// The kernel matrix: runs a command, by default the live tests, on real Debian kernels in virtual machines.
//   node test/kernels/index.ts [--kernels 5.10,6.1] [--jobs 2] [--append 'lockdown=integrity'] [-- COMMAND…]

import { statSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { installKernel, type Kernel, readKernel, suitesOf, usualSeries } from './catalogue.ts';
import { openApt } from './debian.ts';
import { type Job, type Outcome, runInGuest } from './machine.ts';
import { PrefixedLines, type Result, statusOf, table, verdict } from './report.ts';
import { suiteFiles } from './suites.ts';
import { page, readSuites, summary } from './summary.ts';
import { installTools, type Tools, toolSuites, toolsAt, toolsReady } from './tools.ts';

const project = resolve(import.meta.dirname, '../..');
const cache = join(project, 'build/kernels');

/** The tests that load programs into the running kernel. */
const liveTests = ['node', 'test/kernels/suites.ts'];

const help = `Usage: node test/kernels/index.ts [OPTION…] [-- COMMAND…]

Boots Debian kernels in virtual machines and runs COMMAND in each, by default the live tests
(node test/kernels/suites.ts [PART OF A PATH…]) with a summary at the end.
The guest sees the host's files read-only under a layer of memory, and writes results to /out.

  --kernels LIST   series to boot, ${usualSeries.join(',')} by default; others as 6.18 or 7.2
  --jobs N         machines at one time (2)
  --append TEXT    more for the kernel's command line
  --memory MB      memory of a guest (1024)
  --cpus N         processors of a guest (2)
  --limit S        time limit of a guest, boot included (14400)
  --boot-limit S   time limit of a boot (60)
  --out FOLDER     folder for results, one below it for each kernel (build/kernels/out)
  --refresh        look for newer kernels and tools

The status is 0 if COMMAND gave 0 on every kernel, else that of the first kernel that did not:
COMMAND's own, 124 for the time limit, 125 for a machine that did not boot or gave no status.
`;

interface Plan {
  readonly series: readonly string[];
  readonly jobs: number;
  readonly refresh: boolean;
  readonly out: string;
  readonly job: Omit<Job, 'kernel' | 'out'>;
}

class UsageError extends Error {}

export function readPlan(args: readonly string[]): Plan | 'help' {
  const text = (value: string) => ({ type: 'string', default: value }) as const;
  const flag = { type: 'boolean', default: false } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      kernels: text(usualSeries.join(',')),
      jobs: text('2'),
      append: text(''),
      memory: text('1024'),
      cpus: text('2'),
      limit: text('14400'),
      'boot-limit': text('60'),
      out: text(join(cache, 'out')),
      refresh: flag,
      help: flag,
    },
  });
  if (values.help) return 'help';
  const series = values.kernels.split(',').map((name) => name.trim());
  for (const name of series) {
    if (!/^\d+\.\d+$/.test(name))
      throw new UsageError(`--kernels: "${name}" is no series like 6.1`);
  }
  return {
    series,
    jobs: wholeNumber('--jobs', values.jobs),
    refresh: values.refresh,
    out: resolve(values.out),
    job: {
      command: positionals.length > 0 ? positionals : liveTests,
      project,
      append: values.append,
      memory_mb: wholeNumber('--memory', values.memory),
      cpus: wholeNumber('--cpus', values.cpus),
      limit_s: wholeNumber('--limit', values.limit),
      boot_s: wholeNumber('--boot-limit', values['boot-limit']),
      boots_max: 3,
    },
  };
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new UsageError(`${option}: "${text}" is no whole number above 0`);
}

/** What is missing is downloaded; what is there is used without a look at the network, unless asked for. */
async function prepare(plan: Plan): Promise<{ tools: Tools; kernels: readonly Kernel[] }> {
  await mkdir(cache, { recursive: true });
  const toolFolder = join(cache, 'tools');
  const found = await Promise.all(plan.series.map((series) => readKernel(cache, series)));
  const missing = plan.series.filter((_, at) => plan.refresh || !found[at]);
  const wantTools = plan.refresh || !toolsReady(toolFolder);
  const tools = toolsAt(toolFolder);
  if (!wantTools && missing.length === 0) return { tools, kernels: found.filter((k) => !!k) };
  say("reading Debian's package lists");
  if (wantTools) {
    const apt = await openApt(join(cache, 'apt-tools'), toolSuites);
    say('downloading QEMU, virtiofsd and busybox');
    say(`unpacked ${await installTools(apt, toolFolder)} packages of tools`);
  }
  const apt = await openApt(join(cache, 'apt-kernels'), missing.flatMap(suitesOf));
  const kernels: Kernel[] = [];
  for (const [at, series] of plan.series.entries()) {
    const kept = plan.refresh ? undefined : found[at];
    if (!kept) say(`downloading kernel ${series}`);
    const kernel = kept ?? (await installKernel(apt, tools, cache, series));
    if (!kept) say(`unpacked kernel ${series}: ${kernel.release} (Debian ${kernel.version})`);
    kernels.push(kernel);
  }
  return { tools, kernels };
}

async function runMatrix(plan: Plan, stop: AbortSignal): Promise<readonly Result[]> {
  const { tools, kernels } = await prepare(plan);
  const results: Result[] = [];
  const waiting = [...kernels];
  const work = async () => {
    for (let kernel = waiting.shift(); kernel && !stop.aborted; kernel = waiting.shift()) {
      const outcome = await runOne(plan, tools, kernel, stop);
      results.push({ series: kernel.series, release: kernel.release, outcome });
    }
  };
  await Promise.all(Array.from({ length: plan.jobs }, work));
  const rank = (result: Result) => plan.series.indexOf(result.series);
  return results.sort((a, b) => rank(a) - rank(b));
}

async function runOne(
  plan: Plan,
  tools: Tools,
  kernel: Kernel,
  stop: AbortSignal,
): Promise<Outcome> {
  const out = join(plan.out, kernel.series);
  await rm(out, { recursive: true, force: true });
  const lines = new PrefixedLines(`${kernel.series} | `, (text) => process.stdout.write(text));
  const note = (text: string) => say(`${kernel.series}: ${text}`);
  note(`booting ${kernel.release}`);
  const outcome = await runInGuest(
    { ...plan.job, kernel, out },
    tools,
    { output: (chunk) => lines.push(chunk), note },
    stop,
  );
  lines.flush();
  note(verdict(outcome));
  if (outcome.console !== '' && !stop.aborted) note(`last words:\n${outcome.console}`);
  return outcome;
}

/** Where the guests ran suites: a summary of each kernel, and a page in the folder for results. */
async function tellSuites(plan: Plan, results: readonly Result[]): Promise<void> {
  const whole = plan.job.command === liveTests;
  const kernels = results.flatMap(({ series }) => {
    const suites = readSuites(join(plan.out, series));
    return suites ? [{ series, suites }] : [];
  });
  if (kernels.length === 0) return;
  for (const kernel of kernels) {
    process.stdout.write(`\n${summary(kernel, whole ? suiteFiles() : [])}`);
  }
  const path = join(plan.out, 'suites.md');
  await writeFile(path, page(kernels));
  process.stdout.write(`\nThe table for docs/kernels.md is in ${path}\n`);
}

function say(text: string): void {
  process.stderr.write(`kernels: ${text}\n`);
}

/** What this machine lacks, with the cure; undefined if nothing. */
function obstacle(): string | undefined {
  if (process.arch !== 'x64') return 'The kernel matrix runs on x86-64 only';
  if (process.getuid?.() !== 0)
    return 'The kernel matrix shares the whole file system with guests: run it as root';
  const needed = ['apt-get', 'apt-cache', 'dpkg-deb', 'setpriv'];
  const folders = (process.env.PATH ?? '').split(':');
  const isThere = (name: string) =>
    folders.some((folder) => statSync(join(folder, name), { throwIfNoEntry: false })?.isFile());
  const lacking = needed.filter((name) => !isThere(name));
  if (lacking.length === 0) return undefined;
  return `Missing ${lacking.join(', ')}: install the packages apt, dpkg and util-linux`;
}

async function main(): Promise<number> {
  const plan = readPlan(process.argv.slice(2));
  if (plan === 'help') {
    process.stdout.write(help);
    return 0;
  }
  const lack = obstacle();
  if (lack) throw new UsageError(lack);
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => controller.abort());
  }
  const results = await runMatrix(plan, controller.signal);
  process.stdout.write(`\n${table(results)}`);
  await tellSuites(plan, results);
  return controller.signal.aborted ? 130 : statusOf(results);
}

if (import.meta.main) {
  try {
    process.exitCode = await main();
  } catch (cause) {
    const error = cause instanceof Error ? cause : new Error(String(cause));
    const usage = error instanceof UsageError || 'code' in error;
    say(usage ? error.message : (error.stack ?? error.message));
    process.exitCode = usage ? 2 : 1;
  }
}
