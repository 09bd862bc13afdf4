// Programs: declared in an object, attached once loaded; or re-opened from a pin.
import { readFileSync } from 'node:fs';
import { BpfError } from './error.ts';
import { BpfIter } from './iter.ts';
import { BpfLink, removePin } from './link.ts';
import {
  type LinkHandle,
  type NativeProgramDeclaration,
  native,
  type ObjectHandle,
  type ProgramHandle,
} from './native.ts';

/** What the kernel counts while statistics are enabled (`enableStats`), since the program was loaded. */
export interface ProgramStats {
  readonly run_count: number;
  readonly run_time_ns: number;
  readonly recursion_misses: number;
}

export interface ProgramInfo {
  readonly id: number;
  readonly name: string;
  readonly typeName: string;
  /** A hash of the instructions. */
  readonly tag: string;
  readonly instructions: number;
  /** What the verifier walked; 0 before 5.16. */
  readonly verifiedInstructions: number;
}

export interface UprobeOptions {
  readonly path: string;
  /** With a symbol, `offset` counts from it; without, `offset` is one into the file. */
  readonly symbol?: string;
  readonly offset?: number;
  /** One process; all of them by default. */
  readonly pid?: number;
  /** At the return instead of the entry. */
  readonly ret?: boolean;
}

export interface UsdtOptions {
  readonly path: string;
  readonly provider: string;
  readonly name: string;
  readonly pid?: number;
}

export interface PerfEventOptions {
  /** perf_event_attr.type and .config; by default the CPU clock, which every machine has. */
  readonly type?: number;
  readonly config?: number;
  /** One of both: samples a second, or events a sample. */
  readonly frequency?: number;
  readonly period?: number;
  readonly cpu: number;
  /** One process; all of them by default. */
  readonly pid?: number;
}

export interface PlaceOptions {
  readonly path: string;
  /** Into the file, of an instruction's first byte. */
  readonly offset: number;
  /** At the return of the function that begins there. */
  readonly ret?: boolean;
}

const PERF_TYPE_SOFTWARE = 1;
const PERF_COUNT_SW_CPU_CLOCK = 0;

interface Declaration {
  readonly object: ObjectHandle;
  readonly index: number;
}

export class BpfProgram {
  readonly name: string;
  /** `tp_btf/inet_sock_set_state` …; empty for one that was opened from a pin. */
  readonly section: string;
  readonly type: number;
  readonly typeName: string;
  #autoload = true;
  #declaration: Declaration | undefined;
  #handle: ProgramHandle | undefined;
  // A link that is garbage collected detaches: the program holds its links until it is closed.
  readonly #links = new Set<BpfLink>();
  readonly #pins = new Set<string>();

  private constructor(
    declared: Pick<NativeProgramDeclaration, 'name' | 'section' | 'type' | 'typeName'>,
  ) {
    this.name = declared.name;
    this.section = declared.section;
    this.type = declared.type;
    this.typeName = declared.typeName;
  }

  /** A program of an opened object; `BpfObject` alone calls this. */
  static declared(
    declared: NativeProgramDeclaration,
    object: ObjectHandle,
    index: number,
  ): BpfProgram {
    const program = new BpfProgram(declared);
    program.#autoload = declared.autoload;
    program.#declaration = { object, index };
    return program;
  }

  /** For its id, name and statistics; such a program cannot be attached. */
  static openPinned(path: string): BpfProgram {
    const handle = native().openPinned(path, 'prog');
    const program = new BpfProgram({ ...native().programInfo(handle), section: '' });
    program.#handle = handle;
    program.#pins.add(path);
    return program;
  }

  /** Takes what a load created; `BpfObject` alone calls this. */
  bind(handle: ProgramHandle): void {
    this.#handle = handle;
  }

  get autoload(): boolean {
    return this.#autoload;
  }

  /** Before load only: whether the load takes this program in. */
  set autoload(flag: boolean) {
    const { object, index } = this.#declared();
    native().objectSetAutoload(object, index, flag);
    this.#autoload = flag;
  }

  get loaded(): boolean {
    return this.#handle !== undefined;
  }

  get fd(): number {
    return native().fd(this.#live());
  }

  get id(): number {
    return this.info().id;
  }

  info(): ProgramInfo {
    const { id, name, typeName, tag, instructions, verifiedInstructions } = native().programInfo(
      this.#live(),
    );
    return { id, name, typeName, tag, instructions, verifiedInstructions };
  }

  stats(): ProgramStats {
    const info = native().programInfo(this.#live());
    return {
      run_count: info.runCount,
      run_time_ns: info.runTimeNs,
      recursion_misses: info.recursionMisses,
    };
  }

  /** Attaches as the section says: tracepoints, tp_btf, raw_tp, fentry, kprobes, uprobes with a path … */
  attach(): BpfLink {
    return this.#attach((object, index) => native().attachAuto(object, index));
  }

  /** To a folder of cgroup2; other programs there stay. */
  attachCgroup(path: string): BpfLink {
    return this.#attach((object, index) => native().attachPath(object, index, 'cgroup', path));
  }

  /** To a network namespace, by its file (`/proc/PID/ns/net`). */
  attachNetns(path: string): BpfLink {
    return this.#attach((object, index) => native().attachPath(object, index, 'netns', path));
  }

  attachXdp(interfaceIndex: number): BpfLink {
    return this.#attach((object, index) => native().attachXdp(object, index, interfaceIndex));
  }

  /** An iterator; those over a map's elements (`iter/bpf_map_elem`, `iter/bpf_sk_storage_map`) take `map`. */
  attachIter(options: { readonly map?: { readonly fd: number } } = {}): BpfLink {
    const fd = options.map?.fd ?? -1;
    return this.#attach((object, index) => native().attachIter(object, index, fd));
  }

  /** `attachIter` and the reader over it. */
  iterate(options: { readonly map?: { readonly fd: number } } = {}): BpfIter {
    return new BpfIter(this.attachIter(options));
  }

  attachUprobe(options: UprobeOptions): BpfLink {
    const { path, symbol = null, offset = 0, pid = -1, ret = false } = options;
    return this.#attach((object, index) =>
      native().attachUprobe(object, index, path, symbol, offset, pid, ret),
    );
  }

  attachUsdt(options: UsdtOptions): BpfLink {
    const { path, provider, name, pid = -1 } = options;
    return this.#attach((object, index) =>
      native().attachUsdt(object, index, path, provider, name, pid),
    );
  }

  attachKprobe(symbol: string, options: { readonly ret?: boolean } = {}): BpfLink {
    const kind = options.ret ? 'kretprobe' : 'kprobe';
    return this.#attach((object, index) => native().attachNamed(object, index, kind, symbol, null));
  }

  attachTracepoint(category: string, name: string): BpfLink {
    return this.#attach((object, index) =>
      native().attachNamed(object, index, 'tracepoint', name, category),
    );
  }

  attachRawTracepoint(name: string): BpfLink {
    return this.#attach((object, index) => native().attachNamed(object, index, 'raw', name, null));
  }

  /** To the perf event of one CPU. */
  attachPerfEvent(options: PerfEventOptions): BpfLink {
    const { type = PERF_TYPE_SOFTWARE, config = PERF_COUNT_SW_CPU_CLOCK, cpu, pid = -1 } = options;
    const sample = options.frequency ?? options.period;
    if (sample === undefined) {
      throw new BpfError('A perf event needs a frequency or a period', { code: 'EARGUMENT' });
    }
    const byFrequency = options.frequency !== undefined;
    return this.#attach((object, index) =>
      native().attachPerf(object, index, type, config, sample, byFrequency, pid, cpu),
    );
  }

  /**
   * Places a program of kprobe type on an instruction of a file, in all processes that run it now or later. Also one that
   * was opened from a pin. The placement ends with its link, which the caller keeps, or with the process.
   */
  place(options: PlaceOptions): BpfLink {
    const link = this.prepare(options);
    try {
      this.start(link);
    } catch (error) {
      link.close();
      throw error;
    }
    return link;
  }

  /** The slow part of `place`, some milliseconds: the breakpoint stands, and runs nothing before `start`. */
  prepare({ path, offset, ret = false }: PlaceOptions): BpfLink {
    const { type, ret_bit } = uprobeEvents();
    const config = ret ? 2 ** ret_bit : 0;
    return new BpfLink(native().programPrepare(type, config, path, offset));
  }

  /** Runs this program at what was prepared. */
  start(link: BpfLink): void {
    native().programStart(this.#live(), link.handle);
  }

  /** Runs the program once (or `repeat` times) on test data, where its type allows that. */
  run(
    options: {
      readonly data?: Uint8Array;
      readonly output?: Uint8Array;
      readonly context?: Uint8Array;
      readonly repeat?: number;
    } = {},
  ): { result: number; durationNs: number; bytes: number } {
    const { data = null, output = null, context = null, repeat = 0 } = options;
    return native().programRun(this.#live(), data, output, context, repeat);
  }

  pin(path: string): void {
    native().pin(this.#live(), path);
    this.#pins.add(path);
  }

  /** Removes the pins made or opened through this object. */
  unpin(): void {
    for (const path of this.#pins) removePin(path);
    this.#pins.clear();
  }

  /** Closes the links made through this object, which detaches those that are not pinned, and the program. */
  close(): void {
    for (const link of this.#links) link.close();
    this.#links.clear();
    if (this.#handle) native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #attach(how: (object: ObjectHandle, index: number) => LinkHandle): BpfLink {
    const { object, index } = this.#declared();
    const link = new BpfLink(how(object, index));
    this.#links.add(link);
    return link;
  }

  #declared(): Declaration {
    if (this.#declaration) return this.#declaration;
    throw new BpfError(`Program '${this.name}' belongs to no opened object`, { code: 'ESTATE' });
  }

  #live(): ProgramHandle {
    if (this.#handle) return this.#handle;
    throw new BpfError(`Program '${this.name}' is not loaded`, { code: 'ESTATE' });
  }
}

let uprobe_events: { readonly type: number; readonly ret_bit: number } | undefined;

/** How this kernel numbers its uprobe events; they came with 4.17. */
function uprobeEvents(): { readonly type: number; readonly ret_bit: number } {
  if (uprobe_events !== undefined) return uprobe_events;
  const folder = '/sys/bus/event_source/devices/uprobe';
  try {
    const ret = readFileSync(`${folder}/format/retprobe`, 'latin1').replace('config:', '');
    uprobe_events = {
      type: Number(readFileSync(`${folder}/type`, 'latin1')),
      ret_bit: Number(ret),
    };
    return uprobe_events;
  } catch (error) {
    throw new BpfError('The kernel has no uprobes', { code: 'ENOSYS', log: String(error) });
  }
}
