// `sonde cgroup-demo`: packets of one cgroup counted by a program on it, step by step as one would do it by hand. It makes
// its own traffic, which never leaves the machine, and takes everything away again on every way out.

import { createSocket, type Socket } from 'node:dgram';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findMount } from '../bpf/features.ts';
import type { BpfMap } from '../bpf/map.ts';
import { BpfObject } from '../bpf/object.ts';
import { missingRights } from '../config/rights.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_FAILED, EXIT_OPERATOR } from './failure.ts';
import { unwritable } from './output.ts';

const OBJECT = new URL('../../build/cgroup_demo.bpf.o', import.meta.url);
const PROGRAM = 'count_egress';
const NAME = 'sonde-demo-';
const FAMILIES = ['IPv4', 'IPv6'] as const;
/** A process that was just moved out may hold the cgroup for some moments. */
const REMOVE_TRIES = 50;
const REMOVE_WAIT_MS = 20;
const PACKET = Buffer.from('sonde cgroup-demo');

interface Options {
  readonly every_ms: number;
  readonly for_ms: number | undefined;
  readonly rate: number;
}

export async function run(call: Call): Promise<number> {
  const options = optionsOf(call);
  const root = cgroupRoot();
  removeLeftOver(root);
  const stop = stopper(options.for_ms);
  const demo = new Demo(root);
  process.on('exit', () => demo.close()); // a fault, or a second signal
  try {
    demo.begin();
    await demo.watch(options, stop.signal);
  } finally {
    demo.close();
  }
  if (stop.signal.reason instanceof CliError) throw stop.signal.reason;
  say(`stopped: ${stop.signal.reason}`);
  return 0;
}

function optionsOf({ options }: Call): Options {
  return {
    every_ms: 1000 * positive('--every', options['--every'] ?? '1', 0.05),
    for_ms: options['--for'] ? 1000 * positive('--for', options['--for'], 0.05) : undefined,
    rate: positive('--rate', options['--rate'] ?? '10', 1),
  };
}

function positive(flag: string, given: string | boolean, least: number): number {
  const value = Number(given);
  if (Number.isFinite(value) && value >= least && value <= 86_400) return value;
  throw new CliError(`${flag} '${given}': expected a number from ${least} to 86400`, EXIT_OPERATOR);
}

/** Also refuses where the demo cannot run. */
function cgroupRoot(): string {
  if (process.platform !== 'linux')
    throw new CliError('cgroup-demo needs Linux: there are no cgroups here', EXIT_OPERATOR);
  const missing = missingRights(['CAP_BPF', 'CAP_NET_ADMIN']);
  if (missing.length > 0) throw new CliError(refusal(missing), EXIT_OPERATOR);
  const root = findMount('cgroup2');
  if (root !== undefined) return root;
  const cure = 'mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified';
  throw new CliError(`cgroup v2 is not mounted; programs attach to it alone\n${cure}`, 2);
}

function refusal(missing: readonly string[]): string {
  return `This user lacks ${missing.join(', ')}: the kernel lets nobody else attach a program to a cgroup
It also takes write access to the tree of cgroup v2, to make a cgroup there
Run it as root: sudo ./sonde cgroup-demo`;
}

/** Of a demo that was killed with 9: its program went with it, its empty cgroup did not. */
function removeLeftOver(root: string): void {
  for (const name of readdirSync(root)) {
    const pid = name.startsWith(NAME) ? Number(name.slice(NAME.length)) : 0;
    if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) continue;
    try {
      rmdirSync(join(root, name)); // refused while a process is in it
    } catch {
      // another demo runs there
    }
  }
}

/** TERM, INT, HUP, the end of the time, or nobody who reads: the reason stands in the signal. */
function stopper(for_ms: number | undefined): AbortController {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(EXIT_FAILED); // the second time: at once
      stop.abort(name);
    });
  }
  process.stdout.on('error', (error: NodeJS.ErrnoException) =>
    stop.abort(error.code === 'EPIPE' ? 'nobody reads' : unwritable(error)),
  );
  if (for_ms !== undefined) setTimeout(() => stop.abort('the time is over'), for_ms).unref();
  return stop;
}

class Demo {
  readonly #root: string;
  readonly #path: string;
  readonly #home: string;
  #object: BpfObject | undefined;
  #made = false;
  #inside = false;

  constructor(root: string) {
    this.#root = root;
    this.#path = join(root, `${NAME}${process.pid}`);
    this.#home = ownCgroup();
  }

  /** The walk-through up to the attached program. */
  begin(): void {
    const object = BpfObject.open(readFileSync(OBJECT));
    this.#object = object;
    object.load();
    say('loaded the map count (array) and the program count_egress (cgroup/skb)');
    mkdirSync(this.#path);
    this.#made = true;
    say(`created the v2 cgroup ${this.#path}`);
    this.#move(this.#path);
    this.#inside = true;
    say(`moved itself in: wrote ${process.pid} to its cgroup.procs`);
    const program = object.program(PROGRAM);
    program.attachCgroup(this.#path);
    say(`attached program ${program.id} to the cgroup: BPF_CGROUP_INET_EGRESS`);
  }

  /** Sends and tells until the signal comes. */
  async watch({ every_ms, rate }: Options, signal: AbortSignal): Promise<void> {
    const traffic = await Traffic.start(rate);
    say(`generating network traffic in the background: UDP to ${traffic.targets.join(' and ')}`);
    try {
      while (!signal.aborted) {
        await delay(every_ms, undefined, { signal }).catch(() => undefined);
        if (!signal.aborted) this.#tell(traffic.sent);
      }
    } finally {
      await traffic.stop();
    }
    this.#tell(traffic.sent);
  }

  /** Detaches and removes what `begin` made; a second call does nothing. */
  close(): void {
    if (this.#object !== undefined) {
      this.#object.close();
      this.#object = undefined;
      say(`detached program ${PROGRAM}`);
    }
    if (this.#inside) this.#leave();
    this.#inside = false;
    if (this.#made) this.#remove();
    this.#made = false;
  }

  #tell(sent: number): void {
    const counts = this.#counts();
    const sum = counts.reduce((total, one) => total + one, 0);
    const parts = FAMILIES.map((name, i) => `${name} ${counts[i]}`).join(', ');
    say(`cgroup sent ${sum} packets (${parts}); this process says ${sent}`);
    if (sum === 0 && sent > 0)
      say('nothing is counted: `sonde doctor` tells of v1 controllers in the way (net-cls)');
  }

  #counts(): readonly number[] {
    const map = this.#object?.map('count');
    return map === undefined ? FAMILIES.map(() => 0) : FAMILIES.map((_, i) => slot(map, i));
  }

  #move(folder: string): void {
    writeFileSync(join(folder, 'cgroup.procs'), String(process.pid));
  }

  #leave(): void {
    try {
      this.#move(join(this.#root, this.#home));
    } catch {
      this.#move(this.#root); // where it came from is not there any more, or not visible from here
    }
  }

  #remove(): void {
    for (let round = 1; ; round += 1) {
      try {
        rmdirSync(this.#path);
        break;
      } catch (error) {
        if (round === REMOVE_TRIES) throw error;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, REMOVE_WAIT_MS);
      }
    }
    say(`left and removed the cgroup ${this.#path}`);
  }
}

/** UDP from this process to itself, so that every packet that leaves is one that it sent. */
class Traffic {
  readonly #pairs: readonly Target[];
  readonly #timer: NodeJS.Timeout;
  #next = 0;
  #pending = 0;
  sent = 0;

  static async start(rate: number): Promise<Traffic> {
    const four = await open('udp4', '127.0.0.1');
    const six = await open('udp6', '::1').catch(() => undefined); // a machine without IPv6
    return new Traffic(six === undefined ? [four] : [four, six], rate);
  }

  private constructor(pairs: readonly Target[], rate: number) {
    this.#pairs = pairs;
    this.#timer = setInterval(() => this.#send(), 1000 / rate);
  }

  get targets(): readonly string[] {
    return this.#pairs.map(({ host }) => host);
  }

  /** Resolves when all that was sent is on its way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#pending > 0) await delay(1);
    for (const { socket } of this.#pairs) socket.close();
  }

  #send(): void {
    const target = this.#pairs[this.#next++ % this.#pairs.length];
    if (target === undefined) return;
    this.#pending += 1;
    target.socket.send(PACKET, target.port, target.host, (error) => {
      this.#pending -= 1;
      if (error === null) this.sent += 1;
    });
  }
}

interface Target {
  readonly socket: Socket;
  readonly host: string;
  readonly port: number;
}

/** A socket that receives what it sends: there is no answer, and no error that would be one. */
function open(type: 'udp4' | 'udp6', host: string): Promise<Target> {
  const socket = createSocket(type);
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(0, host, () => resolve({ socket, host, port: socket.address().port }));
  });
}

/** Path of this process's v2 cgroup, below the root of the hierarchy. */
function ownCgroup(): string {
  const lines = readFileSync('/proc/self/cgroup', 'utf8').split('\n');
  return lines.find((line) => line.startsWith('0::'))?.slice(3) ?? '/';
}

function slot(map: BpfMap, key: number): number {
  const value = new BigUint64Array(1);
  map.lookup(new Uint8Array(Uint32Array.of(key).buffer), new Uint8Array(value.buffer));
  return Number(value[0]);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
