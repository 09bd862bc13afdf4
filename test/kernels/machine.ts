// One virtual machine: QEMU without KVM, the host's root through virtiofs, one command, its output and its status.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Kernel } from './catalogue.ts';
import { shellWord } from './command.ts';
import { buildInitramfs } from './initramfs.ts';
import type { Tools } from './tools.ts';

export interface Job {
  readonly kernel: Kernel;
  readonly command: readonly string[];
  /** Current folder of the command, on the host as in the guest. */
  readonly project: string;
  /** Host folder that the guest writes to at /out. */
  readonly out: string;
  readonly append: string;
  readonly memory_mb: number;
  readonly cpus: number;
  /** From the start of the boot to the end of the command. */
  readonly limit_s: number;
  /** A boot that has not reached the command by then is tried again. */
  readonly boot_s: number;
  readonly boots_max: number;
}

/** `status` is the command's, or 124 for the time limit, 125 for no boot, 130 for stopped. */
export interface Outcome {
  readonly how: 'exit' | 'limit' | 'boot' | 'stopped';
  readonly status: number;
  readonly boots: number;
  readonly wall_ms: number;
  /** The end of the console, where the machine failed. */
  readonly console: string;
}

export interface Listener {
  readonly output: (chunk: Buffer) => void;
  readonly note: (line: string) => void;
}

/** Boots until the command is reached, at most `boots_max` times: a boot under TCG loses a timer now and then. */
export async function runInGuest(
  job: Job,
  tools: Tools,
  listener: Listener,
  stop: AbortSignal,
): Promise<Outcome> {
  const start = performance.now();
  await mkdir(job.out, { recursive: true });
  for (let boots = 1; ; boots++) {
    const end = await bootOnce(job, tools, listener, stop);
    const outcome = { ...end, boots, wall_ms: Math.round(performance.now() - start) };
    if (end.how !== 'boot' || boots >= job.boots_max) return outcome;
    listener.note(`did not boot (${boots} of ${job.boots_max}): ${lastLine(end.console)}`);
  }
}

type End = Omit<Outcome, 'boots' | 'wall_ms'>;

async function bootOnce(
  job: Job,
  tools: Tools,
  listener: Listener,
  stop: AbortSignal,
): Promise<End> {
  // not in the project: the path of a socket holds 107 bytes
  const folder = await mkdtemp(join(tmpdir(), 'sonde-guest-'));
  const guest = new Guest(job, tools, folder);
  try {
    await guest.start(listener);
    return await guest.wait(stop);
  } finally {
    await guest.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The processes and sockets of one boot; `close` ends them all, whatever state they are in. */
class Guest {
  readonly #job: Job;
  readonly #tools: Tools;
  readonly #folder: string;
  readonly #children: ChildProcess[] = [];
  readonly #servers: Server[] = [];
  #said = '';
  #halted: Promise<unknown> = Promise.resolve();

  constructor(job: Job, tools: Tools, folder: string) {
    this.#job = job;
    this.#tools = tools;
    this.#folder = folder;
  }

  async start(listener: Listener): Promise<void> {
    const { kernel } = this.#job;
    const archive = await buildInitramfs(
      kernel,
      this.#tools.busybox,
      settingsOf(this.#job),
      scriptOf(this.#job),
    );
    await writeFile(this.#path('initramfs'), archive);
    await this.#listen('output', listener.output);
    await this.#listen('control', (chunk) => {
      this.#said += chunk.toString();
    });
    await this.#share('root', '/', ['--readonly', '--cache', 'always']);
    await this.#share('out', this.#job.out, ['--cache', 'never']);
    const qemu = this.#spawn('qemu', [...this.#tools.qemu, ...this.#machine()]);
    this.#halted = once(qemu, 'close');
  }

  /** Waits for the command's end, the time limit, the boot limit, or `stop`. */
  async wait(stop: AbortSignal): Promise<End> {
    const start = performance.now();
    const passed_s = () => (performance.now() - start) / 1000;
    let running = true;
    void this.#halted.then(() => {
      running = false;
    });
    while (running && !stop.aborted) {
      if (passed_s() > this.#job.limit_s) return this.#end('limit', 124);
      if (!this.#up() && passed_s() > this.#job.boot_s) break;
      await Promise.race([this.#halted, sleep(100)]);
    }
    if (stop.aborted) return this.#end('stopped', 130);
    const status = /^exit (\d+)$/m.exec(this.#said)?.[1];
    if (status !== undefined) return this.#end('exit', Number(status));
    // after `up` the command may have done anything: a second boot would run it twice
    if (this.#up()) return this.#end('exit', 125);
    return this.#end('boot', 125);
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    const running = this.#children.filter((child) => child.exitCode === null && child.pid);
    await Promise.all(running.filter((child) => !child.signalCode).map((c) => once(c, 'close')));
    for (const server of this.#servers) server.close();
  }

  #up(): boolean {
    return /^up$/m.test(this.#said);
  }

  async #end(how: End['how'], status: number): Promise<End> {
    const good = how === 'exit' && status !== 125;
    const log = (name: string) => readFile(this.#path(name), 'utf8').catch(() => '');
    const names = ['root.log', 'out.log', 'qemu.log', 'console'];
    const text = good ? '' : (await Promise.all(names.map(log))).join('');
    return { how, status, console: text.trimEnd().split('\n').slice(-40).join('\n') };
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }

  /** A socket that QEMU connects a port of the guest to. A slow reader slows the guest; nothing is dropped. */
  async #listen(name: string, chunk: (data: Buffer) => void): Promise<void> {
    const server = createServer((socket) => {
      socket.on('data', chunk);
      // QEMU goes away without ceremony when it is killed
      socket.on('error', () => socket.destroy());
    });
    server.listen(this.#path(`${name}.port`));
    await once(server, 'listening');
    this.#servers.push(server);
  }

  /** Offers a folder of the host. For the root, virtiofsd itself refuses to write, whatever the guest remounts. */
  async #share(name: 'root' | 'out', source: string, options: readonly string[]): Promise<void> {
    const daemon = this.#spawn(name, [
      ...this.#tools.virtiofsd,
      ...['--socket-path', this.#path(`${name}.fs`), '--shared-dir', source],
      // a submount that is announced cannot be under the guest's overlay: "Object is remote"
      ...['--sandbox', 'chroot', '--no-announce-submounts', '--inode-file-handles=prefer'],
      ...['--log-level', 'error', ...options],
    ]);
    for (let tries = 0; !existsSync(this.#path(`${name}.fs`)); tries++) {
      if (tries === 200 || daemon.exitCode !== null)
        throw new Error(`virtiofsd did not start:\n${await this.#log(name)}`);
      await sleep(20);
    }
  }

  #log(name: string): Promise<string> {
    return readFile(this.#path(`${name}.log`), 'utf8');
  }

  #machine(): string[] {
    const { kernel, memory_mb, cpus, append } = this.#job;
    const port = (name: string) => [
      ...['-chardev', `socket,id=${name},path=${this.#path(`${name}.port`)}`],
      ...['-device', `virtserialport,chardev=${name},name=sonde.${name}`],
    ];
    const share = (name: string) => [
      ...['-chardev', `socket,id=${name},path=${this.#path(`${name}.fs`)}`],
      ...['-device', `vhost-user-fs-pci,chardev=${name},tag=${name}`],
    ];
    return [
      // never KVM: a device that opens may still hang an ordinary kernel (nested, paravirtual)
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max,-pku', '-machine', 'pc,memory-backend=memory'],
      ...['-object', `memory-backend-memfd,id=memory,size=${memory_mb}M,share=on`],
      ...['-m', String(memory_mb), '-smp', String(cpus)],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
      ...['-kernel', join(kernel.folder, 'vmlinux'), '-initrd', this.#path('initramfs')],
      ...['-append', `console=ttyS0 quiet panic=-1 ${append}`.trim()],
      ...['-serial', `file:${this.#path('console')}`, '-device', 'virtio-serial-pci'],
      ...[...port('output'), ...port('control'), ...share('root'), ...share('out')],
    ];
  }

  /** Starts a child that the kernel ends with us, even if we are killed. */
  #spawn(name: string, command: readonly string[]): ChildProcess {
    const log = openSync(this.#path(`${name}.log`), 'w');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
      stdio: ['ignore', log, log],
      cwd: '/',
    });
    closeSync(log);
    this.#children.push(child);
    return child;
  }
}

function settingsOf(job: Job): string {
  const modules = join(job.kernel.folder, 'lib/modules', job.kernel.release);
  const values = { series: job.kernel.series, release: job.kernel.release, modules };
  return Object.entries(values)
    .map(([name, value]) => `${name}=${shellWord(value)}\n`)
    .join('');
}

function scriptOf(job: Job): string {
  const passed = Object.entries(process.env).filter(([name]) => name.startsWith('SONDE_'));
  const environment: Record<string, string | undefined> = {
    ...Object.fromEntries(passed),
    PATH: `${dirname(process.execPath)}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    HOME: '/root',
    TERM: 'dumb',
    SONDE_KERNEL: job.kernel.series,
  };
  const lines = Object.entries(environment).map(
    ([name, value]) => `export ${name}=${shellWord(value ?? '')}\n`,
  );
  const command = job.command.map(shellWord).join(' ');
  return `${lines.join('')}cd ${shellWord(job.project)} || exit 125\n${command}\n`;
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) || 'nothing on the console';
}
