// The kernel collector: opens the kernel side, runs the turns, and puts everything back on the way out.

import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Logger } from 'pino';
import { probes } from '../../probes/index.ts';
import { intakeTls } from '../config/role.ts';
import type { Config } from '../config/schema.ts';
import { UnixSocketOutlet } from '../outlet/unix_socket.ts';
import type { Batch } from '../table/columns.ts';
import { Ledger } from '../table/ledger.ts';
import type { ProbeOptions } from '../table/probe.ts';
import { authority } from '../wire/address.ts';
import { FlightSender } from '../wire/client.ts';
import { bootId } from '../wire/lock.ts';
import { Spool } from '../wire/spool.ts';
import { BudgetKeeper } from './budget_keeper.ts';
import { CaptureSelection } from './capture_select.ts';
import { Conntrack, hostNetns } from './conntrack.ts';
import { Decode } from './decode.ts';
import { type Delivery, DirectDelivery, SpoolDelivery, spoolInput } from './delivery.ts';
import { DeliveryLog } from './delivery_log.ts';
import { ProcessFilter } from './filter.ts';
import { hostPaths } from './host.ts';
import { Identity } from './identity.ts';
import { type Kernel, openKernel } from './kernel.ts';
import { kernelOptions } from './kernel_options.ts';
import { bookLeft } from './left.ts';
import { bookLost, lossBatch } from './loss.ts';
import { NatTable } from './nat_table.ts';
import { OutletBook } from './outlet_book.ts';
import { lockPins, type PinLock } from './pin_lock.ts';
import { refuseElsewhere } from './pins.ts';
import { Pipeline } from './pipeline.ts';
import { Pressure } from './pressure.ts';
import { CgroupIndex } from './proc.ts';
import { SelfReport } from './self.ts';
import { UprobePins } from './uprobe_pins.ts';
import { Uprobes } from './uprobes.ts';
import { Users } from './users.ts';

/** The ring holds many times what comes in this time on a busy machine; a full turn is followed at once by another. */
const TURN_MS = 200;
/** Captured bodies fill it faster. */
const CAPTURE_TURN_MS = 20;
/** After a turn that found so much in the ring. */
const BUSY_BYTES = 64 << 10;
const BUSY_TURN_MS = 20;
/** The same where programs are placed in what processes run: many a process lives no longer. A turn for nothing takes 0.2 ms. */
const EXEC_TURN_MS = 100;
/** Value of an entry of `nat_services`: when it was seen first does not count, since NAT leads it elsewhere. */
const LED = new Uint8Array(new BigUint64Array([0n, 1n]).buffer);
const NO_CONNTRACK =
  'connection tracking cannot be listened to: what it translates for others is not told';
/** Even the smallest ring takes some 200 records a pass. */
const PASSES_MAX = 10_000;
const IDENTITY_TICK_MS = 10_000;
/** Each table of an interval costs the store some 10 ms of a processor, however few its rows: those on sonde itself come less often. */
const SELF_MS = 60_000;
/** Uprobes in what runs already are placed before all else begins, within this time. */
const UPROBES_START_MS = 1000;

export interface CollectorOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly version: string;
  readonly to: Receiver;
  /** What a source is called in the log; those of one name count as one. Default: by its own name. */
  readonly nameOf?: (source: string) => string;
}

/** Who gets the rows: a reducer by way of the spool, or a reader in this process. */
export type Receiver =
  | { readonly intake: { readonly host: string; readonly port: number } }
  | { readonly reader: (batch: Batch, now_ms: number) => void };

/** What `open` made, in the order in which it has to be undone. */
interface Parts {
  readonly lock: PinLock;
  readonly kernel: Kernel;
  readonly id: string;
  readonly delivery: Delivery;
  readonly identity: Identity;
  readonly ledger: Ledger;
  readonly self: SelfReport;
  readonly filter: ProcessFilter;
  readonly keeper: BudgetKeeper;
  readonly pipeline: Pipeline;
  readonly uprobes: Uprobes;
  readonly conntrack: Conntrack | undefined;
  /** While capture is on. */
  readonly selection: CaptureSelection | undefined;
  readonly outlet: UnixSocketOutlet | undefined;
  /** What decoders go by: `reload` writes here. */
  readonly options: ProbeOptions;
}

export class Collector {
  readonly #parts: Parts;
  readonly #log: Logger;
  readonly #delivery_log: DeliveryLog;
  #interval_ms: number;
  #timer: NodeJS.Timeout | undefined;
  #interval_end_ms = 0;
  #identity_tick_ms = 0;
  #stopped = false;

  /**
   * Loads, attaches and begins to read.
   *
   * @throws {BpfError} no rights, no BTF, no bpffs. @throws {OperatorError} data folder or pins in use.
   */
  static async start(options: CollectorOptions): Promise<Collector> {
    return new Collector(await openParts(options), options);
  }

  private constructor(parts: Parts, { config, log, to }: CollectorOptions) {
    this.#parts = parts;
    this.#log = log;
    const reducer = 'reader' in to ? '' : authority(to.intake.host, to.intake.port);
    this.#delivery_log = new DeliveryLog(log, reducer);
    this.#interval_ms = config.collector.interval;
    this.#startInterval(Date.now());
    this.#schedule(0);
  }

  /** Goes with every batch; made with the data folder. */
  get id(): string {
    return this.#parts.id;
  }

  get kernel(): Kernel {
    return this.#parts.kernel;
  }

  get ledger(): Ledger {
    return this.#parts.ledger;
  }

  get uprobes(): Uprobes {
    return this.#parts.uprobes;
  }

  /** Whose traffic is captured; undefined while capture is off. */
  get selection(): CaptureSelection | undefined {
    return this.#parts.selection;
  }

  get outlet(): UnixSocketOutlet | undefined {
    return this.#parts.outlet;
  }

  /** True: the reducer has all that was taken until now. */
  get delivered(): boolean {
    const { delivery } = this.#parts;
    return !delivery.holding && delivery.waiting.batches === 0;
  }

  /** Everything that the kernel saw before the call has arrived when this resolves. */
  async flush(): Promise<void> {
    const { pipeline, delivery, self } = this.#parts;
    this.#sweep();
    self.demand();
    pipeline.flushAll(Date.now());
    await delivery.flush();
  }

  /** Takes over what may change at run time. */
  reload(config: Config): void {
    this.#interval_ms = config.collector.interval;
    this.#parts.filter.update(config.collector.filter);
    this.#parts.keeper.limits = config.collector.budget;
    this.#parts.options.ephemeral_port = config.collector.ephemeral_port;
  }

  /**
   * Reports what is left, detaches, removes the pins. `wait_ms`: how long the reducer may take for the last rows. False: some
   * are lost, for which there is no ledger any more but the log.
   */
  async stop(wait_ms: number): Promise<boolean> {
    if (this.#stopped) return true;
    this.#stopped = true;
    clearTimeout(this.#timer);
    const { kernel, pipeline, delivery, self } = this.#parts;
    this.#sweep();
    this.#sweep(); // also what has no owner to this day
    this.#parts.uprobes.close();
    kernel.detach();
    pipeline.ending = true;
    self.demand();
    pipeline.flushAll(Date.now());
    const limit = new Promise((done) => setTimeout(done, wait_ms).unref());
    await Promise.race([delivery.flush(), limit]);
    await this.#parts.outlet?.close(wait_ms);
    this.#delivery_log.note(delivery, true);
    const whole = this.#noteLost();
    this.#close();
    return whole;
  }

  /** For a crash: what was read goes to the spool if that still can be, nothing stays attached, nothing is waited for. */
  abandon(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    const { kernel, pipeline, self } = this.#parts;
    try {
      this.#sweep();
      self.demand();
      pipeline.flushAll(Date.now());
    } catch (error) {
      this.#log.error({ err: error }, 'the last rows could not be saved');
    } finally {
      kernel.detach();
      this.#close();
    }
  }

  /**
   * All live sockets report. Accepted connections on which nobody has read or written have no owner yet: only if there are
   * such, the open files are looked through, and the sweep is made again.
   */
  #sweep(): void {
    const { kernel, pipeline } = this.#parts;
    const before = pipeline.ownersSought();
    this.#sweepLive();
    if (pipeline.ownersSought() === before) return;
    kernel.sweep('start');
    this.#sweepLive();
  }

  /** A pass that filled the ring has stopped there: it is read and made safe, and the next pass goes on. */
  #sweepLive(): void {
    const { kernel, pipeline } = this.#parts;
    for (let pass = 0; pass < PASSES_MAX; pass += 1) {
      kernel.sweep('interval');
      if (!pipeline.crowded || pipeline.holding) return;
      pipeline.flushAll(Date.now());
    }
  }

  #close(): void {
    this.#parts.uprobes.close();
    const { self, pipeline, kernel, delivery, lock, conntrack } = this.#parts;
    self.close();
    conntrack?.close();
    pipeline.close();
    kernel.release();
    delivery.close();
    lock.release();
  }

  #schedule(ms: number): void {
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#turn(), ms);
  }

  async #turn(): Promise<void> {
    const now = Date.now();
    const { pipeline, self, identity } = this.#parts;
    self.ring_used = Math.max(self.ring_used, pipeline.drain.waiting + pipeline.drain.uncommitted);
    const { waiting } = pipeline.drain;
    const more = pipeline.turn(now);
    this.#parts.uprobes.turn(performance.now()); // what the ring announced this moment is due
    if (now >= this.#interval_end_ms || now < this.#interval_end_ms - this.#interval_ms) {
      this.#sweep(); // also after the clock was set back
      this.#parts.selection?.refresh();
      await setImmediate();
      if (this.#stopped) return;
      pipeline.flushAll(now);
      this.#startInterval(now);
    }
    if (now - this.#identity_tick_ms > IDENTITY_TICK_MS || now < this.#identity_tick_ms) {
      this.#identity_tick_ms = now;
      identity.tick(now);
    }
    this.#delivery_log.note(this.#parts.delivery);
    this.#schedule(more ? 0 : this.#pause(waiting));
  }

  /** The fuller the ring was, the sooner the next turn. */
  #pause(waiting: number): number {
    const { selection, uprobes } = this.#parts;
    if (waiting > BUSY_BYTES) return BUSY_TURN_MS;
    if (selection !== undefined) return CAPTURE_TURN_MS;
    return uprobes.has_sources ? EXEC_TURN_MS : TURN_MS;
  }

  #startInterval(now: number): void {
    this.#interval_end_ms = (Math.floor(now / this.#interval_ms) + 1) * this.#interval_ms;
    this.#parts.self.sample();
  }

  /** What the end takes along. True: nothing. */
  #noteLost(): boolean {
    const { delivery, pipeline } = this.#parts;
    const rows = Object.fromEntries(delivery.unsaved());
    const unread_bytes = pipeline.drain.waiting;
    if (Object.keys(rows).length === 0) return true;
    const why = delivery.gone === '' ? delivery.error : `${delivery.gone} was removed`;
    this.#log.error(
      { rows, unread_bytes, reason: why },
      'rows are lost: no disk has them, and no reducer took them',
    );
    return false;
  }
}

async function openParts(options: CollectorOptions): Promise<Parts> {
  const { config } = options;
  const { collector } = config;
  refuseElsewhere(collector.pin_path);
  const lock = await lockPins(collector.pin_path);
  const ledger = new Ledger();
  const { id, delivery } = openDelivery(options, ledger);
  const kernel = await openKernel(kernelOptions(config, probes)).catch((error: unknown) => {
    delivery.close();
    lock.release();
    throw error;
  });
  reportSources(kernel, options);
  bookLeft(kernel.left, ledger);
  const { cgroup_root, proc } = hostPaths(collector.host_dir);
  const identity = new Identity({
    processes_max: collector.maps.processes_max,
    proc,
    cgroups: new CgroupIndex(cgroup_root),
    announced: kernel.processes,
  });
  const probe_options: ProbeOptions = { ...collector };
  const on = probes.filter(({ name }) => kernel.isOn(name));
  const users = new Users(proc);
  const on_user = (pid: number) => users.learn(pid);
  const pins = new UprobePins(kernel.uprobe_pins);
  const { programs } = kernel;
  const uprobes = new Uprobes({ probes: on, programs, proc, ledger, pins, on_user });
  const limits = collector.budget;
  const keeper = new BudgetKeeper({ kernel, probes: on, limits, log: options.log });
  const seen = { kernel, identity, delivery, uprobes, keeper };
  const period_ms = 'reader' in options.to ? 0 : SELF_MS;
  const self = new SelfReport({ ...seen, period_ms });
  const { selection, outlet } = kernel.isOn('capture') ? openCapture(kernel, options) : {};
  const { nat, conntrack } = openNat(kernel, options, ledger, proc);
  const ring_id = `${bootId()}:${kernel.ring.id}`;
  const told = delivery.positionOf(ring_id);
  const decode = new Decode({
    told_turn: told?.turn,
    ...{ probes: on, kernel, identity, ledger, proc, users },
    on_exec: (pid) => uprobes.announce(pid, performance.now()),
    options: probe_options,
    btf_path: collector.btf_path,
    nat,
    outlet,
    statistics: (line) => options.log[collector.capture.log_level](line),
  });
  const filter = new ProcessFilter(collector.filter, ledger);
  const lines = outlet && new OutletBook(outlet, ledger);
  const pressure = kernel.isOn('memory') ? new Pressure(cgroup_root) : undefined;
  const pipeline = new Pipeline({
    kernel,
    delivery,
    decode,
    filter,
    ledger,
    ring_id,
    told,
    before: (now_ms) => {
      nat?.turn(now_ms);
      conntrack?.read(now_ms);
    },
    extra: (now_ms) => {
      lines?.book();
      return [...self.batches(now_ms), ...(pressure?.batches(now_ms) ?? [])];
    },
  });
  if (!kernel.taken_over) sweepFiles(kernel, pipeline);
  uprobes.turn(performance.now(), UPROBES_START_MS);
  const own = { ...seen, lock, id, ledger, self, filter, pipeline, conntrack };
  return { ...own, selection, outlet, options: probe_options };
}

function openNat(
  kernel: Kernel,
  { config, log }: CollectorOptions,
  ledger: Ledger,
  proc: string,
): { readonly nat?: NatTable; readonly conntrack?: Conntrack } {
  if (!kernel.isOn('nat')) return {};
  const services = kernel.map('nat_services');
  const nat = new NatTable({ ledger, service: (key) => services.update(key, LED) });
  const { conntrack: is_wanted, netns } = config.collector.nat;
  if (!is_wanted) return { nat };
  const conntrack = new Conntrack({
    table: nat,
    netns: netns.length === 0 ? [hostNetns(proc)] : netns,
    ledger,
    refused: (where, reason) => log.warn({ source: 'nat', netns: where, reason }, NO_CONNTRACK),
  });
  return { nat, conntrack };
}

function openDelivery(
  options: CollectorOptions,
  ledger: Ledger,
): { readonly id: string; readonly delivery: Delivery } {
  const { config, to } = options;
  if ('reader' in to) return { id: randomUUID(), delivery: new DirectDelivery(to.reader, ledger) };
  const spool = Spool.open(join(config.data_dir, 'spool'), {
    bytes_max: config.collector.spool_bytes_max,
    notice: (lost) => {
      const batch = lossBatch(lost, 'spool_full', Date.now());
      return batch && spoolInput(batch);
    },
    on_damage: (lost) => bookLost(ledger, lost, 'spool_damaged'),
  });
  const sender = openSender(spool, ledger, options, to.intake);
  return { id: spool.spool_id, delivery: new SpoolDelivery(spool, sender, ledger) };
}

/** What capture needs beside its decoder: whom to capture, and the reader's socket. */
function openCapture(
  kernel: Kernel,
  { config, log }: CollectorOptions,
): { selection: CaptureSelection; outlet: UnixSocketOutlet | undefined } {
  const { capture, host_dir } = config.collector;
  log.info({ capture }, 'capture: the configuration in force');
  const { proc, cgroup_root } = hostPaths(host_dir);
  const selection = new CaptureSelection(kernel, capture.proc_fs_path ?? proc, cgroup_root);
  for (const pid of capture.pids) selection.select({ tgid: pid }, capture.mode);
  for (const path of capture.cgroups) selection.select({ cgroup: path }, capture.mode);
  for (const uid of capture.pods) selection.select({ pod: uid }, capture.mode);
  if (capture.k8s_enabled)
    log.warn({}, 'capture: k8s_enabled selects nothing yet; select by pods, cgroups or pids');
  const { unix_domain_socket_addr: path } = capture;
  if (path === undefined) return { selection, outlet: undefined };
  const outlet = new UnixSocketOutlet({
    path,
    lines_max: capture.uds_event_queue_size,
    bytes_max: capture.uds_queue_bytes_max,
    on_state: (state, reason) => log.info({ path, reason }, `reader of captured: ${state}`),
  });
  return { selection, outlet };
}

/** Twice: which connections were opened by the peer shows only when all listening sockets are known. */
function sweepFiles(kernel: Kernel, pipeline: Pipeline): void {
  kernel.sweep('start');
  kernel.sweep('start');
  kernel.markSwept();
  kernel.sweep('interval');
  pipeline.turn(Date.now());
}

function openSender(
  spool: Spool,
  ledger: Ledger,
  { config, version }: CollectorOptions,
  intake: { readonly host: string; readonly port: number },
): FlightSender {
  const { token, allow_plaintext } = config.collector;
  const tls = intakeTls(config);
  return new FlightSender(spool, {
    ...intake,
    collector_id: spool.spool_id,
    hostname: hostname(),
    version,
    allow_plaintext,
    on_rejected: (entry) => bookLost(ledger, entry, entry.reason),
    ...(token !== undefined && { token }),
    ...(tls !== undefined && { tls }),
  });
}

/** One line for each source; one warning for each name that has a source which is not on though it should be. */
function reportSources(kernel: Kernel, { log, nameOf = (name) => name }: CollectorOptions): void {
  if (kernel.taken_over)
    log.info('took over the programs of a former collector; nothing was missed');
  const warned = new Set<string>();
  for (const { source, state, reason, parts, lacking } of kernel.plan.sources) {
    const name = nameOf(source);
    if (state === 'on')
      log.info({ source, variants: parts.map((p) => p.variant) }, `${source}: on`);
    else if (lacking.length > 0) log.warn({ source, reason }, `${source}: off, ${reason}`);
    else if (state === 'off') log.info({ source }, `${source}: off`);
    else if (!warned.has(name)) {
      warned.add(name);
      log.warn({ source, reason }, `Failed to load ${name} programs, disabling`);
    }
  }
}
