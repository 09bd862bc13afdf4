// Who may import whom: downstream only, and never in a circle. Tests may reach further than what they test.

import { posix } from 'node:path';
import { type File, type Finding, linesOf } from './files.ts';

/** Layer → the layers that it may import beside itself. A folder of src that is not here is a finding. */
const LAYERS: ReadonlyMap<string, readonly string[]> = new Map([
  ['src/table', []],
  ['src/bpf', []],
  ['src/config', ['src/table']],
  ['probes', ['src/table']],
  ['src/wire', ['src/table']],
  ['src/store', ['src/table']],
  ['src/outlet', ['src/table']],
  ['src/collector', ['src/bpf', 'src/config', 'src/outlet', 'src/table', 'src/wire', 'probes']],
  ['src/reducer', ['src/config', 'src/outlet', 'src/store', 'src/table', 'src/wire', 'probes']],
  ['src/web', ['src/config', 'src/store', 'src/table']],
  ['src/profile', ['src/bpf', 'src/wire']],
  ['src/doctor', ['src/bpf', 'src/collector', 'src/config', 'src/table', 'src/wire', 'probes']],
  [
    'src/cli',
    [
      ...['src/bpf', 'src/collector', 'src/config', 'src/doctor', 'src/outlet', 'src/reducer'],
      ...['src/profile', 'src/store', 'src/table', 'src/web', 'src/wire', 'probes'],
    ],
  ],
]);

/** These stand above all layers. */
const ABOVE = /^(scripts|bench|test)\//;

/** Tests, what they share, and processes that they start to kill. */
const OF_TESTS = /\.test\.ts$|\/testing\.ts$|-child\.ts$/;

interface Import {
  readonly line: number;
  readonly specifier: string;
  /** Gone when the program runs. */
  readonly types_only: boolean;
}

const IMPORT = /^(?:import|export|\}).*? from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/;

/** The formatter puts a specifier on the line that begins or ends the import. */
export function importsOf(file: File): readonly Import[] {
  let head = '';
  return linesOf(file).flatMap((text, index) => {
    if (/^(import|export)\b/.test(text)) head = text;
    const match = IMPORT.exec(text);
    if (!match) return [];
    const types_only = /^(import|export) type\b/.test(text.startsWith('}') ? head : text);
    return [{ line: index + 1, specifier: match[1] ?? match[2] ?? match[3], types_only }];
  });
}

function layerOf(path: string): string | undefined {
  const [first, second] = path.split('/');
  if (first === 'probes') return 'probes';
  return first === 'src' ? `src/${second}` : undefined;
}

function target(file: File, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  return posix.normalize(posix.join(posix.dirname(file.path), specifier));
}

export function layers(file: File): Finding[] {
  if (!file.path.endsWith('.ts') || ABOVE.test(file.path)) return [];
  const own = layerOf(file.path);
  if (own === undefined) return [];
  const allowed = LAYERS.get(own);
  if (!allowed) {
    const cure = 'give it a layer in test/tidy/layers.ts and in ARCHITECTURE.md';
    return [{ path: file.path, line: 1, problem: `${own} is no layer`, cure }];
  }
  if (OF_TESTS.test(file.path)) return [];
  return importsOf(file).flatMap(({ line, specifier }) => {
    const to = target(file, specifier);
    const other = to === undefined ? undefined : (layerOf(to) ?? to);
    if (other === undefined || other === own || allowed.includes(other)) return [];
    const problem = `${own} imports ${other}; it may import ${allowed.join(', ') || 'itself alone'}`;
    return [{ path: file.path, line, problem, cure: 'hand the value in from above' }];
  });
}

/** Circles of types alone are none: nothing of them is left when modules are loaded in their order. */
export function cycles(files: readonly File[]): Finding[] {
  const graph = new Map(files.filter((file) => file.path.endsWith('.ts')).map((f) => [f.path, f]));
  const done = new Set<string>();
  const findings: Finding[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const file = graph.get(path);
    if (!file || done.has(path)) return;
    for (const { line, specifier, types_only } of importsOf(file)) {
      const to = types_only ? undefined : target(file, specifier);
      if (to === undefined) continue;
      const at = [...trail, path].indexOf(to);
      if (at < 0) visit(to, [...trail, path]);
      else findings.push(circle(path, line, [...trail, path].slice(at)));
    }
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return findings;
}

function circle(path: string, line: number, members: readonly string[]): Finding {
  const problem = `imports in a circle: ${[...members, members[0]].join(' → ')}`;
  return { path, line, problem, cure: 'move what both need to a file below them' };
}

export function folderNames(file: File): Finding[] {
  const folder = /(?:^|\/)(utils?|helpers?|common|misc|lib)\//.exec(file.path);
  if (!folder) return [];
  const problem = `stands in a folder called ${folder[1]}`;
  return [{ path: file.path, line: 1, problem, cure: 'name the folder for what is in it' }];
}
