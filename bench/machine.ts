// What the machine is and what it is doing: figures without that mean little.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';

/** Read from the path as it is; undefined where it is gone, as processes go. */
function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // the process or thread ended between listing and reading
  }
}

function list(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // ended, as above
  }
}

/** Processor time of a process's living threads in microseconds, to the nanosecond as the scheduler has it. */
export function cpuTimeUs(pid: number): number {
  let sum_ns = 0;
  for (const thread of list(`/proc/${pid}/task`)) {
    sum_ns += Number(readText(`/proc/${pid}/task/${thread}/schedstat`)?.split(' ')[0] ?? 0);
  }
  return sum_ns / 1000;
}

/** Resident memory in bytes, and the most it was. */
export function memory(pid: number): { rss: number; rss_max: number } {
  const status = readText(`/proc/${pid}/status`) ?? '';
  const kib = (key: string) => Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status)?.[1] ?? 0);
  return { rss: kib('VmRSS') * 1024, rss_max: kib('VmHWM') * 1024 };
}

/** Processes that hold BPF links: what they attached runs in every turn of every benchmark. */
export function bpfHolders(): readonly string[] {
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => list(`/proc/${pid}/fd`).some((fd) => isBpfLink(`/proc/${pid}/fd/${fd}`)))
    .map((pid) => `${(readText(`/proc/${pid}/comm`) ?? '?').trim()} (${pid})`);
}

function isBpfLink(path: string): boolean {
  try {
    return readlinkSync(path) === 'anon_inode:bpf_link';
  } catch {
    return false; // closed meanwhile
  }
}

export interface MachineNote {
  readonly date: string;
  readonly kernel: string;
  readonly processor: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly load: readonly number[];
  readonly others: readonly string[];
}

export function machineNote(): MachineNote {
  return {
    date: new Date().toISOString(),
    kernel: release(),
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    load: loadavg().map((value) => Number(value.toFixed(2))),
    others: bpfHolders(),
  };
}

export function formatNote(note: MachineNote): string {
  const { date, kernel, processor, cores, memory_gib, load, others } = note;
  return [
    `${date}  Linux ${kernel}, ${cores} × ${processor}, ${memory_gib} GiB`,
    `load ${load.join(' ')}; others that hold BPF programs: ${others.join(', ') || 'none'}`,
  ].join('\n');
}
