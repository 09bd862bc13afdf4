// Places the programs of uprobe sources in the files that processes run, and takes them out 75 seconds after nobody does any
// more: a short command that runs each minute is seen from its first call on. New processes are announced by the kernel
// program on exec; a periodic look at all processes finds what was loaded later. The work is done in slices within the
// collector's turns.

import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { ElfFile } from '../bpf/elf-file.ts';
import { BpfError } from '../bpf/error.ts';
import type { BpfLink } from '../bpf/link.ts';
import type { BpfProgram } from '../bpf/program.ts';
import type { Ledger } from '../table/ledger.ts';
import type { CodeFile, Placement, Probe, UprobeSource } from '../table/probe.ts';
import { executableOf, fileIdentity, librariesOf, type MappedFile, pidsOf } from './mapped.ts';
import type { UprobePins } from './uprobe_pins.ts';

/** A turn may take this long here. */
const TURN_MS = 4;
/** From the end of one look at all processes to the next; more where a look takes long. */
const SCAN_MS = 30_000;
const SCAN_SHARE = 1 / 100;
/** After exec: at once, and when its libraries are loaded. */
const LOOKS_MS = [0, 300, 1500, 6000] as const;
const RECENT_MAX = 4096;
/** So long, and in so many files, programs stay when nobody runs them any more. */
const UNUSED_MS = 75_000;
const UNUSED_MAX = 64;
const FILES_MAX = 4096;
/** Each holds a descriptor for each of its placements. */
const PLACED_MAX = 512;
const PLACEMENTS_MAX = 32;
const REASONS_MAX = 3;

export interface UprobeOptions {
  /** Those that are on. */
  readonly probes: readonly Probe[];
  readonly programs: readonly { readonly name: string; readonly program: BpfProgram }[];
  readonly proc: string;
  readonly ledger: Ledger;
  readonly pins?: UprobePins;
  /** This process runs a file in which programs stand. */
  readonly on_user: (pid: number) => void;
}

/** A line of the capability report. */
export interface PlacedReport {
  readonly source: string;
  readonly part: string;
  readonly state: 'on' | 'off' | 'failed';
  readonly variant: string;
  readonly reason: string;
}

interface Source {
  readonly probe: string;
  readonly source: UprobeSource;
  placed: number;
  /** Why files could not be probed, by path. */
  readonly reasons: Map<string, string>;
}

/** A file that was looked at. */
interface Known {
  readonly path: string;
  readonly placed: readonly { readonly source: Source; readonly links: readonly BpfLink[] }[];
  /** When a process that runs it was last seen; for a standing file: when it was last there. */
  seen_ms: number;
}

export class Uprobes {
  readonly #sources: readonly Source[];
  readonly #programs: ReadonlyMap<string, BpfProgram>;
  readonly #options: UprobeOptions;
  readonly #libraries: RegExp;
  readonly #executables: RegExp;
  /** The host's. */
  readonly #root: string;
  /** By `fileIdentity`. */
  readonly #files = new Map<string, Known>();
  readonly #recent = new Map<number, { due_ms: number; look: number }>();
  #queue: number[] = [];
  #scan_began_ms = 0;
  #next_scan_ms = 0;
  #scan_cost_ms = 0;
  #scanned = false;

  constructor(options: UprobeOptions) {
    this.#options = options;
    this.#sources = options.probes.flatMap(({ name, uprobes }) =>
      (uprobes ?? []).map((source) => ({ probe: name, source, placed: 0, reasons: new Map() })),
    );
    this.#programs = new Map(options.programs.map(({ name, program }) => [name, program]));
    this.#root = rootOf(options.proc);
    this.#libraries = anyOf(this.#sources.map(({ source }) => source.libraries));
    this.#executables = anyOf(this.#sources.map(({ source }) => source.executables));
  }

  get has_sources(): boolean {
    return this.#sources.length > 0;
  }

  /** True: all processes that were there at the last look, and all announced since, have been looked at once. */
  get settled(): boolean {
    const looked = [...this.#recent.values()].every(({ look }) => look > 0);
    return this.#scanned && this.#queue.length === 0 && looked;
  }

  /** Files in which programs stand. */
  get placed(): readonly string[] {
    return [...this.#files.values()].filter(isPlaced).map(({ path }) => path);
  }

  /** A process has called exec. */
  announce(pid: number, now_ms: number): void {
    if (!this.has_sources) return;
    this.#recent.delete(pid);
    if (this.#recent.size < RECENT_MAX) this.#recent.set(pid, { due_ms: now_ms, look: 0 });
    else this.#book('processes', 'too_many_new');
  }

  /** Looks on for some milliseconds. */
  turn(now_ms: number, budget_ms: number = TURN_MS): void {
    if (!this.has_sources) return;
    const end = performance.now() + budget_ms;
    for (const [pid, recent] of this.#recent) {
      if (recent.due_ms > now_ms) continue;
      if (performance.now() >= end) return;
      this.#lookAgain(pid, recent, now_ms);
    }
    if (this.#queue.length === 0 && now_ms >= this.#next_scan_ms) this.#startScan(now_ms);
    if (this.#scan_began_ms !== 0) this.#scan(now_ms, end);
  }

  report(): readonly PlacedReport[] {
    return this.#sources.map(({ probe, source, placed, reasons }) => {
      const failed = [...reasons].slice(-REASONS_MAX).map(([path, why]) => `${path}: ${why}`);
      const idle = failed.length > 0 ? 'failed' : 'off';
      return {
        source: probe,
        part: source.name,
        state: placed > 0 ? 'on' : idle,
        variant: placed > 0 ? `files: ${placed}` : '',
        reason: placed === 0 && failed.length === 0 ? 'nobody runs it' : failed.join('; '),
      };
    });
  }

  close(): void {
    for (const known of this.#files.values()) this.#remove(known);
    this.#files.clear();
  }

  #lookAgain(pid: number, recent: { due_ms: number; look: number }, now_ms: number): void {
    const wait = LOOKS_MS[recent.look + 1];
    this.#recent.delete(pid);
    if (!this.#look(pid, now_ms) || wait === undefined) return;
    this.#recent.set(pid, { due_ms: recent.due_ms + wait, look: recent.look + 1 });
  }

  #startScan(now_ms: number): void {
    this.#scan_began_ms = now_ms;
    this.#scan_cost_ms = 0;
    this.#queue = [...pidsOf(this.#options.proc)];
    for (const { source } of this.#sources) {
      for (const pattern of source.standing ?? []) this.#lookStanding(pattern, now_ms);
    }
  }

  #scan(now_ms: number, end: number): void {
    const began = performance.now();
    while (this.#queue.length > 0 && performance.now() < end) {
      this.#look(this.#queue.pop()!, now_ms);
    }
    this.#scan_cost_ms += performance.now() - began;
    if (this.#queue.length > 0) return;
    this.#retire(now_ms);
    this.#scan_began_ms = 0;
    this.#scanned = true;
    this.#options.pins?.discardRest();
    this.#next_scan_ms = now_ms + Math.max(SCAN_MS, this.#scan_cost_ms / SCAN_SHARE);
  }

  /** Of the files that nobody runs any more, those go that were unused too long, are no more there, or are too many. */
  #retire(now_ms: number): void {
    const unused = [...this.#files].filter(([, { seen_ms }]) => seen_ms < this.#scan_began_ms);
    const stay = unused.filter(
      ([key, known]) =>
        isPlaced(known) && now_ms - known.seen_ms < UNUSED_MS && this.#isThere(key, known),
    );
    stay.sort(([, a], [, b]) => b.seen_ms - a.seen_ms);
    const kept = new Set(stay.slice(0, UNUSED_MAX).map(([key]) => key));
    for (const [key, known] of unused) {
      if (kept.has(key)) continue;
      this.#remove(known);
      this.#files.delete(key);
    }
  }

  /** The host has it at its path, as it was. Of a container's it cannot be said, and a program would hold its file system. */
  #isThere(key: string, { path }: Known): boolean {
    try {
      return fileIdentity(join(this.#root, path)) === key;
    } catch {
      return false; // gone
    }
  }

  /** False: the process is gone. */
  #look(pid: number, now_ms: number): boolean {
    const { proc } = this.#options;
    const executable = executableOf(pid, proc);
    if (executable === undefined) return false;
    const wanted = this.#executables.test(executable.name);
    let uses = wanted && this.#meet(executable, true, now_ms);
    for (const library of librariesOf(pid, proc, this.#libraries)) {
      uses = this.#meet(library, false, now_ms) || uses;
    }
    if (uses) this.#options.on_user(pid);
    return true;
  }

  #lookStanding(pattern: string, now_ms: number): void {
    const root = this.#root;
    try {
      for (const path of globSync(pattern.slice(1), { cwd: root })) {
        const name = path.slice(path.lastIndexOf('/') + 1);
        const file = { path: `/${path}`, name, open_paths: [join(root, path)] };
        this.#meet(file, this.#executables.test(name), now_ms);
      }
    } catch {
      // the host's root cannot be read: then only what runs is probed
    }
  }

  /** True: programs stand in it. */
  #meet(file: MappedFile, executable: boolean, now_ms: number): boolean {
    for (const path of file.open_paths) {
      try {
        const key = fileIdentity(path);
        const known = this.#files.get(key) ?? this.#learn(key, file, path, executable);
        known.seen_ms = now_ms;
        return isPlaced(known);
      } catch {
        // gone, or not to be seen this way
      }
    }
    return false;
  }

  #learn(key: string, file: MappedFile, open_path: string, executable: boolean): Known {
    const sources = this.#sources.filter(({ source }) =>
      (executable ? source.executables : source.libraries)?.test(file.name),
    );
    const placed = sources.flatMap((source) => {
      const links = this.#linksIn(source, key, file.path, open_path);
      return links.length === 0 ? [] : [{ source, links }];
    });
    const known: Known = { path: file.path, placed, seen_ms: 0 };
    if (this.#files.size >= FILES_MAX) this.#forgetOne();
    this.#files.set(key, known);
    return known;
  }

  /** Those that a killed predecessor has left there, or new ones. */
  #linksIn(one: Source, key: string, path: string, open_path: string): readonly BpfLink[] {
    const { pins, ledger } = this.#options;
    const name = `${one.probe}_${one.source.name}`;
    const kept = pins?.take(key, name);
    const links = kept ?? this.#place(one, path, open_path);
    if (links.length === 0) return links;
    if (kept === undefined) pins?.keep(key, name, links);
    one.placed += 1;
    ledger.seen('kernel', 'uprobe_files', 1);
    ledger.kept('kernel', 'uprobe_files', 1);
    return links;
  }

  /** The oldest in which nothing stands; it is looked at again when somebody runs it still. */
  #forgetOne(): void {
    for (const [key, known] of this.#files) {
      if (isPlaced(known)) continue;
      this.#files.delete(key);
      return;
    }
  }

  #place(one: Source, path: string, open_path: string): readonly BpfLink[] {
    // Held open: a process that ends meanwhile takes the path with it.
    using file = openCode(open_path);
    if (file === undefined) return [];
    const links: BpfLink[] = [];
    try {
      const places = placesIn(one.source, file);
      if (typeof places === 'string') throw new Error(places);
      if (places.length === 0) return [];
      if (this.#placed() >= PLACED_MAX) throw new Error(`${PLACED_MAX} files are probed already`);
      const starts = places.map(({ program, offset, ret = false }) => {
        const loaded = this.#programs.get(program); // absent: refused, and reported by its part
        const link = loaded?.prepare({ path: file.held_path, offset, ret });
        if (link !== undefined) links.push(link);
        return () => link && loaded?.start(link);
      });
      // All at once: a request whose response went by before the other program stood would be without one.
      for (const start of starts) start();
    } catch (error) {
      for (const link of links) link.close();
      this.#fail(one, path, error instanceof Error ? error.message : String(error));
      return [];
    }
    return links;
  }

  #fail({ reasons }: Source, path: string, why: string): void {
    reasons.delete(path);
    if (reasons.size >= FILES_MAX) reasons.clear();
    reasons.set(path, why);
    this.#book('uprobe_files', 'not_probed');
  }

  #placed(): number {
    return this.#sources.reduce((sum, { placed }) => sum + placed, 0);
  }

  #remove({ placed }: Known): void {
    for (const { source, links } of placed) {
      source.placed -= 1;
      for (const link of links) {
        if (this.#options.pins !== undefined) link.unpin();
        link.close();
      }
    }
  }

  #book(what: string, reason: string): void {
    this.#options.ledger.seen('kernel', what, 1);
    this.#options.ledger.dropped('kernel', what, reason, 1);
  }
}

/** Where the first process may not be looked into, our own root is the best guess. */
function rootOf(proc: string): string {
  const root = join(proc, '1/root');
  return existsSync(join(root, 'etc')) ? root : '/';
}

function isPlaced({ placed }: Known): boolean {
  return placed.length > 0;
}

/** Undefined: a script, or another machine's file. Throws where it is gone. */
function openCode(path: string): ElfFile | undefined {
  try {
    return ElfFile.open(path);
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}

function placesIn(source: UprobeSource, file: CodeFile): readonly Placement[] | string {
  const places = source.places(file);
  if (typeof places === 'string' || places.length <= PLACEMENTS_MAX) return places;
  return `it has ${places.length} places, more than ${PLACEMENTS_MAX}`;
}

function anyOf(patterns: readonly (RegExp | undefined)[]): RegExp {
  const sources = patterns.flatMap((pattern) => (pattern === undefined ? [] : [pattern.source]));
  return sources.length === 0 ? /(?!)/ : new RegExp(sources.map((one) => `(?:${one})`).join('|'));
}
