// Python with pyarrow, installed once into build/, and programs run by it.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const venv = fileURLToPath(new URL('../../build/pyarrow-venv', import.meta.url));
const python = `${venv}/bin/python`;
const INSTALL_MS_MAX = 180_000;

/** Installs pyarrow once; the reason when it cannot be had. */
export function missingPyarrow(): string | undefined {
  const works = () => spawnSync(python, ['-c', 'import pyarrow.flight']).status === 0;
  if (existsSync(python) && works()) return undefined;
  const made = spawnSync('python3', ['-m', 'venv', venv], { encoding: 'utf8' });
  if (made.status !== 0) return 'python3 -m venv does not work here';
  const args = ['-m', 'pip', 'install', '-q', 'pyarrow'];
  const installed = spawnSync(python, args, { encoding: 'utf8', timeout: INSTALL_MS_MAX });
  if (installed.status !== 0) return `pip cannot install pyarrow: ${installed.stderr?.slice(-200)}`;
  return works() ? undefined : 'pyarrow.flight does not import';
}

export interface PythonResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function runPython(program: string, words: readonly string[]): Promise<PythonResult> {
  return new Promise((resolve) => {
    const child = spawn(python, ['-c', program, ...words], { timeout: 60_000 });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
}
