// The one error of this library. What a kernel cannot do is a value where the question was "can you"
// (features.ts) and a BpfError with `unsupported` where the order was "do".
import { getSystemErrorName } from 'node:util';

/** Lines of a verifier log that are shown; the rest is counted. */
const LOG_LINES_MAX = 20;

/** The kernel's ENOTSUPP, which has no name in user space. */
const KERNEL_ENOTSUPP = 524;
const LIBBPF_ERRNO_FIRST = 4000;

export interface BpfErrorDetail {
  /** Positive; 0 where no system call failed. */
  readonly errno?: number;
  /** Defaults to the name of `errno`. */
  readonly code?: string | undefined;
  /** What libbpf, the compiler or the parser said. */
  readonly log?: string | undefined;
  /** The program that was refused, where one was. */
  readonly program?: string | undefined;
  readonly verifierLog?: string | undefined;
}

export class BpfError extends Error {
  override readonly name = 'BpfError';
  /** The name of an errno (`EPERM`, `ENOTSUPP` …) or one of this library's (`ECLOSED`, `ERANGE` …). */
  readonly code: string;
  readonly errno: number;
  /** The last useful lines of the log: the verifier's where a program was refused, else libbpf's. */
  readonly log: string;
  /** Lines of the log that `log` leaves out. */
  readonly hidden_lines: number;
  /** All lines; up to a mebibyte. */
  readonly full_log: string;
  /** The program that was refused, or undefined. */
  readonly program: string | undefined;

  constructor(message: string, detail: BpfErrorDetail = {}) {
    const full_log = detail.verifierLog || detail.log || '';
    const short = lastUsefulLines(full_log);
    super(short.lines.length > 0 ? `${message} (${short.lines.at(-1)?.trim()})` : message);
    this.errno = detail.errno ?? 0;
    this.code = detail.code ?? errnoName(this.errno);
    this.log = short.lines.join('\n');
    this.hidden_lines = short.hidden;
    this.full_log = full_log;
    this.program = detail.program ?? refusedProgram(detail.log ?? '');
  }

  /** The same about a program that the caller knows by another name than the kernel. */
  of(program: string): BpfError {
    const { errno, code, full_log } = this;
    const head = this.message.split(' (')[0] ?? '';
    const words = head.replaceAll(this.program ?? program, program);
    return new BpfError(words, { errno, code, log: full_log, program });
  }

  /** The kernel or this build of libbpf does not have it, as opposed to: the caller may not, or erred. */
  get unsupported(): boolean {
    return ['ENOTSUPP', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EUNSUPPORTED'].includes(this.code);
  }
}

/** Called by the addon, which throws what this returns. */
export function makeError(
  message: string,
  errno: number,
  code: string | null,
  log: string | null,
  program: string | null,
  verifierLog: string | null,
): BpfError {
  return new BpfError(message, {
    errno,
    code: code ?? undefined,
    log: log ?? undefined,
    program: program ?? undefined,
    verifierLog: verifierLog ?? undefined,
  });
}

function errnoName(errno: number): string {
  if (errno === 0) return 'EUNKNOWN';
  if (errno === KERNEL_ENOTSUPP) return 'ENOTSUPP';
  if (errno >= LIBBPF_ERRNO_FIRST) return `LIBBPF_${errno}`;
  return getSystemErrorName(-errno);
}

/** libbpf names the program that it could not relocate or load as `prog 'name': …`. */
function refusedProgram(log: string): string | undefined {
  return /prog '([^']+)': (?:BPF program load failed|failed to (?:re)?lo)/.exec(log)?.[1];
}

/** The verifier ends with its figures; the reason stands above them. */
function lastUsefulLines(log: string): { lines: string[]; hidden: number } {
  const lines = log.split('\n').filter((line) => line.trim() !== '');
  const useful = lines.filter(
    (line) => !/^(processed \d+ insns|verification time|stack depth|max_states_per)/.test(line),
  );
  const shown = useful.slice(-LOG_LINES_MAX);
  return { lines: shown, hidden: lines.length - shown.length };
}
