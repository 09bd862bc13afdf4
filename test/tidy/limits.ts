// How long a line, a function and a file may be. Functions in TypeScript are measured by biome (biome.json), which reads
// the grammar; C and shell here, by the braces in the first column that their formatting guarantees.

import { type File, type Finding, isCode, isShell, linesOf } from './files.ts';

export const FILE_LINES_MAX = 500;
export const FUNCTION_LINES_MAX = 70;
export const CODE_COLUMNS_MAX = 100;
export const PROSE_COLUMNS_MAX = 150;
const TAB_COLUMNS = 8;

export function fileLength(file: File): Finding[] {
  const count = linesOf(file).length;
  if (!isCode(file.path) || count <= FILE_LINES_MAX) return [];
  const problem = `has ${count} lines; a file has at most ${FILE_LINES_MAX}`;
  const cure = 'split it where a reader would turn the page';
  return [{ path: file.path, line: FILE_LINES_MAX + 1, problem, cure }];
}

export function lineLength(file: File): Finding[] {
  if (!isCode(file.path) && !file.path.endsWith('.md')) return [];
  let in_template = false;
  return linesOf(file).flatMap((line, index) => {
    const turns = file.path.endsWith('.ts') && oddBackticks(line);
    const prose = in_template || turns || isProse(file.path, line);
    if (turns) in_template = !in_template;
    const max = prose ? PROSE_COLUMNS_MAX : CODE_COLUMNS_MAX;
    const columns = [...line].reduce((sum, c) => sum + (c === '\t' ? TAB_COLUMNS : 1), 0);
    if (columns <= max || isUnbreakable(file.path, line)) return [];
    const problem = `is ${columns} columns wide; ${prose ? 'prose' : 'code'} has at most ${max}`;
    return [{ path: file.path, line: index + 1, problem, cure: 'break the line' }];
  });
}

function oddBackticks(line: string): boolean {
  return (line.match(/(?<!\\)`/g) ?? []).length % 2 === 1;
}

/** Comments, documents, and a text in quotes that takes most of its line: the formatter cannot break it. */
function isProse(path: string, line: string): boolean {
  if (path.endsWith('.md')) return true;
  if (/^\s*(\/\/|\/?\*|#)/.test(line)) return true;
  return /(['"`/])(?:\\.|(?!\1).){40,}\1/.test(line);
}

/** Rows of a table, and a lone address. */
function isUnbreakable(path: string, line: string): boolean {
  return (path.endsWith('.md') && line.startsWith('|')) || /^\W*https?:\S+$/.test(line);
}

export function functionLength(file: File): Finding[] {
  const is_c = /\.[ch]$/.test(file.path);
  if (!is_c && !isShell(file.path)) return [];
  const opener = is_c ? /^(?![#/}\s])(?!.*=).*\)?.*\{$|^\{$/ : /^[\w-]+\(\) \{$/;
  const lines = linesOf(file);
  const findings: Finding[] = [];
  let start = -1;
  lines.forEach((line, index) => {
    if (start < 0 && opener.test(line)) start = signatureStart(lines, index);
    if (start < 0 || !line.startsWith('}')) return;
    const count = index - start + 1;
    const is_function = lines.slice(start, index).some((text) => text.includes(')'));
    if (is_function && count > FUNCTION_LINES_MAX && !/^(struct|union|enum)\b/.test(lines[start])) {
      const problem = `has ${count} lines; a function has at most ${FUNCTION_LINES_MAX}`;
      findings.push({
        path: file.path,
        line: start + 1,
        problem,
        cure: 'take a part out, by name',
      });
    }
    start = -1;
  });
  return findings;
}

/** The first line of a signature that is broken over several. */
function signatureStart(lines: readonly string[], opener: number): number {
  let start = opener;
  while (start > 0 && !/^(\s*$|[}#*/]| \*|.*;$)/.test(lines[start - 1])) start--;
  return start;
}
