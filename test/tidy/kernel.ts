// Laws of the C files: their licence line, and names that bpftool can show whole.

import { type File, type Finding, linesOf } from './files.ts';

/** BPF_OBJ_NAME_LEN less its closing zero; the kernel cuts longer names. */
export const NAME_LENGTH_MAX = 15;

export function licenceLine(file: File): Finding[] {
  if (!/\.[ch]$/.test(file.path)) return [];
  const kernel = /\.bpf\.[ch]$/.test(file.path);
  const licence = kernel ? 'GPL-2.0-only OR Apache-2.0' : 'Apache-2.0';
  const expected = `// SPDX-License-Identifier: ${licence}`;
  const first = linesOf(file)[0].replace(/^\/\* (.*) \*\/$/, '// $1');
  if (first === expected) return [];
  const cure = `write there: ${expected}`;
  return [{ path: file.path, line: 1, problem: 'has no licence line, or another one', cure }];
}

const MAP = /\}\s*(\w+)\s+SEC\("\.maps"\)/g;
/** A section, then (perhaps on the next line) the program's name, bare or in one of libbpf's macros. */
const PROGRAM =
  /SEC\("(?!\.maps|license|version|\.)[^"]*"\)\s+(?:static\s+)?\w+\s+(?:BPF_\w+\(\s*)?(\w+)/g;

export function objectNames(file: File): Finding[] {
  if (!/\.bpf\.[ch]$/.test(file.path)) return [];
  return [...file.text.matchAll(MAP), ...file.text.matchAll(PROGRAM)]
    .filter((match) => match[1].length > NAME_LENGTH_MAX)
    .map((match) => {
      const end = match.index + match[0].length;
      const problem = `the kernel object ${match[1]} has ${match[1].length} characters`;
      const cure = `take at most ${NAME_LENGTH_MAX}: the kernel cuts the rest`;
      return { path: file.path, line: file.text.slice(0, end).split('\n').length, problem, cure };
    });
}
