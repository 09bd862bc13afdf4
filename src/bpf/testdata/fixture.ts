// The compiled fixtures of the tests, and what a live test needs from the machine.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildNative } from '../build-native.ts';
import { compileBpf } from '../compile.ts';
import { capabilities, findMount } from '../features.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const OUTPUT = fileURLToPath(new URL('../../../build/bpf-test/', import.meta.url));
/** getppid: no library calls it behind our back, and `process.ppid` calls it each time. */
const SYSCALL_GETPPID = process.arch === 'arm64' ? 173 : 110;

/** Compiles `testdata/NAME.bpf.c`; each test process has a file of its own. */
export async function fixture(name: 'probe' | 'bad' | 'long'): Promise<Buffer> {
  await buildNative();
  const output = `${OUTPUT}${name}.${process.pid}.bpf.o`;
  await compileBpf(`${HERE}${name}.bpf.c`, output, { defines: { SYSCALL_GETPPID } });
  const bytes = readFileSync(output);
  rmSync(output);
  return bytes;
}

/** Why live tests cannot run here, or false: where the rights are there, they run and may fail. */
export function skipLive(): string | false {
  const held = capabilities();
  if (held.has('CAP_SYS_ADMIN') && held.has('CAP_BPF')) return false;
  return 'needs CAP_SYS_ADMIN and CAP_BPF to load programs';
}

/** Calls getppid `times` times. */
export function getppid(times: number): void {
  for (let i = 0; i < times; i++) process.ppid;
}

/** A fresh folder in bpffs; mounts it if need be. */
export function pinFolder(name: string): string {
  if (findMount('bpf') === undefined) execFileSync('mount', ['-t', 'bpf', 'bpf', '/sys/fs/bpf']);
  const folder = `${findMount('bpf')}/bpf-test-${name}-${process.pid}`;
  mkdirSync(folder, { recursive: true });
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
