// What people type into interactive bashes; the kernel part is bash.bpf.h.

import { defineTable } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import type {
  CodeFile,
  DecodeContext,
  Placement,
  Probe,
  RecordDecoder,
} from '../../src/table/probe.ts';
import { returnsFrom } from '../calls.ts';
import { BashRecordView, bash_flag, bash_record, record_kind } from '../layout.gen.ts';

export const bash_table = defineTable({
  name: 'bash',
  help: 'lines typed into interactive bashes, one row a line',
  kind: 'event',
  rows_max: 65_536,
  dimensions: [
    { name: 'pid', type: 'u32', help: 'the bash, as the host numbers it' },
    {
      name: 'user',
      type: 'string',
      help: 'its user: the name where passwd has one, else the number',
    },
    { name: 'cmd', type: 'string', help: 'the line, with what is redacted replaced' },
    { name: 'message', type: 'string', help: 'time, pid, user and line as one text' },
    { name: 'tty', type: 'string', help: 'terminal, such as pts/3; empty: none' },
    { name: 'truncated', type: 'u8', help: '1: the line is longer than what was kept' },
    { name: 'uid', type: 'u32', help: 'user id, as the host numbers it' },
    { name: 'cgroup_id', type: 'u64', help: 'cgroup v2 id; 0: unknown' },
    { name: 'cgroup_path', type: 'string', help: 'path of the cgroup' },
    { name: 'container_id', type: 'string', help: 'container, where the cgroup path names one' },
  ],
  measures: [],
});

const HEAD_BYTES = bash_record.line;
export const REDACTED = '<redacted>';

export class BashDecoder implements RecordDecoder {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #redact: readonly RegExp[];
  readonly #view = new BashRecordView(new Uint8Array(0));
  readonly #dims = new Float64Array(bash_table.dimensions.length);
  readonly #measures = new Float64Array(0);
  #bytes: Buffer = Buffer.alloc(0);

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(bash_table);
    this.#redact = (context.options.bash?.redact ?? []).map((pattern) => new RegExp(pattern, 'gu'));
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(at: number, length: number, now_ms: number): boolean {
    const view = this.#view.move(at);
    if (length < HEAD_BYTES || view.bash_length > length - HEAD_BYTES) return false;
    const from = at + HEAD_BYTES;
    const line = this.#bytes.toString('utf8', from, from + view.bash_length);
    if (line.trim() === '') {
      this.#context.note('bash_blank_lines', 1);
      return true;
    }
    this.#add(view, this.#redacted(line), timeOf(view.bash_at_ns, now_ms));
    return true;
  }

  #add(view: BashRecordView, cmd: string, time_ms: number): void {
    const pid = view.bash_owner_tgid;
    const uid = view.bash_owner_uid;
    const place = { pid, root_dev: view.bash_root_dev, root_ino: view.bash_root_ino };
    const user = this.#context.user?.(uid, place) ?? String(uid);
    const { bash_owner_start_ns: start_ns, bash_owner_cgroup_id } = view;
    const owner = this.#context.owner(pid, start_ns, bash_owner_cgroup_id);
    const fold = this.#fold;
    const message = `${new Date(time_ms).toISOString()} pid:${pid} user:${user} cmd:${cmd}`;
    this.#dims.set([
      pid,
      fold.intern(user),
      fold.intern(cmd),
      fold.intern(message),
      fold.intern(view.bash_tty.replace(/^pts(?=\d)/, 'pts/')),
      (view.bash_head_flags & bash_flag.BASH_TRUNCATED) === 0 ? 0 : 1,
      uid,
      Number.isSafeInteger(bash_owner_cgroup_id) ? bash_owner_cgroup_id : 0,
      fold.intern(owner.cgroup_path),
      fold.intern(owner.container_id),
    ]);
    fold.add(this.#dims, this.#measures, time_ms);
  }

  #redacted(line: string): string {
    return this.#redact.reduce((text, pattern) => text.replace(pattern, REDACTED), line);
  }
}

/** Wall-clock time of a moment of CLOCK_MONOTONIC, which lies some milliseconds back. */
function timeOf(at_ns: number, now_ms: number): number {
  const [seconds, rest_ns] = process.hrtime();
  const ago_ms = seconds * 1000 + rest_ns / 1e6 - at_ns / 1e6;
  return Math.round(now_ms - Math.max(0, ago_ms));
}

function readlineOf(file: CodeFile): number | undefined {
  return file.symbols(['readline']).get('readline')?.offset;
}

/**
 * After the calls of readline, where bash has its own: a return probe would miss the line for which a bash waits already when
 * the program is placed.
 */
function placesInBash(file: CodeFile): readonly Placement[] | string {
  const at = readlineOf(file);
  if (at === undefined) return usesShared(file) ? [] : NO_READLINE;
  const after = ofCommands(file, returnsFrom(file, at));
  if (after.length === 0) return [{ program: 'bash_line', offset: at, ret: true }];
  return after.map((offset) => ({ program: 'bash_line', offset }));
}

/**
 * Without the calls of the builtin `read` (`read -e`), which asks for answers, and with `-s` for passwords. They are told by
 * place: what is of one source file stands together, and `read` and the parser are of two.
 */
function ofCommands(file: CodeFile, calls: readonly number[]): readonly number[] {
  const known = file.symbols(['read_builtin', 'yyparse']);
  const read = known.get('read_builtin')?.offset;
  const parser = known.get('yyparse')?.offset;
  if (read === undefined || parser === undefined) return calls;
  const commands = calls.filter((call) => Math.abs(call - parser) < Math.abs(call - read));
  return commands.length > 0 ? commands : calls;
}

const NO_READLINE = 'it has no symbol readline, and no shared library for it (static, stripped?)';

function usesShared(file: CodeFile): boolean {
  const names = file.section('.dynstr');
  if (names === undefined) return false;
  return Buffer.from(file.read(names.offset, names.size)).includes('libreadline.so');
}

function placesInLibrary(file: CodeFile): readonly Placement[] {
  const offset = readlineOf(file);
  return offset === undefined ? [] : [{ program: 'bash_lib_line', offset, ret: true }];
}

export const bash: Probe = {
  name: 'bash',
  help: 'lines typed into interactive bashes, on the host and in containers',
  enabled_default: false,
  tables: [bash_table],
  enabled_variable: 'bash_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON', 'CAP_SYS_PTRACE', 'CAP_DAC_READ_SEARCH'],
  parts: [
    {
      name: 'lines',
      help: 'each line that readline returns',
      required: true,
      variants: [{ name: 'uretprobe', programs: ['bash_line'], needs: [] }],
    },
    {
      name: 'shared readline',
      help: 'the same of bashes that use the shared library',
      required: false,
      variants: [{ name: 'uretprobe', programs: ['bash_lib_line'], needs: [] }],
    },
  ],
  sweeps: [],
  records: [{ kind: record_kind.RECORD_BASH, open: (context) => new BashDecoder(context) }],
  uprobes: [
    {
      name: 'bash',
      help: 'the readline of each bash',
      executables: /^bash$/,
      standing: ['/bin/bash', '/usr/bin/bash'],
      places: placesInBash,
    },
    {
      name: 'libreadline',
      help: 'the shared readline',
      libraries: /^libreadline\.so/,
      places: placesInLibrary,
    },
  ],
};
