// The process probe as data, and the decoder of its records; the kernel part is process.bpf.h.

import { constants, uptime } from 'node:os';
import { defineTable } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext, Probe, RecordDecoder, RecordSource } from '../../src/table/probe.ts';
import { containerId } from '../cgroup/path.ts';
import {
  ProcessEventView,
  process_event,
  process_event_flag,
  process_event_kind,
  process_exec_event,
  record_kind,
} from '../layout.gen.ts';

const EVENTS = ['fork', 'exec', 'exit'] as const;
const SIGNAL_MASK = 0x7f;
const CODE_SHIFT = 8;
/** Stands for the end of what did not fit. */
const CUT = '…';
const SIGNALS: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.signals).map(([name, number]) => [number, name]),
);

export const processEventTable = defineTable({
  name: 'process_event',
  help: 'begin, exec and end of each process',
  kind: 'event',
  dimensions: [
    { name: 'event', type: 'string', values: EVENTS, help: 'fork, exec or exit' },
    { name: 'pid', type: 'u32', help: 'process, as the host numbers it' },
    { name: 'ppid', type: 'u32', help: 'its parent at that time' },
    {
      name: 'process_name',
      type: 'string',
      help: "the kernel's name of it, 15 characters at most",
    },
    {
      name: 'process_executable_path',
      type: 'string',
      help: 'of an exec: the path as it was given, 127 bytes at most',
    },
    {
      name: 'process_command_args',
      type: 'string',
      help: 'of an exec, with collector.process.arguments: the arguments, 256 bytes at most',
    },
    { name: 'uid', type: 'u32', help: 'user id, as the host numbers it' },
    { name: 'cgroup_path', type: 'string', help: 'path of the cgroup v2; empty: not found' },
    { name: 'container_id', type: 'string', help: 'container, where the cgroup path names one' },
    { name: 'exit_code', type: 'i32', help: 'of an exit: its code; -1: none, a signal ended it' },
    {
      name: 'exit_signal',
      type: 'string',
      help: 'of an exit: the signal that ended it (SIGKILL …)',
    },
  ],
  measures: [
    {
      name: 'duration',
      type: 'u64',
      unit: 'ns',
      fold: 'sum',
      help: 'from the begin of the process to this event',
    },
  ],
  rows_max: 65_536,
});

type Column = (typeof COLUMNS)[number];
const COLUMNS = [
  ...(['event', 'pid', 'ppid', 'process_name', 'process_executable_path'] as const),
  ...(['process_command_args', 'uid', 'cgroup_path', 'container_id'] as const),
  ...(['exit_code', 'exit_signal'] as const),
];
/** Column → position; all of them are there. */
const D = Object.fromEntries(COLUMNS.map((name, i) => [name, i])) as Record<Column, number>;

export class ProcessDecoder implements RecordDecoder {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #view = new ProcessEventView(new Uint8Array(0));
  readonly #dims = new Float64Array(COLUMNS.length);
  readonly #measures = new Float64Array(1);
  #bytes: Buffer = Buffer.alloc(0);
  /** When the host started, in milliseconds since 1970: changes when its clock is set. */
  #boot_ms = 0;

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(processEventTable);
    this.tick();
  }

  tick(): void {
    this.#boot_ms = Date.now() - uptime() * 1000;
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(at: number, length: number): boolean {
    if (length < process_event.SIZE) return false;
    const view = this.#view.move(at);
    const kind = view.event;
    const is_exec = kind === process_event_kind.PROCESS_EXEC;
    const name = EVENTS[kind - 1];
    if (name === undefined || (is_exec && length < process_exec_event.args)) return false;
    const dims = this.#dims;
    dims[D.event] = this.#fold.intern(name);
    dims[D.pid] = view.tgid;
    dims[D.ppid] = view.ppid;
    dims[D.process_name] = this.#fold.intern(view.comm);
    dims[D.uid] = view.uid;
    dims[D.process_executable_path] = is_exec ? this.#path(at, view.head_flags) : 0;
    const has_args = is_exec && length >= process_exec_event.SIZE;
    dims[D.process_command_args] = has_args ? this.#args(at, view) : 0;
    this.#decodePlace(view.cgroup_id);
    this.#decodeStatus(view, kind === process_event_kind.PROCESS_EXIT);
    this.#measures[0] = Math.max(0, view.time_ns - view.start_ns);
    this.#fold.add(dims, this.#measures, this.#time(view.time_ns));
    return true;
  }

  /** Whole milliseconds; garbage beyond what a date can be is now. */
  #time(boot_ns: number): number {
    const time_ms = Math.round(this.#boot_ms + boot_ns / 1e6);
    return Math.min(time_ms, Date.now());
  }

  #decodePlace(cgroup_id: number): void {
    const path = this.#context.cgroup?.(cgroup_id)?.path ?? '';
    this.#dims[D.cgroup_path] = this.#fold.intern(path);
    this.#dims[D.container_id] = this.#fold.intern(containerId(path));
  }

  /** The status as wait(2) has it. */
  #decodeStatus({ status }: ProcessEventView, is_exit: boolean): void {
    const signal = status & SIGNAL_MASK;
    const code = signal === 0 ? (status >>> CODE_SHIFT) & 0xff : -1;
    this.#dims[D.exit_code] = is_exit ? code : 0;
    const name = signal === 0 ? '' : (SIGNALS.get(signal) ?? `signal ${signal}`);
    this.#dims[D.exit_signal] = this.#fold.intern(is_exit ? name : '');
  }

  #path(at: number, flags: number): number {
    const begin = at + process_exec_event.path;
    const end = this.#bytes.indexOf(0, begin);
    const last = begin + process_exec_event.path_length;
    const text = this.#bytes.toString('utf8', begin, end < 0 || end > last ? last : end);
    const cut = (flags & process_event_flag.PROCESS_PATH_CUT) !== 0;
    return this.#fold.intern(cut ? text + CUT : text);
  }

  /** Separated by blanks, as `ps` shows them. */
  #args(at: number, { args_length, head_flags }: ProcessEventView): number {
    const begin = at + process_exec_event.args;
    const length = Math.min(args_length, process_exec_event.args_length);
    const text = this.#bytes.toString('utf8', begin, begin + length);
    const cut = (head_flags & process_event_flag.PROCESS_ARGS_CUT) !== 0;
    const words = text.replace(/\0$/, '').replaceAll('\0', ' ');
    return this.#fold.intern(cut ? words + CUT : words);
  }
}

const processEvents: RecordSource = {
  kind: record_kind.RECORD_PROCESS_EVENT,
  open: (context) => new ProcessDecoder(context),
};

export const process: Probe = {
  name: 'process',
  help: 'begin, exec and end of every process, with code, signal and duration',
  enabled_default: false,
  tables: [processEventTable],
  enabled_variable: 'process_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'events',
      help: 'a record for each begin, exec and end',
      required: true,
      variants: [
        {
          name: 'tp_btf',
          programs: ['process_fork', 'process_exec', 'process_exit'],
          needs: ['tp:sched_process_fork', 'tp:sched_process_exec', 'tp:sched_process_exit'],
        },
      ],
    },
  ],
  sweeps: [],
  records: [processEvents],
  own_maps: ['process_ended'],
  constants: (options) => ({ process_arguments: Number(options.process.arguments) }),
};
