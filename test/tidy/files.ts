// The tree as the rules see it: every file that is, or could be, committed.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');

export interface File {
  /** From the project's folder, with `/`. */
  readonly path: string;
  readonly text: string;
}

/** What a rule found, and what to do about it. */
export interface Finding {
  readonly path: string;
  readonly line: number;
  readonly problem: string;
  readonly cure: string;
}

const TEXT = /(\.(ts|c|h|sh|md|txt|json|ya?ml|toml)|^sonde|\/run|^\.[a-z]+|NOTICE|Containerfile)$/;
/** Written by programs, or by the authors of licences. */
const FOREIGN = /(^package-lock\.json|^LICENSE|^LICENSES\/|testdata\/|\.gen\.ts$)/;

export function projectFiles(): readonly File[] {
  const flags = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const listed = execFileSync('git', flags, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 26 });
  const paths = [...new Set(listed.split('\0'))].filter((path) => path !== '').sort();
  return paths
    .filter((path) => TEXT.test(path) && !FOREIGN.test(path) && existsSync(join(ROOT, path)))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));
}

export function linesOf(file: File): readonly string[] {
  return file.text.replace(/\n$/, '').split('\n');
}

/** Findings for every match of a pattern, line by line. */
export function matchLines(
  file: File,
  pattern: RegExp,
  explain: (match: RegExpExecArray) => { problem: string; cure: string } | undefined,
): Finding[] {
  return linesOf(file).flatMap((line, index) => {
    const match = pattern.exec(line);
    const found = match ? explain(match) : undefined;
    return found ? [{ path: file.path, line: index + 1, ...found }] : [];
  });
}

export function isCode(path: string): boolean {
  return /\.(ts|c|h|sh)$/.test(path) || path === 'sonde' || path === '.ci/run';
}

export function isShell(path: string): boolean {
  return path.endsWith('.sh') || path === 'sonde' || path === '.ci/run';
}
