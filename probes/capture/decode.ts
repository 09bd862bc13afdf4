// Records of captured bytes → connections → exchanges: each goes into the catalogue, and redacted to the reader.

import type { Fold } from '../../src/table/fold.ts';
import type { CaptureOptions } from '../../src/table/outlet.ts';
import type { DecodeContext, RecordDecoder } from '../../src/table/probe.ts';
import { ipv4Text, ipv6Text } from '../address.ts';
import {
  CaptureChunkView,
  CaptureRecordView,
  capture_chunk,
  capture_count,
  capture_flag,
  capture_record,
  capture_side,
  flow_role,
} from '../layout.gen.ts';
import { apiCatalog, Catalog } from './catalog.ts';
import {
  Connection,
  type ConnectionCounts,
  type ConnectionSink,
  type Ends,
  type Exchange,
} from './connection.ts';
import { eventLine } from './event.ts';
import { BodyBudget } from './message.ts';
import { Redactor } from './redact.ts';
import { SegmentBudget } from './segments.ts';
import { type CaptureTotals, captureStats, probeLine, statsLine, statsRow } from './stats.ts';

const AF_INET = 2;
const CONNECTIONS_MAX = 16_384;
const IDLE_NS = 10 * 60e9;
/** Pieces that came to a listening socket, until the connection's own come. */
const PARKED_MAX = 1024;
const PARKED_PIECES_MAX = 8;
const ENDED_MAX = 4096;
const WAITING_BYTES_MAX = 64 << 20;
const BODIES_BYTES_MAX = 128 << 20;

export const CAPTURE_DEFAULTS: CaptureOptions = {
  mode: 'ingress',
  capture_all_namespaces: false,
  perfmap_queue_size: 1024,
  probe_event_queue_size: 50_000,
  message_bytes_max: 1 << 20,
  redact_headers: [],
  redact_keys: [],
  redact_patterns: [],
};

interface Piece {
  readonly seq: number;
  readonly bytes: Uint8Array;
  readonly time_ns: number;
}

interface Parked {
  readonly key: string;
  readonly cookie: number;
  readonly seq: number;
  readonly pieces: Piece[];
}

interface Dropped {
  owner_unknown: number;
  queue_full: number;
  no_reader: number;
}

export class CaptureDecoder implements RecordDecoder, ConnectionSink {
  readonly #context: DecodeContext;
  readonly #stats: Fold;
  readonly #catalog: Catalog;
  readonly #redactor: Redactor;
  readonly #view = new CaptureRecordView(new Uint8Array(0));
  readonly #chunk = new CaptureChunkView(new Uint8Array(0));
  readonly #segments: SegmentBudget;
  readonly #bodies: BodyBudget;
  readonly #counts: ConnectionCounts = {
    requests: 0,
    responses: 0,
    request_errors: 0,
    response_errors: 0,
    orphans: 0,
    unanswered: 0,
    pieces_lost: 0,
  };
  /** In the order of their last record: the first is the one to forget. */
  readonly #connections = new Map<number, Connection>();
  /** Cookies of those that ended last: what still comes of them is repeats. */
  readonly #ended = new Set<number>();
  readonly #parked = new Map<string, Parked>();
  readonly #parked_by_cookie = new Map<number, Parked>();
  readonly #dropped: Dropped = { owner_unknown: 0, queue_full: 0, no_reader: 0 };
  #bytes: Uint8Array = new Uint8Array(0);
  #offset_ms = Number.POSITIVE_INFINITY;
  #offset_before_ms = Number.POSITIVE_INFINITY;
  #latest_ns = 0;
  #controls = 0;
  #chunks = 0;
  #unparked = 0;
  #opened = 0;
  #evicted = 0;
  #seen = 0;
  #sent = 0;
  #incomplete = 0;
  #cut = 0;
  #kernel_counts: readonly number[] = [];
  #before: CaptureTotals;
  #ledger = { seen: 0, sent: 0, ...this.#dropped };

  constructor(context: DecodeContext) {
    const options = context.options.capture ?? CAPTURE_DEFAULTS;
    this.#context = context;
    this.#stats = context.fold(captureStats);
    this.#catalog = new Catalog(context.fold(apiCatalog));
    this.#redactor = new Redactor({
      headers: options.redact_headers,
      keys: options.redact_keys,
      patterns: options.redact_patterns,
      body_max: options.message_bytes_max,
    });
    this.#segments = new SegmentBudget(options.probe_event_queue_size, WAITING_BYTES_MAX);
    this.#bodies = new BodyBudget(BODIES_BYTES_MAX, options.message_bytes_max);
    this.#before = this.totals();
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#chunk.over(bytes);
    this.#bytes = bytes;
  }

  decode(at: number, length: number, now_ms: number): boolean {
    const chunk = this.#chunk.move(at);
    if (length < capture_chunk.SIZE) return false;
    if ((chunk.head_flags & capture_flag.CAPTURE_DATA) !== 0) {
      if (chunk.length > length - capture_chunk.SIZE) return false;
      this.#chunks += 1;
      this.#noteTime(chunk.time_ns, now_ms);
      const from = at + capture_chunk.SIZE;
      this.#takeBytes(chunk, this.#bytes.subarray(from, from + chunk.length));
      return true;
    }
    if (length < capture_record.SIZE) return false;
    const view = this.#view.move(at);
    this.#controls += 1;
    this.#noteTime(view.time_ns, now_ms);
    if ((view.head_flags & capture_flag.CAPTURE_LISTENER) !== 0) this.#park(view);
    else this.#take(view, view.head_flags);
    return true;
  }

  /** What the kernel counted for a predecessor (`capture_counts`): that is no news. */
  beginAt(counts: readonly number[]): void {
    this.#kernel_counts = counts;
    this.#before = this.totals();
  }

  /** What it has counted, each interval. */
  kernelCounts(counts: readonly number[]): void {
    this.#kernel_counts = counts;
  }

  tick(now_ms: number): void {
    const offset_ms = Math.min(this.#offset_ms, this.#offset_before_ms);
    if (Number.isFinite(offset_ms)) {
      this.#latest_ns = Math.max(this.#latest_ns, (now_ms - offset_ms) * 1e6);
    }
    for (const connection of [...this.#connections.values()]) {
      if (this.#latest_ns - connection.last_ns > IDLE_NS) this.#forget(connection);
      else connection.tick(this.#latest_ns);
      if (connection.over) this.#remove(connection);
    }
    if (Number.isFinite(this.#offset_ms)) this.#offset_before_ms = this.#offset_ms;
    this.#offset_ms = Number.POSITIVE_INFINITY;
    const now = this.totals();
    this.#stats.add(new Float64Array(0), statsRow(now, this.#before));
    this.#before = now;
    this.#book();
    this.#context.statistics?.(statsLine(now));
    const count = (what: number): number => this.#kernel_counts[what] ?? 0;
    this.#context.statistics?.(
      probeLine({
        skb_in: [count(capture_count.CAPTURE_IN_ENTRY), count(capture_count.CAPTURE_IN_EXIT)],
        skb_out: [count(capture_count.CAPTURE_OUT_ENTRY), count(capture_count.CAPTURE_OUT_EXIT)],
      }),
    );
  }

  exchange(connection: Connection, exchange: Exchange, complete: boolean): void {
    const { request, response } = exchange;
    this.#seen += 1;
    if (!complete) this.#incomplete += 1;
    for (const one of [request, response]) if (one !== undefined && one.cut !== '') this.#cut += 1;
    if (!connection.confirmed) {
      this.#dropped.owner_unknown += 1;
      return;
    }
    const { ends, owner_tgid, owner_start_ns, owner_cgroup_id } = connection;
    const owner = this.#context.owner(owner_tgid, owner_start_ns, owner_cgroup_id);
    const server = ends.role === flow_role.ROLE_INCOMING;
    const offset_ms = Math.min(this.#offset_ms, this.#offset_before_ms);
    const { process_name, container_id } = owner;
    const port = server ? ends.local_port : ends.peer_port;
    this.#catalog.add(
      { process_name, container_id, server, port },
      exchange,
      Math.max(0, Math.round(offset_ms + request.begin_ns / 1e6)),
    );
    const { outlet } = this.#context;
    if (outlet === undefined) {
      this.#dropped.no_reader += 1;
      return;
    }
    const line = eventLine(
      exchange,
      { connection, owner, server, complete, offset_ms },
      this.#redactor,
    );
    if (outlet.send(line)) this.#sent += 1;
    else this.#dropped.queue_full += 1;
  }

  /** What is in memory now: each has a limit. */
  get held(): { connections: number; chunks: number; bytes: number; bodies: number } {
    const { chunks, bytes } = this.#segments;
    return { connections: this.#connections.size, chunks, bytes, bodies: this.#bodies.bytes };
  }

  totals(): CaptureTotals {
    const { owner_unknown, queue_full, no_reader } = this.#dropped;
    return {
      control_events: this.#controls,
      data_events: this.#chunks,
      requests_parsed: this.#counts.requests,
      request_errors: this.#counts.request_errors,
      response_errors: this.#counts.response_errors,
      events_lost: this.#kernel_counts[capture_count.CAPTURE_LOST] ?? 0,
      requests_sent: this.#context.outlet?.counts.sent ?? 0,
      events_dropped_queue: this.#segments.refused + this.#unparked,
      events_dropped_parsing: this.#counts.pieces_lost + this.#segments.strays,
      event_queue_max: this.#segments.chunks_most,
      exchanges_seen: this.#seen,
      exchanges_incomplete: this.#incomplete,
      exchanges_dropped: owner_unknown + queue_full + no_reader,
      bodies_cut: this.#cut,
      values_redacted: this.#redactor.redacted,
      connections: this.#opened,
    };
  }

  /** Exchanges: seen = kept + dropped. Details of the rest are in `capture_stats`. */
  #book(): void {
    const was = this.#ledger;
    this.#context.note('capture_exchanges', this.#sent - was.sent);
    for (const [reason, count] of Object.entries(this.#dropped)) {
      const before = was[reason as keyof Dropped]; // both have the keys of Dropped
      this.#context.dropped('capture_exchanges', reason, count - before);
    }
    this.#ledger = { seen: this.#seen, sent: this.#sent, ...this.#dropped };
  }

  /** The wall clock minus the kernel's: the least difference between reading a record and its time. */
  #noteTime(time_ns: number, now_ms: number): void {
    this.#latest_ns = Math.max(this.#latest_ns, time_ns);
    this.#offset_ms = Math.min(this.#offset_ms, now_ms - time_ns / 1e6);
  }

  #takeBytes(chunk: CaptureChunkView, bytes: Uint8Array): void {
    const { cookie, seq, time_ns } = chunk;
    const connection = this.#connections.get(cookie);
    if (connection === undefined) {
      this.#takeEarly(cookie, seq, bytes, time_ns);
      return;
    }
    this.#connections.delete(cookie); // to the end of the order
    this.#connections.set(cookie, connection);
    const side = (chunk.head_flags & capture_flag.CAPTURE_RESPONSE) === 0 ? 0 : 1;
    connection.data(side, seq, bytes.length, bytes, time_ns);
    if (connection.over) this.#remove(connection);
  }

  /** Bytes at a listening socket, or of a connection that is over or whose begin was lost. */
  #takeEarly(cookie: number, seq: number, bytes: Uint8Array, time_ns: number): void {
    const parked = this.#parked_by_cookie.get(cookie);
    if (parked !== undefined && parked.pieces.length < PARKED_PIECES_MAX) {
      parked.pieces.push({ seq, bytes: new Uint8Array(bytes), time_ns });
    } else if (this.#ended.has(cookie)) this.#segments.repeats += 1;
    else this.#segments.strays += 1;
  }

  #take(view: CaptureRecordView, flags: number): void {
    const { time_ns, seq } = view;
    const side = view.side === capture_side.SIDE_REQUEST ? 0 : 1;
    const connection = this.#connection(view, flags);
    if (connection === undefined) return;
    connection.confirmed ||= (flags & capture_flag.CAPTURE_PROVISIONAL) === 0;
    if (view.owner_tgid !== 0) {
      connection.owner_tgid = view.owner_tgid;
      connection.owner_start_ns = view.owner_start_ns;
      connection.owner_cgroup_id = view.owner_cgroup_id;
    }
    if ((flags & capture_flag.CAPTURE_OPEN) !== 0) {
      connection.begin(side, seq);
      connection.begin(side === 0 ? 1 : 0, view.ack_seq);
    } else if ((flags & capture_flag.CAPTURE_RESET) !== 0) {
      connection.close(time_ns);
    } else if ((flags & capture_flag.CAPTURE_END) !== 0) {
      connection.end(side, seq, time_ns);
    } else if ((flags & capture_flag.CAPTURE_BEYOND) !== 0) {
      connection.data(side, seq, view.length, undefined, time_ns);
    }
    if (connection.over) this.#remove(connection);
  }

  #remove(connection: Connection): void {
    const { cookie } = connection.ends;
    this.#connections.delete(cookie);
    if (this.#ended.size >= ENDED_MAX) {
      const [oldest] = this.#ended;
      if (oldest !== undefined) this.#ended.delete(oldest);
    }
    this.#ended.add(cookie);
  }

  /** Only a begin makes one: it is the first record of each, and what comes late is of one that is over. */
  #connection(view: CaptureRecordView, flags: number): Connection | undefined {
    const { cookie } = view;
    const known = this.#connections.get(cookie);
    if (known !== undefined) return known;
    if ((flags & capture_flag.CAPTURE_OPEN) === 0) return undefined;
    if (this.#connections.size >= CONNECTIONS_MAX) {
      const [oldest] = this.#connections.values();
      if (oldest !== undefined) this.#forget(oldest);
      this.#evicted += 1;
    }
    const connection = new Connection(this.#ends(view), this, {
      segments: this.#segments,
      bodies: this.#bodies,
      counts: this.#counts,
    });
    this.#opened += 1;
    this.#connections.set(cookie, connection);
    this.#adopt(connection);
    return connection;
  }

  #forget(connection: Connection): void {
    connection.close(this.#latest_ns);
    this.#remove(connection);
  }

  #ends(view: CaptureRecordView): Ends {
    const text = view.family === AF_INET ? ipv4Text : ipv6Text;
    const bytes = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
    return {
      cookie: view.cookie,
      role: view.role,
      netns: view.netns,
      local_ip: text(bytes, view.local_addr_offset),
      local_port: view.local_port,
      peer_ip: text(bytes, view.peer_addr_offset),
      peer_port: view.peer_port,
    };
  }

  /** The kernel hands the first bytes to the listening socket where that waits for them (TCP_DEFER_ACCEPT). */
  #park(view: CaptureRecordView): void {
    if (this.#parked.size >= PARKED_MAX) {
      const [oldest] = this.#parked.values();
      if (oldest !== undefined) this.#unpark(oldest);
      this.#unparked += 1;
    }
    const { cookie, seq } = view;
    const key = endsKey(this.#ends(view));
    const before = this.#parked_by_cookie.get(cookie) ?? this.#parked.get(key);
    if (before?.key === key && before.seq === seq) return; // sent again
    if (before !== undefined) this.#unpark(before);
    const parked: Parked = { key, cookie, seq, pieces: [] };
    this.#parked.set(key, parked);
    this.#parked_by_cookie.set(cookie, parked);
  }

  #unpark(parked: Parked): void {
    this.#parked.delete(parked.key);
    this.#parked_by_cookie.delete(parked.cookie);
  }

  #adopt(connection: Connection): void {
    const parked = this.#parked.get(endsKey(connection.ends));
    if (parked === undefined) return;
    this.#unpark(parked);
    for (const { seq, bytes, time_ns } of parked.pieces) {
      connection.begin(0, seq);
      connection.data(0, seq, bytes.length, bytes, time_ns);
    }
  }
}

function endsKey({ netns, local_ip, local_port, peer_ip, peer_port }: Ends): string {
  return `${netns} ${local_ip} ${local_port} ${peer_ip} ${peer_port}`;
}
