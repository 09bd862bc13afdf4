// From a pid to a process: name, executable, cgroup, container. Fed by the kernel's process records, which come before
// the first flow record of their process; what they do not tell is read from /proc while the process lives.

import {
  PathPartView,
  ProcessRecordView,
  ProcessView,
  process,
  process_record,
} from '../../probes/layout.gen.ts';
import type { BpfMap } from '../bpf/map.ts';
import type { CgroupPlace, Owner } from '../table/probe.ts';
import { type CgroupIndex, NO_CGROUP, readCgroup, readProcess } from './proc.ts';

const UNKNOWN: Owner = {
  process_name: '',
  process_executable_path: '',
  cgroup_path: '',
  container_id: '',
};

/** A pid's owner, and what tells that the pid was not reused and the process is still where it was. */
interface Entry {
  start_ns: number;
  cgroup_id: number;
  owner: Owner;
  used_ms: number;
}

export interface IdentityCounts {
  /** Processes known now. */
  known: number;
  announced: number;
  /** Owners of whom nothing could be learned. */
  unknown: number;
  /** Forgotten to stay within the limit. */
  evicted: number;
}

export class Identity {
  readonly #entries = new Map<number, Entry>();
  readonly #processes_max: number;
  readonly #cgroups: CgroupIndex;
  readonly #announced: BpfMap | undefined;
  readonly #proc: string;
  readonly #record = new ProcessRecordView(new Uint8Array(0));
  readonly #part = new PathPartView(new Uint8Array(0));
  readonly counts: IdentityCounts = { known: 0, announced: 0, unknown: 0, evicted: 0 };

  /** `announced`: the kernel's map of processes that were announced to a predecessor. */
  constructor(options: {
    processes_max: number;
    cgroups: CgroupIndex;
    proc?: string;
    announced?: BpfMap;
  }) {
    this.#processes_max = options.processes_max;
    this.#cgroups = options.cgroups;
    this.#announced = options.announced;
    this.#proc = options.proc ?? '/proc';
  }

  /** Takes the process record at this offset. */
  announce(bytes: Uint8Array, at: number, now_ms: number): void {
    const record = this.#record.over(bytes).move(at);
    this.counts.announced += 1;
    const pid = record.tgid;
    const truncated = record.head_flags !== 0;
    const path = this.#path(bytes, record);
    const live =
      truncated || path === '' ? readProcess(pid, record.start_ns, this.#proc) : undefined;
    const name = live?.name ?? path.slice(path.lastIndexOf('/') + 1);
    this.#keep(pid, record.start_ns, record.cgroup_id, now_ms, {
      name: name === '' ? record.comm : name,
      executable_path: live?.executable_path ?? path,
    });
  }

  /** The owner of a flow record; the same object until something new is known. */
  readonly lookup = (pid: number, start_ns: number, cgroup_id: number): Owner => {
    if (pid === 0) return UNKNOWN;
    const entry = this.#entries.get(pid);
    if (entry === undefined || entry.start_ns !== start_ns) {
      return this.#learn(pid, start_ns, cgroup_id);
    }
    entry.used_ms = this.#now_ms;
    if (cgroup_id === 0) return entry.owner;
    if (entry.cgroup_id !== cgroup_id) this.#moved(pid, entry, cgroup_id);
    else if (entry.owner.cgroup_path === '') this.#seek(entry);
    return entry.owner;
  };

  /** A cgroup that exists, by its v2 id. */
  readonly cgroup = (cgroup_id: number): CgroupPlace | undefined =>
    this.#cgroups.find(cgroup_id, performance.now());

  #now_ms = 0;

  /** To be called once a turn: forgets processes that are gone and were not named for a minute. */
  tick(now_ms: number): void {
    this.#now_ms = now_ms;
    for (const [pid, entry] of this.#entries) {
      if (Math.abs(now_ms - entry.used_ms) < 60_000) continue; // also after the clock was set back
      if (readProcess(pid, entry.start_ns, this.#proc) === undefined) this.#entries.delete(pid);
      else entry.used_ms = now_ms;
    }
    this.counts.known = this.#entries.size;
  }

  /** The file's name comes first in the record, the folder below the root last. */
  #path(bytes: Uint8Array, record: ProcessRecordView): string {
    let path = '';
    const parts = Math.min(record.parts, process_record.path_length);
    for (let i = 0; i < parts; i += 1) {
      path = `/${this.#part.over(bytes).move(record.path_offset(i)).text}${path}`;
    }
    return path;
  }

  /** A process that was not announced to us: announced to our predecessor, or only in /proc. */
  #learn(pid: number, start_ns: number, cgroup_id: number): Owner {
    const live = readProcess(pid, start_ns, this.#proc);
    const name = live?.name ?? this.#announcedName(pid, start_ns);
    if (name === undefined) this.counts.unknown += 1;
    return this.#keep(pid, start_ns, cgroup_id, this.#now_ms, {
      name: name ?? '',
      executable_path: live?.executable_path ?? '',
    });
  }

  #announcedName(pid: number, start_ns: number): string | undefined {
    if (this.#announced === undefined) return undefined;
    const key = new Uint8Array(Uint32Array.of(pid).buffer);
    const value = new Uint8Array(process.SIZE);
    if (!this.#announced.lookup(key, value)) return undefined;
    const view = new ProcessView(value);
    if (view.start_ns !== start_ns) return undefined;
    return view.name === '' ? view.comm : view.name;
  }

  #keep(
    pid: number,
    start_ns: number,
    cgroup_id: number,
    now_ms: number,
    { name, executable_path }: { name: string; executable_path: string },
  ): Owner {
    const place = this.#place(pid, start_ns, cgroup_id);
    const owner: Owner = {
      process_name: name,
      process_executable_path: executable_path,
      cgroup_path: place.path,
      container_id: place.container_id,
    };
    this.#entries.delete(pid); // to the end of the order
    this.#entries.set(pid, { start_ns, cgroup_id, owner, used_ms: now_ms });
    if (this.#entries.size > this.#processes_max) this.#evict();
    return owner;
  }

  #evict(): void {
    const oldest = this.#entries.keys().next().value;
    if (oldest === undefined) return;
    this.#entries.delete(oldest);
    this.counts.evicted += 1;
  }

  #moved(pid: number, entry: Entry, cgroup_id: number): void {
    entry.cgroup_id = cgroup_id;
    this.#put(entry, this.#place(pid, entry.start_ns, cgroup_id));
  }

  /** The process was gone and its cgroup not found: perhaps it is by now. */
  #seek(entry: Entry): void {
    const place = this.#cgroups.find(entry.cgroup_id, performance.now());
    if (place !== undefined) this.#put(entry, place);
  }

  #put(entry: Entry, { path, container_id }: CgroupPlace): void {
    entry.owner = { ...entry.owner, cgroup_path: path, container_id };
  }

  /** From /proc while the pid is this process's, since hybrid hosts name the container there alone; else by the id. */
  #place(pid: number, start_ns: number, cgroup_id: number): CgroupPlace {
    const lives = readProcess(pid, start_ns, this.#proc) !== undefined;
    const place = lives ? readCgroup(pid, this.#proc) : undefined;
    return place ?? this.#cgroups.find(cgroup_id, performance.now()) ?? NO_CGROUP;
  }
}
