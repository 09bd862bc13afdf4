// The README's two commands on a bare Debian machine: a root of debootstrap, git, Debian's Node and npm, and a clone.
//   node test/bare/index.ts [--suites bookworm,trixie] [--steps start,test] [--keep]

import { spawnSync } from 'node:child_process';
import { createWriteStream, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { PrefixedLines } from '../kernels/report.ts';
import { makeRoot, putRepository } from './roots.ts';
import { type Faults, type Step, steps } from './steps.ts';

const project = resolve(import.meta.dirname, '../..');
const cache = join(project, 'build/bare');

const help = `Usage: node test/bare/index.ts [OPTION…]

Makes bare roots by debootstrap, from the mirror that apt has here, and tries what is committed in each:
${steps.map(({ name, about }) => `  ${name.padEnd(8)} ${about}\n`).join('')}
  --suites LIST  Debian's releases (bookworm,trixie)
  --steps LIST   some of the above (all)
  --keep         leaves the roots in build/bare, to look into them

Everything is written to build/bare/<suite>-<step>.log too. The status is 1 if anything is not as it must be.
`;

interface Plan {
  readonly suites: readonly string[];
  readonly chosen: readonly Step[];
  readonly keep: boolean;
}

class UsageError extends Error {}

function readPlan(args: readonly string[]): Plan | 'help' {
  const names = steps.map(({ name }) => name);
  const { values } = parseArgs({
    args: [...args],
    options: {
      suites: { type: 'string', default: 'bookworm,trixie' },
      steps: { type: 'string', default: names.join() },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const chosen = values.steps.split(',').map((name) => {
    const step = steps.find((one) => one.name === name);
    if (!step) throw new UsageError(`--steps: "${name}" is none of ${names.join()}`);
    return step;
  });
  return { suites: values.suites.split(','), chosen, keep: values.keep };
}

/** What this machine lacks, with the cure; undefined if nothing. */
function obstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'Roots are made and entered by root: run it as root';
  if (spawnSync('debootstrap', ['--version']).error === undefined) return undefined;
  return 'Missing debootstrap: install the package debootstrap';
}

async function runStep(suite: string, step: Step, keep: boolean): Promise<Faults> {
  const name = `${suite}-${step.name}`;
  const root = join(cache, name);
  const log = createWriteStream(`${root}.log`);
  const lines = new PrefixedLines(`${name} | `, (text) => process.stdout.write(text));
  const say = (text: string): void => {
    log.write(text);
    lines.push(Buffer.from(text));
  };
  try {
    await makeRoot(cache, suite, 'bare', root);
    await putRepository(project, root);
    return await step.run(root, say);
  } finally {
    lines.flush();
    log.end();
    if (!keep) await rm(root, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  const plan = readPlan(process.argv.slice(2));
  if (plan === 'help') {
    process.stdout.write(help);
    return 0;
  }
  const lack = obstacle();
  if (lack) throw new UsageError(lack);
  mkdirSync(cache, { recursive: true });
  const results: string[] = [];
  let faulty = false;
  for (const suite of plan.suites) {
    for (const step of plan.chosen) {
      const faults = await runStep(suite, step, plan.keep);
      faulty ||= faults.length > 0;
      const verdict = faults.length === 0 ? 'ok' : faults.join('; ');
      results.push(`${suite.padEnd(9)} ${step.name.padEnd(8)} ${verdict}\n`);
    }
  }
  process.stdout.write(`\n${results.join('')}`);
  return faulty ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (cause) {
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const usage = error instanceof UsageError || 'code' in error;
  process.stderr.write(`bare: ${usage ? error.message : (error.stack ?? error.message)}\n`);
  process.exitCode = usage ? 2 : 1;
}
