// Runs in a guest: every test that needs a kernel, a file at a time, and writes what became of each to /out/suites.jsonl
// as it ends, so that a machine that dies leaves what it had.
//   node test/kernels/suites.ts [--limit-each S] [PART OF A PATH…]

import { appendFileSync, globSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run } from 'node:test';
import { parseArgs } from 'node:util';

const PROJECT = resolve(import.meta.dirname, '../..');
const FILES = ['{src,probes,test}/**/*.live.test.ts', 'src/bpf/**/*.test.ts'];
const OUT = '/out';
export const RESULTS = 'suites.jsonl';

/** A test that did not simply pass, with the reason to skip it or what it failed of. */
export interface Remark {
  readonly name: string;
  readonly why: string;
}

export interface Suite {
  readonly file: string;
  readonly passed: number;
  readonly failed: readonly Remark[];
  readonly skipped: readonly Remark[];
  /** What failed at first, and then passed: files that fail are run once more, as in scripts/test.ts. */
  readonly failed_at_first: readonly Remark[];
  readonly seconds: number;
}

type Ran = Pick<Suite, 'passed' | 'failed' | 'skipped'>;
type TestEvent = ReturnType<typeof run> extends AsyncIterable<infer Event> ? Event : never;

/** Files of tests that need a kernel, relative to the project; of those, the ones whose path has one of `parts`. */
export function suiteFiles(parts: readonly string[] = []): readonly string[] {
  return globSync(FILES, { cwd: PROJECT })
    .filter((path) => parts.length === 0 || parts.some((part) => path.includes(part)))
    .sort();
}

/** Counts as Node does: a test that holds others is one besides them; but it does not fail because one of them did. */
export function tally(events: Iterable<TestEvent>): Ran {
  const failed: Remark[] = [];
  const skipped: Remark[] = [];
  let passed = 0;
  for (const { type, data } of events) {
    if (type === 'test:pass') {
      if (data.skip !== undefined) skipped.push({ name: data.name, why: String(data.skip) });
      else passed += 1;
    }
    if (type !== 'test:fail') continue;
    const { error } = data.details;
    // The parents of a test that failed have failed as well, and say nothing of their own.
    if ('failureType' in error && error.failureType === 'subtestsFailed') continue;
    failed.push({ name: data.name, why: messageOf(error) });
  }
  return { passed, failed, skipped };
}

function messageOf(error: Error): string {
  const { cause } = error;
  const text = cause instanceof Error ? cause.message : (cause ?? error.message);
  return String(text).trim().split('\n').slice(0, 12).join('\n');
}

async function runFile(file: string, limit_s: number): Promise<Ran & { readonly late: boolean }> {
  const events: TestEvent[] = [];
  const timeout = limit_s * 1000;
  const signal = AbortSignal.timeout(timeout);
  for await (const event of run({ files: [file], concurrency: 1, signal })) {
    events.push(event);
    const { type, data } = event;
    // Told at once: under emulation a file takes minutes.
    if (type === 'test:pass')
      process.stdout.write(`  ${data.skip === undefined ? '✔' : '﹣'} ${data.name}\n`);
    if (type === 'test:fail') process.stdout.write(`  ✖ ${data.name}\n`);
  }
  const ran = tally(events);
  if (!signal.aborted) return { ...ran, late: false };
  const why = `took more than ${limit_s} s`;
  const failed = ran.failed.filter(({ name }) => name !== file); // it says only that it was ended
  return { ...ran, failed: [...failed, { name: file, why }], late: true };
}

async function runTwice(file: string, limit_s: number): Promise<Suite> {
  const start = performance.now();
  const first = await runFile(file, limit_s);
  // What met the limit would meet it again.
  const again = first.failed.length > 0 && !first.late;
  const { passed, failed, skipped } = again ? await runFile(file, limit_s) : first;
  const seconds = Math.round((performance.now() - start) / 1000);
  const failed_at_first = again ? first.failed : [];
  return { file, passed, failed, skipped, failed_at_first, seconds };
}

/** One line, and one more for each test that there is something to say about. */
export function linesOf({
  file,
  passed,
  failed,
  skipped,
  failed_at_first,
  seconds,
}: Suite): string {
  const counts = `${passed} passed, ${failed.length} failed, ${skipped.length} skipped`;
  const remarks = (kind: string, list: readonly Remark[]): readonly string[] =>
    list.map(({ name, why }) => `  ${kind}: ${name}: ${why.replaceAll('\n', '\n    ')}\n`);
  const lines = [
    ...remarks('failed at first', failed_at_first),
    ...remarks('failed', failed),
    ...remarks('skipped', skipped),
  ];
  return `${file}: ${counts} in ${seconds} s\n${lines.join('')}`;
}

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      'limit-each': { type: 'string', default: '900' },
      out: { type: 'string', default: OUT },
    },
  });
  process.chdir(PROJECT);
  const files = suiteFiles(positionals);
  if (files.length === 0) throw new Error(`No test file's path has ${positionals.join(' or ')}`);
  mkdirSync(values.out, { recursive: true });
  let failed = 0;
  for (const file of files) {
    const suite = await runTwice(file, Number(values['limit-each']));
    process.stdout.write(linesOf(suite));
    appendFileSync(join(values.out, RESULTS), `${JSON.stringify(suite)}\n`);
    failed += suite.failed.length;
  }
  return failed > 0 ? 1 : 0;
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
