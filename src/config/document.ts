// The configuration of the documents' agents, `collectors.ebpf`, as it stands in their files: each of its keys moves to
// the one of ours that it stands for, and its place in the file with it.

import { type Draft, isTree, setValue, valueAt } from './draft.ts';
import { ConfigError } from './error.ts';
import type { ConfigKey } from './keys.ts';
import { didYouMean } from './suggest.ts';

/** The document's sub-collectors → the sources that do their work. */
export const SUB_COLLECTORS: ReadonlyMap<string, readonly string[]> = new Map([
  ['syscalls', ['syscalls']],
  ['network', ['tcp', 'udp']],
  ['fileio', ['fileio']],
  ['scheduler', ['scheduler']],
  ['memory', ['memory']],
  ['tcp_state', ['tcp_state', 'tcpstate']],
]);

/** Other spellings of the switches, in files for agents of this kind. */
const SWITCHES: ReadonlyMap<string, string> = new Map([
  ...[...SUB_COLLECTORS.keys()].map((name) => [`collect_${name}`, name] as const),
  ['file_io', 'fileio'],
  ['collect_file_io', 'fileio'],
  ['tcpstate', 'tcp_state'],
  ['tcp_events', 'tcp_state'],
  ['collect_tcp_events', 'tcp_state'],
]);

/** Keys of the section → ours. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ['enabled', 'collector.enabled'],
  ['interval', 'collector.interval'],
  ['btf_path', 'collector.btf_path'],
  ['pin_path', 'collector.pin_path'],
  ['kernel_prefix', 'collector.kernel_prefix'],
  ['ring_bytes', 'collector.ring_bytes'],
  ['maps', 'collector.maps'],
  ['ephemeral_port', 'collector.ephemeral_port'],
  ['filter', 'collector.filter'],
  ['process_include', 'collector.filter.include_names'],
  ['process_exclude', 'collector.filter.exclude_names'],
  ['exclude_processes', 'collector.filter.exclude_names'],
  ['metrics', 'agent.metrics'],
]);

/** `collectors.ebpf` of the documents: each of its keys moves to the one that it stands for. */
export function moveDocumentSection(draft: Draft, sources: readonly string[]): void {
  const outer = draft.tree.collectors;
  const section = valueAt(draft.tree, ['collectors', 'ebpf']);
  if (!isTree(outer) || !isTree(section)) return;
  for (const [name, value] of Object.entries(section)) {
    const from = ['collectors', 'ebpf', name];
    const places = placesOf(name, value, sources);
    if (places === undefined) throw unknownKey(draft, from);
    if (places.length === 0) {
      draft.warnings.push(`collectors.ebpf.${name}: this sonde has no such source yet; ignored`);
    }
    for (const to of places) move(draft, from, to, value);
    delete section[name];
  }
  delete outer.ebpf;
  if (Object.keys(outer).length === 0) delete draft.tree.collectors;
}

function unknownKey({ fileWhere }: Draft, at: readonly string[]): ConfigError {
  const known = [...SUB_COLLECTORS.keys(), ...ALIASES.keys()];
  const cure = didYouMean(at.at(-1) ?? '', known);
  const where = fileWhere(at, 'key');
  return new ConfigError([{ where, key: at.join('.'), problem: 'is no known key', cure }]);
}

/** Our keys for one of the section; undefined: it is none that is known. */
function placesOf(
  name: string,
  value: unknown,
  sources: readonly string[],
): readonly string[] | undefined {
  const collector = SWITCHES.get(name) ?? name;
  const own = SUB_COLLECTORS.get(collector)?.filter((source) => sources.includes(source));
  const end = isTree(value) ? '' : '.enabled';
  if (own !== undefined) return own.map((source) => `collector.probes.${source}${end}`);
  if (sources.includes(name)) return [`collector.probes.${name}${end}`];
  const alias = ALIASES.get(name);
  return alias === undefined ? undefined : [alias];
}

function move(draft: Draft, from: readonly string[], to: string, value: unknown): void {
  const at = to.split('.');
  if (valueAt(draft.tree, at) !== undefined) {
    const cure = `keep one of ${from.join('.')} and ${to}`;
    const where = draft.fileWhere(from, 'key');
    throw new ConfigError([{ where, key: to, problem: 'is given twice', cure }]);
  }
  // A copy for each source: what is filled in for one is not for the other.
  setValue(draft.tree, at, structuredClone(value));
  draft.moved.set(to, from);
}

/** What `sonde start` does where nothing is said: as the document has it. */
const AGENT_DEFAULTS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ['log.console', true],
  ['log.file', false],
  ['log.format', 'line'],
  ['collector.interval', '15s'],
  ['collector.pin_path', '/sys/fs/bpf/tfo-agent'],
  ['collector.kernel_prefix', 'tfo'],
  ['collector.ring_bytes', '2MiB'],
  // With the ring some 5 MB on kernels from 6.1 on, 9.5 MB with every map full; the document has 8 MB.
  ['collector.maps.sockets_max', 16_384],
  ['collector.maps.processes_max', 8192],
  ['collector.maps.syscalls_max', 4096],
  ['collector.maps.process_totals_max', 2048],
  ['collector.syscalls.latency', true],
  ['collector.fileio.latency', true],
]);

/** All six sub-collectors are on, no other source is. Keys that this sonde does not have are left out. */
export function setAgentDefaults(
  draft: Draft,
  sources: readonly string[],
  keys: readonly ConfigKey[],
): void {
  const six = [...SUB_COLLECTORS.values()].flat();
  const switches = sources.map((source) => {
    return [`collector.probes.${source}.enabled`, six.includes(source)] as const;
  });
  for (const [key, value] of [...AGENT_DEFAULTS, ...switches]) {
    const at = key.split('.');
    if (!keys.some((row) => row.key === key)) continue;
    if (valueAt(draft.tree, at) === undefined && isOpen(draft, at)) setValue(draft.tree, at, value);
  }
}

/** False where the file has something that is no section on the way: the schema reports it. */
function isOpen(draft: Draft, at: readonly string[]): boolean {
  return at.every((_, i) => {
    const value = valueAt(draft.tree, at.slice(0, i));
    return i === 0 || value === undefined || isTree(value);
  });
}
