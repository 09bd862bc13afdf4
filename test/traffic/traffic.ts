// Runs the traffic tool (the C files beside this one) and reads what it counted: the truth that live tests compare with.

import { type ChildProcessByStdio, execFile, execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  globSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';

const ROOT = join(import.meta.dirname, '../..');
const TOOL = join(ROOT, 'build/traffic');
const FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-pthread'];

export type Mode =
  | 'server'
  | 'client'
  | 'udp-server'
  | 'udp-client'
  | 'cgroups'
  | 'processes'
  | 'sockets';
export type Words = Readonly<Record<string, string | number>>;

/** A test's context: what is to be undone at its end, first come first done. */
export interface Cleanup {
  after(undo: () => unknown): void;
}

/** What one process did, by its own count. */
export interface Counts {
  readonly pid: number;
  readonly connections: number;
  readonly bytes_read: number;
  readonly bytes_written: number;
  readonly datagrams_read: number;
  readonly datagrams_written: number;
  readonly errors: Readonly<Record<string, number>>;
}

const JOIN = 'echo $$ >"$0" && exec "$@"';

interface Line extends Counts {
  readonly event: 'ready' | 'open' | 'exchanged' | 'counts';
  readonly port: number;
}

/** Compiles the tool where it is older than its sources; the path of the program. */
export async function buildTraffic(): Promise<string> {
  const sources = globSync('*.c', { cwd: import.meta.dirname })
    .sort()
    .map((name) => join(import.meta.dirname, name));
  const newest = Math.max(
    ...[...sources, join(import.meta.dirname, 'traffic.h')].map((path) => statSync(path).mtimeMs),
  );
  if (existsSync(TOOL) && statSync(TOOL).mtimeMs > newest) return TOOL;
  mkdirSync(join(ROOT, 'build'), { recursive: true });
  const partial = `${TOOL}.${process.pid}`;
  await promisify(execFile)('cc', [...FLAGS, ...sources, '-o', partial]);
  renameSync(partial, TOOL); // another test may be compiling too
  return TOOL;
}

/** The tool under another name, which `remove` takes away. */
export async function nameTraffic(name: string): Promise<{ path: string; remove: () => void }> {
  const tool = await buildTraffic();
  const folder = mkdtempSync(join(ROOT, 'build/named-'));
  const path = join(folder, name);
  linkSync(tool, path);
  return { path, remove: () => rmSync(folder, { recursive: true }) };
}

/** One run of the tool, with its children. */
export class Traffic {
  readonly #lines: Line[] = [];
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  #ended: Error | undefined;
  #wake: () => void = () => undefined;

  /**
   * Killed at the latest at the test's end. `netns`: run in this network namespace. `cgroup`: and in this folder of cgroup2,
   * which is out of sight within a network namespace. `program`: another name for the tool.
   */
  static async start(
    t: Cleanup,
    mode: Mode,
    words: Words,
    options: { netns?: string; cgroup?: string; program?: string } = {},
  ): Promise<Traffic> {
    const tool = await buildTraffic();
    const pairs = Object.entries(words).map(([name, value]) => `${name}=${value}`);
    const command = [options.program ?? tool, mode, ...pairs];
    const inside = options.netns === undefined ? [] : ['ip', 'netns', 'exec', options.netns];
    const { cgroup } = options;
    const joined = cgroup === undefined ? [] : ['sh', '-c', JOIN, `${cgroup}/cgroup.procs`];
    const traffic = new Traffic([...joined, ...inside, ...command]);
    t.after(() => traffic.kill()); // where a test failed before its end
    return traffic;
  }

  private constructor([file, ...args]: readonly string[]) {
    const child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    child.stdin.on('error', () => undefined); // it ended before we spoke; its lines say how
    let complaint = '';
    child.stderr.on('data', (text) => {
      complaint += String(text);
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#lines.push(JSON.parse(line));
      this.#wake();
    });
    child.on('error', (error) => this.#end(error));
    child.on('close', (code, signal) => {
      this.#end(new Error(`traffic ${args.join(' ')} ended: ${code ?? signal} ${complaint}`));
    });
  }

  /** The port that the server listens on. */
  async port(): Promise<number> {
    return (await this.#line('ready')).port;
  }

  /** Of a client that holds its connections: all are open. */
  async opened(): Promise<void> {
    await this.#line('open');
  }

  /** One exchange more on each held connection. */
  async exchange(): Promise<void> {
    const before = this.#count('exchanged');
    this.say();
    await this.#until(() => this.#count('exchanged') > before);
  }

  /** A line on the tool's standard input. */
  say(): void {
    this.#child.stdin.write('\n');
  }

  /** SIGKILL: it has no chance to close anything itself. Resolves when it is gone; it leaves no counts. */
  async kill(): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#child.kill('SIGKILL');
    // It ends by a signal, which is an error elsewhere.
    await this.#until(() => this.#ended !== undefined).catch(() => undefined);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Ends standard input, where the tool waits for it, and waits for its end. */
  async end(): Promise<readonly Counts[]> {
    this.#child.stdin.end();
    return this.counts();
  }

  /** When all its processes have ended: what each counted, children first. */
  async counts(): Promise<readonly Counts[]> {
    await this.#until(() => this.#ended !== undefined);
    const counts = this.#lines.filter(({ event }) => event === 'counts');
    if (!this.#ended!.message.includes(' ended: 0 ')) throw this.#ended;
    return counts;
  }

  #end(error: Error): void {
    this.#ended = error;
    this.#wake();
  }

  #count(event: Line['event']): number {
    return this.#lines.filter((line) => line.event === event).length;
  }

  async #line(event: Line['event']): Promise<Line> {
    await this.#until(() => this.#count(event) > 0);
    return this.#lines.find((line) => line.event === event)!;
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      if (this.#ended !== undefined) throw this.#ended;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Starts the server, then the client at its port; the counts of both when both have ended. */
export async function talk(
  t: Cleanup,
  kind: 'tcp' | 'udp',
  server: Words,
  client: Words,
  places: { server?: string; client?: string } = {},
): Promise<{ server: readonly Counts[]; client: readonly Counts[]; port: number }> {
  const [there, here] = kind === 'tcp' ? MODES.tcp : MODES.udp;
  const listening = await Traffic.start(t, there, server, netns(places.server));
  const port = await listening.port();
  const calling = await Traffic.start(t, here, { ...client, port }, netns(places.client));
  const [mine, theirs] = await Promise.all([calling.counts(), listening.counts()]);
  return { server: theirs, client: mine, port };
}

const MODES = {
  tcp: ['server', 'client'],
  udp: ['udp-server', 'udp-client'],
} as const;

function netns(name: string | undefined): { netns?: string } {
  return name === undefined ? {} : { netns: name };
}

export interface Namespaces {
  readonly names: readonly [string, string];
  readonly addresses: readonly [string, string];
  /** An IPv4 address that is routed to the peer's wire, where nobody answers: packets vanish, or ARP fails. */
  readonly blackhole: string;
  readonly silent: string;
  remove(): void;
}

/** Two network namespaces with a wire between them, removed by the caller. */
export function makeNamespaces(tag: string): Namespaces {
  const names = [`sonde-${tag}-a`, `sonde-${tag}-b`] as const;
  const ip = (...words: string[]): void => void execFileSync('ip', words, { stdio: 'pipe' });
  for (const name of names) ip('netns', 'add', name);
  ip('-n', names[0], 'link', 'add', 'w0', 'type', 'veth', 'peer', 'name', 'w1', 'netns', names[1]);
  names.forEach((name, i) => {
    ip('-n', name, 'addr', 'add', `10.199.77.${i + 1}/24`, 'dev', `w${i}`);
    ip('-n', name, 'link', 'set', `w${i}`, 'up');
    ip('-n', name, 'link', 'set', 'lo', 'up');
  });
  const mac = '02:00:00:00:00:99'; // nobody's
  ip('-n', names[0], 'neigh', 'add', '10.199.77.99', 'lladdr', mac, 'dev', 'w0');
  return {
    names,
    addresses: ['10.199.77.1', '10.199.77.2'],
    blackhole: '10.199.77.99',
    silent: '10.199.77.98',
    remove: () => {
      for (const name of names) ip('netns', 'del', name);
    },
  };
}

export function haveIp(): boolean {
  try {
    execFileSync('ip', ['-V'], { stdio: 'pipe' });
    return true;
  } catch {
    return false; // iproute2 is not installed
  }
}
