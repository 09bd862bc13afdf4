// The collector's end of the wire: sends the spool's entries in order over one DoPut stream and forgets them when
// the reducer says that they are stored. One stream for all tables: one order, one cumulative acknowledgement.
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  Metadata,
  status,
} from '@grpc/grpc-js';
import { authority, checkAddress, checkPlaintext } from './address.ts';
import { type Decoded, type FlightData, flight_service } from './flight.ts';
import { splitStream } from './ipc.ts';
import { decodeAck, encodeMetadata, type PutAck } from './metadata.ts';
import { reachWords } from './reach.ts';
import { Signal } from './signal.ts';
import type { Spool, SpoolEntry } from './spool.ts';
import { type ClientTls, channelTo } from './tls.ts';

export interface SenderOptions {
  readonly host: string;
  readonly port: number;
  readonly collector_id: string;
  /** This machine's name, for the store's `host` column. */
  readonly hostname: string;
  readonly version: string;
  readonly tls?: ClientTls;
  readonly token?: string;
  readonly allow_plaintext?: boolean;
  /** Sent and not yet acknowledged. */
  readonly bytes_in_flight_max?: number;
  /** The reducer's limit for one message; a larger one is rejected here, since it would never pass. */
  readonly message_bytes_max?: number;
  readonly connect_timeout_ms?: number;
  /** Without an acknowledgement for so long the stream is opened anew. */
  readonly ack_timeout_ms?: number;
  readonly keepalive_ms?: number;
  readonly backoff_ms_min?: number;
  readonly backoff_ms_max?: number;
  /** For tests: the jitter's source. */
  readonly random?: () => number;
  /** A batch that the reducer, or a limit, refused for good: it is lost, and the ledger has to say so. */
  readonly on_rejected?: (entry: RejectedEntry) => void;
}

export interface RejectedEntry {
  readonly table: string;
  readonly seq: number;
  readonly rows: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly reason: string;
}

export interface SenderStats {
  connected: boolean;
  /** The last reason why a stream ended while rows waited for it; empty since the next acknowledgement. */
  last_error: string;
  connects: number;
  failures: number;
  batches_sent: number;
  rows_sent: number;
  bytes_sent: number;
  /** Batches sent again after a stream broke. */
  resends: number;
  acks: number;
  batches_acknowledged: number;
  rejected: number;
  bytes_in_flight: number;
  rtt_ms_last: number;
}

interface InFlight {
  readonly entry: Omit<SpoolEntry, 'payload'>;
  readonly bytes: number;
  readonly sent_ms: number;
  /** Why it was not sent: it waits for its turn only. */
  readonly skipped?: string;
}

interface Waiter {
  readonly seq: number;
  readonly resolve: () => void;
}

type PutStream = ClientDuplexStream<FlightData, Decoded<Uint8Array>>;
type SenderSpool = Pick<
  Spool,
  'pending' | 'acknowledge' | 'acknowledged' | 'settled' | 'last' | 'noteSent'
>;

const EMPTY = new Uint8Array(0);
const defaults = {
  bytes_in_flight_max: 8 * 1024 * 1024,
  // 64 KiB less than the server's limit, for descriptor and metadata.
  message_bytes_max: 16 * 1024 * 1024 - 65536,
  connect_timeout_ms: 10_000,
  ack_timeout_ms: 30_000,
  keepalive_ms: 30_000,
  backoff_ms_min: 200,
  backoff_ms_max: 30_000,
  random: Math.random,
};

export class FlightSender {
  readonly stats: SenderStats = {
    connected: false,
    last_error: '',
    connects: 0,
    failures: 0,
    batches_sent: 0,
    rows_sent: 0,
    bytes_sent: 0,
    resends: 0,
    acks: 0,
    batches_acknowledged: 0,
    rejected: 0,
    bytes_in_flight: 0,
    rtt_ms_last: 0,
  };
  private readonly spool: SenderSpool;
  private readonly options: SenderOptions & typeof defaults;
  private readonly signal = new Signal();
  private readonly done: Promise<void>;
  private closed = false;
  private acknowledged_seq: number;
  /** The last sequence written to the stream, and the highest ever written: what is in between is a resend. */
  private sent_seq: number;
  private sent_seq_max: number;
  private in_flight: InFlight[] = [];
  /** When a batch in flight was last acknowledged. */
  private acknowledged_ms = Number.NEGATIVE_INFINITY;
  /** Batches that found the disk full, in ascending sequence. */
  private memory: SpoolEntry[] = [];
  private reader: Iterator<SpoolEntry> | undefined;
  private peeked: SpoolEntry | undefined;
  private waiters: Waiter[] = [];

  /** Starts to send. Throws OperatorError for an address or certificates that cannot be used. */
  constructor(spool: SenderSpool, options: SenderOptions) {
    this.spool = spool;
    this.options = { ...defaults, ...options };
    channelOf(this.options); // what cannot work is told at once
    this.acknowledged_seq = spool.acknowledged();
    this.sent_seq = this.acknowledged_seq;
    this.sent_seq_max = this.acknowledged_seq;
    this.done = this.run();
  }

  /** After an append: there is something to send. */
  kick(): void {
    this.signal.notify();
  }

  /**
   * Sends entries that could not be appended, under the sequences which the failed append gave. Call it in the same
   * turn: later entries must not overtake them. Resolves when they are stored; false when they came too late.
   */
  async sendMemory(entries: readonly SpoolEntry[]): Promise<boolean> {
    const last = entries.at(-1);
    if (!last) return true;
    if (entries[0].seq <= this.sent_seq_max) return false;
    this.memory.push(...entries);
    await this.reached(last.seq);
    return this.acknowledged_seq >= last.seq; // else the sender was closed
  }

  /** Bytes of payload held for `sendMemory`: the caller sets the limit. */
  memoryBytes(): number {
    return this.memory.reduce((sum, entry) => sum + entry.payload.length, 0);
  }

  /** Resolves when everything appended before the call is stored (or counted as lost). */
  flush(): Promise<void> {
    return this.reached(Math.max(this.spool.last()?.seq ?? 0, this.memory.at(-1)?.seq ?? 0));
  }

  private reached(seq: number): Promise<void> {
    return new Promise((resolve) => {
      this.waiters.push({ seq, resolve });
      this.signal.notify();
    });
  }

  private settle(): void {
    // Entries that overflowed the spool are never acknowledged: an empty queue settles them too.
    const idle = this.in_flight.length === 0 && this.waiters.length > 0 && !this.peek();
    const left: Waiter[] = [];
    for (const waiter of this.waiters) {
      if (idle || waiter.seq <= this.acknowledged_seq) waiter.resolve();
      else left.push(waiter);
    }
    this.waiters = left;
  }

  /** The next entry to send, from disk or memory, whichever is older. */
  private peek(): SpoolEntry | undefined {
    // What was read before the spool had to drop it is told of as lost: it must not be sent.
    while (!this.peeked || this.peeked.seq <= this.spool.settled()) {
      this.reader ??= this.spool.pending(this.sent_seq);
      const next = this.reader.next();
      this.peeked = next.done ? undefined : next.value;
      if (next.done) {
        this.reader = undefined;
        break;
      }
    }
    const held = this.memory.find((entry) => entry.seq > this.sent_seq);
    if (held && (!this.peeked || held.seq < this.peeked.seq)) return held;
    return this.peeked;
  }

  private took(entry: SpoolEntry): void {
    if (entry === this.peeked) this.peeked = undefined;
    this.sent_seq = entry.seq;
    this.sent_seq_max = Math.max(this.sent_seq_max, entry.seq);
  }

  private rewind(): void {
    this.sent_seq = this.acknowledged_seq;
    this.reader = undefined;
    this.peeked = undefined;
    this.in_flight = [];
    this.stats.bytes_in_flight = 0;
  }

  private async run(): Promise<void> {
    let attempts = 0;
    while (!this.closed) {
      this.settle();
      if (!this.peek()) {
        await this.signal.wait();
        continue;
      }
      const acks_before = this.stats.acks;
      await this.session();
      this.rewind();
      if (this.closed) break;
      attempts = this.stats.acks > acks_before ? 0 : attempts + 1;
      await this.pause(attempts);
    }
  }

  /** Exponential, with full jitter above the minimum. Kicks do not shorten it. */
  private async pause(attempts: number): Promise<void> {
    const { backoff_ms_min, backoff_ms_max, random } = this.options;
    const ceiling = Math.min(backoff_ms_max, backoff_ms_min * 2 ** Math.min(attempts, 16));
    const wait = backoff_ms_min + random() * Math.max(0, ceiling - backoff_ms_min);
    const until = performance.now() + wait;
    for (let left = wait; left > 0 && !this.closed; left = until - performance.now()) {
      await this.signal.wait(left);
    }
  }

  /** One connection from its start to its end. Never throws: the reason goes to the stats. */
  private async session(): Promise<void> {
    let client: Client | undefined;
    try {
      const { address, creds, options } = channelOf(this.options);
      client = new Client(address, creds, options);
      await this.pump(client);
    } catch (error) {
      this.stats.failures++;
      // An idle stream may end: that is no trouble while nothing waits.
      const waits = this.in_flight.length > 0 || this.peek() !== undefined;
      if (waits) this.stats.last_error = reachWords(error, this.options.tls !== undefined);
    } finally {
      this.stats.connected = false;
      client?.close();
    }
  }

  private open(client: Client): PutStream {
    const { path, requestSerialize, responseDeserialize } = flight_service.DoPut;
    const metadata = new Metadata();
    if (this.options.token) metadata.set('authorization', `Bearer ${this.options.token}`);
    return client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
  }

  private async pump(client: Client): Promise<void> {
    let ended: string | undefined;
    let over = false;
    // The call says why a connection failed, where waiting for the channel would only say that it took too long.
    const stream = this.open(client);
    // Our own timer: grpc-js keeps its own until it rings, and with it a process that has stopped.
    const timer = setTimeout(() => {
      ended ??= 'no connection in time';
      this.signal.notify();
    }, this.options.connect_timeout_ms);
    client.waitForReady(Number.POSITIVE_INFINITY, (error) => {
      // Closing the client calls back too; by then the next session may be on its way.
      if (over) return;
      clearTimeout(timer);
      if (error) ended ??= 'no connection in time';
      else {
        this.stats.connected = true;
        this.stats.connects++;
      }
      this.signal.notify();
    });
    stream.on('data', (result: Decoded<Uint8Array>) => {
      if (over) return;
      const ack = result.ok ? decodeAck(result.value) : undefined;
      if (ack) this.onAck(ack);
      else ended ??= 'malformed acknowledgement';
      this.signal.notify();
    });
    // Every call ends with a status; an error only repeats it.
    stream.on('error', () => undefined);
    stream.on('status', ({ code, details }) => {
      // grpc-js ends some texts with a heading that nothing follows.
      const reason = details.replace(/ Resolution note: $/, '');
      ended ??= code === status.OK ? 'closed by the reducer' : reason;
      this.signal.notify();
    });
    while (ended === undefined && !this.closed) {
      const room = this.stats.connected && this.hasRoom();
      const entry = room ? this.peek() : undefined;
      if (entry) this.send(stream, entry);
      else {
        this.settle();
        if (this.overdue()) ended ??= 'no acknowledgement in time';
        else await this.signal.wait(this.in_flight.length > 0 ? 1000 : undefined);
      }
    }
    over = true;
    clearTimeout(timer);
    stream.cancel();
    if (ended !== undefined) throw new Error(ended);
  }

  private hasRoom(): boolean {
    if (this.in_flight.length === 0) return true;
    return this.stats.bytes_in_flight < this.options.bytes_in_flight_max;
  }

  private overdue(): boolean {
    const oldest = this.in_flight.at(0);
    if (oldest === undefined) return false;
    // A reducer that is slow is not silent: what is in flight may take it longer than this, one by one.
    const since_ms = Math.max(oldest.sent_ms, this.acknowledged_ms);
    return performance.now() - since_ms > this.options.ack_timeout_ms;
  }

  private send(stream: PutStream, entry: SpoolEntry): void {
    const resend = entry.seq <= this.sent_seq_max;
    this.took(entry);
    const split = splitStream(entry.payload);
    const { seq, table, rows, counts } = entry;
    const flown = { entry: { seq, table, rows, counts }, sent_ms: performance.now() };
    if (!split.ok) {
      this.skip(flown, split.reason);
      return;
    }
    const { schema, messages } = split.value;
    const largest = messages.reduce(
      (most, one) => Math.max(most, one.data_header.length + one.data_body.length),
      schema.length,
    );
    if (largest > this.options.message_bytes_max) {
      this.skip(flown, 'too_large');
      return;
    }
    const { collector_id, hostname, version } = this.options;
    const about = { collector_id, host: hostname, seq, version, messages: messages.length };
    const descriptor = { path: [table], command: EMPTY };
    const app_metadata = encodeMetadata(about);
    stream.write({ descriptor, data_header: schema, app_metadata, data_body: EMPTY });
    for (const one of messages) {
      stream.write({ descriptor: undefined, app_metadata: EMPTY, ...one });
    }
    this.spool.noteSent(seq);
    this.in_flight.push({ ...flown, bytes: entry.payload.length });
    this.stats.bytes_in_flight += entry.payload.length;
    this.stats.bytes_sent += entry.payload.length;
    this.stats.rows_sent += rows;
    this.stats.batches_sent++;
    if (resend) this.stats.resends++;
  }

  /** A batch that cannot be sent is lost in its turn: not before, since a resend would count it again. */
  private skip(flown: Omit<InFlight, 'bytes'>, skipped: string): void {
    this.in_flight.push({ ...flown, bytes: 0, skipped });
    this.settleSkipped();
  }

  private settleSkipped(): void {
    let first = this.in_flight.at(0);
    while (first?.skipped !== undefined) {
      this.in_flight.shift();
      this.reject(first.entry, first.skipped);
      this.advance(first.entry.seq);
      first = this.in_flight.at(0);
    }
  }

  private reject(entry: InFlight['entry'], reason: string): void {
    this.stats.rejected++;
    this.options.on_rejected?.({ ...entry, reason });
  }

  private onAck(ack: PutAck): void {
    this.stats.acks++;
    this.stats.last_error = '';
    if (ack.seq > this.sent_seq) return;
    const now = performance.now();
    for (let flown = this.in_flight.at(0); flown && flown.entry.seq <= ack.seq; ) {
      this.in_flight.shift();
      this.acknowledged_ms = now;
      this.stats.bytes_in_flight -= flown.bytes;
      this.stats.batches_acknowledged++;
      if (flown.entry.seq === ack.seq) {
        this.stats.rtt_ms_last = now - flown.sent_ms;
        if (ack.rejected !== undefined) this.reject(flown.entry, ack.rejected);
      }
      this.advance(flown.entry.seq);
      this.settleSkipped();
      flown = this.in_flight.at(0);
    }
    this.settle();
  }

  private advance(seq: number): void {
    if (seq <= this.acknowledged_seq) return;
    this.acknowledged_seq = seq;
    this.memory = this.memory.filter((entry) => entry.seq > seq);
    this.spool.acknowledge(seq);
  }

  /** Stops sending at once; what is not acknowledged stays in the spool. Open `flush` calls are released. */
  async close(): Promise<void> {
    this.closed = true;
    this.signal.notify();
    await this.done;
    for (const waiter of this.waiters) waiter.resolve();
    this.waiters = [];
  }
}

/** Throws OperatorError for what cannot work. */
function channelOf(options: SenderOptions & typeof defaults) {
  const { host, port, tls, keepalive_ms } = options;
  checkAddress(host, port);
  if (!tls) checkPlaintext('send to', host, options.allow_plaintext ?? false);
  const channel_options: ChannelOptions = {
    'grpc.keepalive_time_ms': keepalive_ms,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.max_receive_message_length': 1024 * 1024,
    'grpc.max_send_message_length': -1,
    // The environment's proxy is for browsers; TXT records in the DNS do not configure a collector.
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    // Each attempt has its own connection: the back-off is ours alone.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.enable_channelz': 0,
  };
  const { creds, options: own } = channelTo(host, tls);
  return { address: authority(host, port), creds, options: { ...channel_options, ...own } };
}
