// What the live tests did on each kernel: a summary for the terminal, and the table of docs/kernels.md.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RESULTS, type Remark, type Suite } from './suites.ts';

export interface Kernel {
  readonly series: string;
  readonly suites: readonly Suite[];
}

/** Of the folder that a guest wrote to; undefined where it ran something else than the suites. */
export function readSuites(folder: string): readonly Suite[] | undefined {
  let text: string;
  try {
    text = readFileSync(join(folder, RESULTS), 'utf8');
  } catch {
    return undefined; // another command, or a machine that did not come that far
  }
  // Our own program wrote it; a line that was cut off by the machine's end has no line end.
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Suite);
}

/** Counts of a kernel, then each test that failed or was skipped, and each file that did not end. */
export function summary({ series, suites }: Kernel, files: readonly string[]): string {
  const all = (key: 'failed' | 'skipped' | 'failed_at_first') =>
    suites.flatMap((suite) => suite[key].map((remark) => ({ ...remark, file: suite.file })));
  const lines = (kind: string, list: readonly (Remark & { readonly file: string })[]) =>
    list.map(({ file, name, why }) => `  ${kind}: ${file}: ${name}: ${oneLine(why)}\n`);
  const passed = suites.reduce((sum, suite) => sum + suite.passed, 0);
  const [failed, skipped] = [all('failed'), all('skipped')];
  const missing = notReached(suites, files);
  const counts = [
    `${passed} passed`,
    `${failed.length} failed`,
    `${skipped.length} skipped`,
    ...(missing.length > 0 ? [`${missing.length} files not reached`] : []),
  ];
  return [
    `${series}: ${counts.join(', ')}, in ${suites.length} files\n`,
    ...lines('failed', failed),
    ...lines('failed at first', all('failed_at_first')),
    ...lines('skipped', skipped),
    ...missing.map((file) => `  not reached: ${file}\n`),
  ].join('');
}

function notReached(suites: readonly Suite[], files: readonly string[]): readonly string[] {
  return files.filter((file) => !suites.some((suite) => suite.file === file));
}

function oneLine(text: string): string {
  return text.split('\n')[0]!.trim();
}

/** Markdown: a row for each file, and below it why tests were skipped, by kernel. */
export function page(kernels: readonly Kernel[]): string {
  const files = [...new Set(kernels.flatMap(({ suites }) => suites.map(({ file }) => file)))];
  const head = ['tests', ...kernels.map(({ series }) => series)];
  const rows = files
    .sort()
    .map((file) => [
      `\`${file.replace(/(\.live)?\.test\.ts$/, '')}\``,
      ...kernels.map(({ suites }) => cell(suites.find((suite) => suite.file === file))),
    ]);
  const widths = head.map((_, at) => Math.max(...[head, ...rows].map((row) => row[at]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((text, at) => text.padEnd(widths[at]!)).join(' | ')} |\n`;
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |\n`;
  return `${[line(head), rule, ...rows.map(line)].join('')}\n${reasons(kernels)}`;
}

function cell(suite: Suite | undefined): string {
  if (suite === undefined) return '-';
  const { passed, failed, skipped } = suite;
  const parts = [
    ...(passed > 0 ? [`${passed} passed`] : []),
    ...(failed.length > 0 ? [`${failed.length} failed`] : []),
    ...(skipped.length > 0 ? [`${skipped.length} skipped`] : []),
  ];
  return parts.join(', ');
}

function reasons(kernels: readonly Kernel[]): string {
  return kernels
    .map(({ series, suites }) => {
      const counts = new Map<string, number>();
      for (const { why } of suites.flatMap(({ skipped }) => skipped)) {
        counts.set(oneLine(why), (counts.get(oneLine(why)) ?? 0) + 1);
      }
      return [...counts].map(([why, count]) => `- ${series}: ${count} of "${why}"\n`).join('');
    })
    .join('');
}
