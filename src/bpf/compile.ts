// Compiles restricted C to a BPF object with clang.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { BpfError } from './error.ts';

const run = promisify(execFile);
const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;

export type Arch = 'x64' | 'arm64';

/** The name in bpf_tracing.h and the folder of the machine's headers in Debian. */
const ARCH: Readonly<Record<Arch, { target: string; headers: string }>> = {
  x64: { target: 'x86', headers: '/usr/include/x86_64-linux-gnu' },
  arm64: { target: 'arm64', headers: '/usr/include/aarch64-linux-gnu' },
};

export interface CompileOptions {
  /** Folders for #include, searched first. */
  readonly includes?: readonly string[];
  readonly defines?: Readonly<Record<string, string | number | true>>;
  /** The machine that the object is for; this one by default. */
  readonly arch?: Arch;
  /** `clang`, or the environment's CLANG. */
  readonly clang?: string;
  readonly strip?: string;
}

/**
 * Compiles `source` to `output`, with BTF and without DWARF. The output appears whole or not at all.
 *
 * @throws {BpfError} `ECOMPILE` with the compiler's words in `log`.
 */
export async function compileBpf(
  source: string,
  output: string,
  options: CompileOptions = {},
): Promise<void> {
  const arch = options.arch ?? machine();
  const clang = options.clang ?? process.env.CLANG ?? 'clang';
  const strip = options.strip ?? process.env.LLVM_STRIP ?? 'llvm-strip';
  await mkdir(dirname(output), { recursive: true });
  const partial = `${output}.${process.pid}`;
  await step(clang, [...flags(arch, options), '-c', source, '-o', partial], source);
  await step(strip, ['-g', partial], source);
  await rename(partial, output);
}

function flags(arch: Arch, options: CompileOptions): string[] {
  const { target, headers } = ARCH[arch];
  const includes = (options.includes ?? []).map((path) => `-I${path}`);
  const defines = Object.entries(options.defines ?? {}).map(([name, value]) =>
    value === true ? `-D${name}` : `-D${name}=${value}`,
  );
  // The types of <asm/types.h> are the same everywhere: this machine's headers do for another's.
  const found = [headers, ...Object.values(ARCH).map((arch) => arch.headers)].find((path) =>
    existsSync(path),
  );
  const machineHeaders = found ? ['-idirafter', found] : [];
  return [
    ...['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Werror', '-std=gnu11'],
    ...[`-D__TARGET_ARCH_${target}`, ...defines, ...includes, ...machineHeaders],
  ];
}

function machine(): Arch {
  if (process.arch === 'x64' || process.arch === 'arm64') return process.arch;
  throw new BpfError(`Cannot compile for '${process.arch}'`, { code: 'EUNSUPPORTED' });
}

async function step(program: string, words: string[], source: string): Promise<void> {
  try {
    await run(program, words, { maxBuffer: OUTPUT_BYTES_MAX });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new BpfError(`Cannot run '${program}', install clang and llvm`, { code: 'ECOMPILE' });
    }
    const log = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    throw new BpfError(`Cannot compile '${source}'`, { code: 'ECOMPILE', log });
  }
}
