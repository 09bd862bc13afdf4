// The results as a table for people, and as JSON for programs.

import { safeLines } from '../table/text.ts';
import type { State } from './check.ts';
import type { Result } from './examine.ts';

export interface Report {
  /** Of this schema; it grows when a field changes its meaning or goes. */
  readonly schema: 1;
  readonly version: string;
  readonly host: string;
  /** The worst state; `skip` counts as ok. */
  readonly verdict: 'ok' | 'warn' | 'fail';
  readonly counts: Readonly<Record<State, number>>;
  readonly checks: readonly Result[];
}

export function reportOf(
  checks: readonly Result[],
  { version, host }: { version: string; host: string },
): Report {
  const count = (state: State) => checks.filter((check) => check.state === state).length;
  const counts = { ok: count('ok'), warn: count('warn'), fail: count('fail'), skip: count('skip') };
  const verdict = counts.fail > 0 ? 'fail' : counts.warn > 0 ? 'warn' : 'ok';
  return { schema: 1, version, host, verdict, counts, checks };
}

const COLORS: Readonly<Record<State, string>> = { ok: '32', warn: '33', fail: '31', skip: '90' };

/** One line a check; under those that want something done, why and how. `width`: of the terminal. */
export function reportText(report: Report, style: { color: boolean; width?: number }): string {
  const checks = report.checks.map(shown);
  const names = checks.map(nameOf);
  const column = Math.max(...names.map((name) => name.length));
  const indent = ' '.repeat('fail  '.length + column + 2);
  const lines = checks.flatMap((check, at) => {
    const state = check.state.padEnd(4);
    const head = style.color ? `\x1b[${COLORS[check.state]}m${state}\x1b[0m` : state;
    const [first = '', ...rest] = wrap(check.found, indent, style.width);
    const line = `${head}  ${names[at]?.padEnd(column)}  ${first}`;
    return [line, ...rest.map((text) => indent + text), ...adviceOf(check, indent, style.width)];
  });
  return `${[...lines, '', verdictText(report)].join('\n')}\n`;
}

/** What was found has names of processes and files in it, which a terminal is not to obey. */
function shown(check: Result): Result {
  const { subject, found, cure } = check;
  return {
    ...check,
    subject: safeLines(subject),
    found: safeLines(found),
    cure: safeLines(cure),
  };
}

function nameOf({ id, subject }: Result): string {
  return subject === '' ? id : `${id} ${subject}`;
}

function adviceOf(check: Result, indent: string, width: number | undefined): readonly string[] {
  if (check.cure === '') return [];
  const why = check.state === 'skip' ? [] : wrap(`why: ${check.why}`, indent, width);
  const cure = check.cure.split('\n').flatMap((line, at) => {
    const text = at === 0 ? `cure: ${line.trimStart()}` : line;
    return text.startsWith('  ') ? [text] : wrap(text, indent, width); // commands stay whole
  });
  return [...why, ...cure].map((line) => indent + line);
}

function wrap(text: string, indent: string, width: number | undefined): readonly string[] {
  const room = (width ?? Number.POSITIVE_INFINITY) - indent.length;
  if (text.length <= room || room < 20) return [text];
  const lines: string[] = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? '';
    if (last !== '' && last.length + 1 + word.length > room) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines;
}

export function verdictText({ checks, counts, verdict }: Report): string {
  const rest = `${counts.ok} ok, ${counts.warn} to look at, ${counts.skip} not asked`;
  if (verdict !== 'fail') return `Nothing stands in sonde's way: ${rest}.`;
  const failed = checks.filter(({ state }) => state === 'fail').map(nameOf);
  return `${counts.fail} failed (${failed.join(', ')}); ${rest}.`;
}

/** What there is to say elsewhere than on Linux. */
export function foreignText(report: Report): string {
  return `INFO  sonde doctor: ${report.checks[0]?.found}\n`;
}
