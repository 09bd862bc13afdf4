// `sonde profile`: what the processors are busy with. Samples the stacks of kernel and programs for some seconds, and prints them in
// a form that flame graphs or pprof read. Nothing else of sonde need run.

import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { missingRights } from '../config/rights.ts';
import { folded, type NamedSample, pprof } from '../profile/formats.ts';
import { kernelSymbols } from '../profile/kernel_symbols.ts';
import { type Sample, Sampler } from '../profile/sampler.ts';
import type { SymbolTable } from '../profile/symbol_table.ts';
import { UserSymbols } from '../profile/user_symbols.ts';
import { safeLines } from '../table/text.ts';
import { reasonOf } from '../wire/error.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { print } from './output.ts';

const FORMATS = ['folded', 'pprof'] as const;
/** New processes are looked at this often, before they end. */
const LEARN_MS = 250;

interface Options {
  readonly seconds: number;
  readonly frequency: number;
  readonly pid: number;
  readonly format: (typeof FORMATS)[number];
  readonly output: string | undefined;
}

export async function run(call: Call): Promise<number> {
  const options = optionsOf(call);
  refuse();
  if (options.pid !== 0) refuseProcess(options.pid);
  const { seconds, frequency, pid, format, output } = options;
  const file = output === undefined ? undefined : openOutput(output);
  const began_ms = Date.now();
  const began = performance.now();
  const sampler = new Sampler({ frequency, pid });
  const users = new UserSymbols();
  try {
    await watch(sampler, users, seconds * 1000);
    const duration_ms = performance.now() - began;
    const kernel = kernelSymbols();
    const samples = sampler.samples().map((sample) => named(sample, kernel, users));
    const bytes =
      format === 'pprof' ? pprof(samples, { frequency, began_ms, duration_ms }) : folded(samples);
    if (file === undefined) print(typeof bytes === 'string' ? shown(bytes) : bytes);
    else writeFileSync(file, bytes);
    tell(sampler, duration_ms, kernel.size > 0);
  } finally {
    sampler.close();
    if (file !== undefined) closeSync(file);
  }
  return 0;
}

/** Before the time is spent that it takes to fill it. */
function openOutput(path: string): number {
  try {
    return openSync(path, 'w');
  } catch (error) {
    const cure = 'name a file in a folder that exists, where this user may write';
    throw new CliError(`${path} cannot be written (${reasonOf(error)}): ${cure}`, EXIT_OPERATOR);
  }
}

/** Names come from other people's processes; other programs get them as they are. */
function shown(text: string): string {
  return process.stdout.isTTY ? safeLines(text) : text;
}

function optionsOf({ options }: Call): Options {
  const format = FORMATS.find((one) => one === (options['--format'] ?? 'folded'));
  if (format === undefined) {
    const words = `--format '${options['--format']}': expected ${FORMATS.join(' or ')}`;
    throw new CliError(words, EXIT_OPERATOR);
  }
  const output = typeof options['--output'] === 'string' ? options['--output'] : undefined;
  if (format === 'pprof' && output === undefined && process.stdout.isTTY)
    throw new CliError('pprof is no text: give --output FILE, or a pipe', EXIT_OPERATOR);
  return {
    seconds: number('--seconds', options['--seconds'] ?? '10', [0.1, 3600]),
    frequency: number('--frequency', options['--frequency'] ?? '49', [1, 1000]),
    pid: options['--pid'] ? number('--pid', options['--pid'], [1, 4_194_304]) : 0,
    format,
    output,
  };
}

function number(
  flag: string,
  given: string | boolean,
  [least, most]: readonly [number, number],
): number {
  const value = Number(given);
  const whole = flag === '--seconds' || Number.isInteger(value);
  if (whole && value >= least && value <= most) return value;
  throw new CliError(`${flag} '${given}': expected ${least} to ${most}`, EXIT_OPERATOR);
}

function refuse(): void {
  if (process.platform !== 'linux') throw new CliError('profile needs Linux', EXIT_OPERATOR);
  const missing = missingRights(['CAP_BPF', 'CAP_PERFMON']);
  if (missing.length === 0) return;
  const words = `This user lacks ${missing.join(', ')}: only who has them may sample processors`;
  throw new CliError(`${words}\nRun it as root: sudo ./sonde profile`, EXIT_OPERATOR);
}

/** A name that is nobody's, or a thread's, would be met by no tick. */
function refuseProcess(pid: number): void {
  const status = join('/proc', String(pid), 'status');
  const group = existsSync(status) ? /^Tgid:\s*(\d+)$/m.exec(readFileSync(status, 'utf8')) : null;
  if (Number(group?.[1]) === pid) return;
  const words = group === null ? 'no such process' : `it is a thread of process ${group[1]}`;
  throw new CliError(`--pid ${pid}: ${words}`, EXIT_OPERATOR);
}

/** Until the time is over, or INT or TERM: what was sampled until then is printed. */
async function watch(sampler: Sampler, users: UserSymbols, length_ms: number): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => (stop.signal.aborted ? process.exit(1) : stop.abort()));
  }
  const end = performance.now() + length_ms;
  while (!stop.signal.aborted && performance.now() < end) {
    const wait = Math.min(LEARN_MS, end - performance.now());
    await delay(wait, undefined, { signal: stop.signal }).catch(() => undefined);
    users.learn(sampler.pids());
  }
}

function named(
  { pid, comm, kernel, user, missing, count }: Sample,
  symbols: SymbolTable,
  users: UserSymbols,
): NamedSample {
  const below = user.map((address) => users.name(pid, address)).toReversed();
  const above = kernel
    .map((address) => `${symbols.find(address) ?? `0x${address.toString(16)}`}_[k]`)
    .toReversed();
  const gap = missing === '' ? [] : [missing];
  return { pid, comm, frames: [...below, ...above, ...gap], count };
}

/** On standard error, beside what was asked for. */
function tell(sampler: Sampler, duration_ms: number, has_kernel: boolean): void {
  const { samples, lost } = sampler.totals();
  const seconds = (duration_ms / 1000).toFixed(1);
  const head = `${samples} samples in ${seconds} s on ${sampler.cpus} processors`;
  process.stderr.write(`${head}${lost > 0 ? `; ${lost} found no room and are missing` : ''}\n`);
  if (!has_kernel)
    process.stderr.write(
      'no names of kernel functions: they take CAP_SYSLOG and kptr_restrict < 2\n',
    );
}
