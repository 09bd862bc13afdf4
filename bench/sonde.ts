// The real thing: `sonde kernel-collector` and `sonde reducer` as processes of their own, with folders, ports and pins
// that no other sonde of this machine has.

import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { probes } from '../probes/index.ts';
import { findMount } from '../src/bpf/features.ts';
import { BpfIter } from '../src/bpf/iter.ts';
import { BpfLink } from '../src/bpf/link.ts';
import { BpfMap } from '../src/bpf/map.ts';
import { BpfProgram } from '../src/bpf/program.ts';
import { freePort, later, makeFolder, output, Started } from './process.ts';

const LAUNCHER = join(import.meta.dirname, '../sonde');
const UP_MS = 60_000;

/** Why the live benchmarks cannot run here; undefined: they can. */
export function cannotRun(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root, to load programs into the kernel';
  return findMount('bpf') === undefined ? 'needs bpffs: mount -t bpf bpf /sys/fs/bpf' : undefined;
}

interface Ready {
  readonly ready?: string;
  readonly port?: number;
}

async function startRole(role: string, words: readonly string[]): Promise<[Started, Ready]> {
  const started = new Started(LAUNCHER, [role, ...words], { ipc: true });
  const said: Ready[] = [];
  started.child.on('message', (message: Ready) => said.push(message));
  const up = await started.until(() => said.some(({ ready }) => ready !== undefined), UP_MS);
  if (up) return [started, said.find(({ ready }) => ready !== undefined)!];
  await started.stop();
  throw new Error(`sonde ${role} did not come up: ${started.complaints.trim()}`);
}

export class Reducer {
  readonly port: number;
  /** Data folder of the collectors that deliver here, one after the other: to the reducer they are one. */
  readonly collector_folder = makeFolder();
  readonly #process: Started;

  static async start(): Promise<Reducer> {
    const folder = makeFolder();
    const listen = `127.0.0.1:${await freePort()}`;
    const metrics = `127.0.0.1:${await freePort()}`;
    const words = ['--data-dir', folder, '--listen', listen, '--metrics', metrics, '--no-log-file'];
    const [started, { port }] = await startRole('reducer', words);
    return new Reducer(started, port ?? 0);
  }

  private constructor(started: Started, port: number) {
    this.#process = started;
    this.port = port;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Stands still and takes no processor time until `resume`: turns without sonde are without all of it. */
  pause(): void {
    this.#process.child.kill('SIGSTOP');
  }

  resume(): void {
    this.#process.child.kill('SIGCONT');
  }

  /** Rows of the store as objects, after all that the kernel saw until now is stored. */
  async rows<Row>(sql: string): Promise<readonly Row[]> {
    const where = ['--reducer', `127.0.0.1:${this.port}`];
    const text = await output(LAUNCHER, ['query', '--fresh', '--format', 'json', ...where, sql]);
    return JSON.parse(text); // the caller names the columns of its own question
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }
}

export interface RunningProgram {
  readonly name: string;
  readonly program: BpfProgram;
}

let made = 0;

export class Collector {
  readonly pin_path: string;
  readonly #process: Started;

  /** Resolves when all is attached. `sources`: those and no others; absent: what is on by default. */
  static async start(
    reducer: Reducer,
    interval = '10s',
    sources?: readonly string[],
  ): Promise<Collector> {
    const folder = reducer.collector_folder;
    made += 1;
    const pin_path = join(findMount('bpf')!, `sonde-bench-${process.pid}-${made}`);
    later(() => rmSync(pin_path, { recursive: true, force: true }));
    const config = join(folder, 'sonde.yaml');
    const chosen = (sources === undefined ? [] : probes).map(
      ({ name }) => `    ${name}: {enabled: ${sources?.includes(name)}}\n`,
    );
    const switches = chosen.length > 0 ? `  probes:\n${chosen.join('')}` : '';
    writeFileSync(config, `collector:\n  pin_path: ${pin_path}\n${switches}`);
    const intake = ['--intake-host', '127.0.0.1', '--intake-port', `${reducer.port}`];
    const own = ['--config', config, '--data-dir', folder, '--no-log-file', '--interval', interval];
    const [started] = await startRole('kernel-collector', [...intake, ...own]);
    return new Collector(started, pin_path);
  }

  private constructor(started: Started, pin_path: string) {
    this.#process = started;
    this.pin_path = pin_path;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Handles of the programs that it attached; the caller closes them. */
  programs(): readonly RunningProgram[] {
    const folders = readdirSync(this.pin_path).filter((name) => name.startsWith('programs_'));
    return folders.flatMap((folder) =>
      readdirSync(join(this.pin_path, folder)).map((name) => ({
        name,
        program: BpfProgram.openPinned(join(this.pin_path, folder, name)),
      })),
    );
  }

  /** One of its sweeps; running it does what the collector does at the end of an interval. */
  sweep(name: string): BpfIter {
    const folder = readdirSync(this.pin_path).find((name) => name.startsWith('links_'));
    if (folder === undefined) throw new Error(`${this.pin_path} has no links`);
    const link = BpfLink.openPinned(join(this.pin_path, folder, name));
    later(() => link.close());
    return new BpfIter(link);
  }

  /** Records that the kernel side handed to the ring since it was loaded. */
  records(): number {
    const map = BpfMap.openPinned(join(this.pin_path, 'sonde_counts'));
    const values = new Uint8Array(map.valueStride);
    map.lookup(new Uint8Array(4), values); // slot 0: COUNT_RECORDS
    map.close();
    return new BigUint64Array(values.buffer).reduce((sum, one) => sum + Number(one), 0);
  }

  /** @throws Error if anything is still pinned afterwards. */
  async stop(): Promise<void> {
    await this.#process.stop();
    if (existsSync(this.pin_path)) throw new Error(`${this.pin_path} is left after the end`);
  }
}
