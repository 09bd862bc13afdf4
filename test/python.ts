// Python with packages of its index, installed once into build/, and programs run by it.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const INSTALL_MS_MAX = 180_000;
const RUN_MS_MAX = 60_000;

export interface PythonResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A Python of its own folder in build/ with these packages, whose modules have these names. */
export class Python {
  /** Its interpreter; `missing` makes it. */
  readonly path: string;
  readonly #venv: string;
  readonly #packages: readonly string[];
  readonly #modules: readonly string[];

  constructor(name: string, packages: readonly string[], modules: readonly string[]) {
    this.#venv = fileURLToPath(new URL(`../build/${name}-venv`, import.meta.url));
    this.path = `${this.#venv}/bin/python`;
    this.#packages = packages;
    this.#modules = modules;
  }

  /** Installs the packages once; the reason when they cannot be had. */
  missing(): string | undefined {
    if (this.#imports(this.path)) return undefined;
    // In a folder of its own until it is whole: other tests may be at the same at this moment.
    const folder = `${this.#venv}.${process.pid}`;
    try {
      return this.#make(folder) ?? this.#put(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  #imports(python: string): boolean {
    const words = ['-c', `import ${this.#modules.join(', ')}`];
    return existsSync(python) && spawnSync(python, words).status === 0;
  }

  #make(folder: string): string | undefined {
    const made = spawnSync('python3', ['-m', 'venv', folder], { encoding: 'utf8' });
    if (made.status !== 0) return 'python3 -m venv does not work here';
    const args = ['-m', 'pip', 'install', '-q', ...this.#packages];
    const options = { encoding: 'utf8', timeout: INSTALL_MS_MAX } as const;
    const installed = spawnSync(`${folder}/bin/python`, args, options);
    if (installed.status === 0) return undefined;
    return `pip cannot install ${this.#packages.join(', ')}: ${installed.stderr?.slice(-200)}`;
  }

  #put(folder: string): string | undefined {
    if (this.#imports(this.path)) return undefined; // another test was first
    rmSync(this.#venv, { recursive: true, force: true });
    renameSync(folder, this.#venv);
    return this.#imports(this.path) ? undefined : `${this.#modules.join(', ')} do not import`;
  }

  run(program: string, words: readonly string[]): Promise<PythonResult> {
    return new Promise((resolve) => {
      const child = spawn(this.path, ['-c', program, ...words], { timeout: RUN_MS_MAX });
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
}

export const pyarrow = new Python('pyarrow', ['pyarrow'], ['pyarrow.flight']);
