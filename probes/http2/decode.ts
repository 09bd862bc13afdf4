// Records of the kernel side (http2.bpf.h) → connections → requests. Keeps the connections that are open, up to a limit;
// one that sends no end is let go when it is idle.

import type { DecodeContext, RecordDecoder, RecordSource } from '../../src/table/probe.ts';
import { requestLineOf } from '../http/line.ts';
import {
  flow_role,
  Http2RecordView,
  http2_flag,
  http2_record,
  record_kind,
} from '../layout.gen.ts';
import { Http2Connection, type Http2Counts, type Http2Exchange, type Side } from './connection.ts';
import { Order, type Piece } from './order.ts';
import { begins, Parked } from './parked.ts';
import { type Http2Ends, Http2Rows } from './rows.ts';

const CONNECTIONS_MAX = 8192;
/** Open requests of all connections. */
const STREAMS_MAX = 65_536;
const IDLE_MS = 10 * 60_000;
/** One side has ended and the other one says nothing: its program is gone. */
const HALF_CLOSED_MS = 30_000;
/** Packets that are this late do not come any more. */
const WAIT_MS = 3000;
const LOCAL: Side = 0;
const PEER: Side = 1;
const BOTH = 3;

export const http2Records: RecordSource = {
  kind: record_kind.RECORD_HTTP2,
  open: (context) => new Http2Decoder(context),
};

/** An open connection, and whose it is. */
interface Http2Peer {
  readonly connection: Http2Connection;
  readonly cookie: number;
  readonly orders: readonly [Order, Order];
  readonly booked: Http2Counts;
  readonly ends: Http2Ends;
  ended: number;
  last_ms: number;
}

export class Http2Decoder implements RecordDecoder {
  readonly #context: DecodeContext;
  readonly #rows: Http2Rows;
  readonly #view = new Http2RecordView(new Uint8Array(0));
  readonly #peers = new Map<number, Http2Peer>();
  readonly #parked: Parked;
  readonly #budget = { open: 0, max: STREAMS_MAX };
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#rows = new Http2Rows(context);
    this.#parked = new Parked(() => context.note('http2_unclaimed', 1));
  }

  get connections(): number {
    return this.#peers.size;
  }

  over(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#view.over(bytes);
  }

  decode(at: number, length: number, now_ms: number): boolean {
    if (length < http2_record.SIZE) return false;
    const view = this.#view.move(at);
    if (length < http2_record.SIZE + view.length) return false;
    const { cookie, head_flags: flags, now_ns } = view;
    const piece = this.#pieceOf(view, at + http2_record.SIZE);
    if ((flags & http2_flag.HTTP2_PARKED) !== 0) {
      this.#parked.add(endsOf(view), piece, now_ms);
      return true;
    }
    const known = this.#peers.get(cookie);
    if (known === undefined && (flags & http2_flag.HTTP2_RAW) !== 0) {
      this.#parked.add(String(cookie), piece, now_ms); // of whatever protocol
      return true;
    }
    const peer = known ?? this.#open(view, now_ms);
    peer.last_ms = now_ms;
    this.#keepEnds(peer, view, at);
    if ((flags & http2_flag.HTTP2_UPGRADE) !== 0) {
      const line = requestLineOf(piece.bytes);
      peer.connection.upgraded(line, (view.to - view.after) >>> 0, now_ns);
      return true;
    }
    peer.orders[sideOf(flags)].add(piece);
    if ((flags & http2_flag.HTTP2_RESET) !== 0 || peer.ended === BOTH) this.#close(peer, now_ns);
    return true;
  }

  #pieceOf(view: Http2RecordView, from: number): Piece {
    const { head_flags: flags, to, skip, after, now_ns, length } = view;
    const is_raw = (flags & http2_flag.HTTP2_RAW) !== 0;
    const bytes = this.#bytes.subarray(from, from + length);
    return { flags, from: is_raw ? (to - length) >>> 0 : after, to, skip, now_ns, bytes };
  }

  tick(now_ms: number): void {
    this.#parked.tick(now_ms);
    for (const peer of this.#peers.values()) {
      this.#book(peer);
      if (now_ms - peer.last_ms > WAIT_MS) for (const order of peer.orders) order.giveUp();
      if (now_ms - peer.last_ms < (peer.ended === 0 ? IDLE_MS : HALF_CLOSED_MS)) continue;
      this.#context.note('http2_idle', 1);
      this.#close(peer, 0);
    }
  }

  /** Gives a record's bytes to the connection; the payload that is left out is passed over. */
  #take(peer: Http2Peer, side: Side, piece: Piece, follows: boolean): void {
    const { connection } = peer;
    const { flags, bytes, skip } = piece;
    const reader = connection.readers[side];
    connection.at(piece.now_ns);
    if ((flags & http2_flag.HTTP2_END) !== 0) peer.ended |= 1 << side;
    const begins = (flags & http2_flag.HTTP2_BEGIN) !== 0 && reader.state === 'start';
    // A record is missing, or the kernel side itself had lost its place.
    const resync = (flags & http2_flag.HTTP2_RESYNC) !== 0;
    if (!begins && (!follows || (resync && !reader.at_head))) connection.gap(side);
    if ((flags & http2_flag.HTTP2_RAW) !== 0) {
      reader.feed(bytes);
      return;
    }
    if (reader.state === 'lost' && (flags & http2_flag.HTTP2_AT_HEAD) !== 0) reader.resync();
    let place = 0;
    while (place < bytes.length && reader.state !== 'lost') {
      if (reader.skip > 0) reader.pass(reader.skip);
      place = reader.take(bytes, place);
    }
    if (reader.skip > skip) reader.pass(reader.skip - skip);
  }

  #open(view: Http2RecordView, now_ms: number): Http2Peer {
    if (this.#peers.size >= CONNECTIONS_MAX) this.#evict();
    const flags = view.head_flags;
    const client = this.#clientOf(view, flags);
    const rows = this.#rows;
    const adopted = (flags & http2_flag.HTTP2_ADOPTED) !== 0;
    const pieces = this.#parked.take(adopted ? endsOf(view) : String(view.cookie));
    const is_begin = (flags & (http2_flag.HTTP2_BEGIN | http2_flag.HTTP2_UPGRADE)) !== 0;
    const joined = !is_begin && !pieces.some(begins);
    const sink = {
      exchange: (one: Http2Exchange) => {
        peer.ends.serves ??=
          connection.client === undefined ? undefined : connection.client === PEER;
        rows.add(peer.ends, one, peer.last_ms);
      },
    };
    const budget = this.#budget;
    const connection = new Http2Connection(sink, { joined, client, budget });
    const peer: Http2Peer = {
      connection,
      cookie: view.cookie,
      orders: [
        new Order((piece, follows) => this.#take(peer, LOCAL, piece, follows)),
        new Order((piece, follows) => this.#take(peer, PEER, piece, follows)),
      ],
      booked: { ...connection.counts },
      ends: {
        record: Buffer.alloc(http2_record.SIZE),
        serves: client === undefined ? undefined : client === PEER,
        dims: undefined,
        epoch: -1,
        routes: undefined,
      },
      ended: 0,
      last_ms: now_ms,
    };
    this.#peers.set(view.cookie, peer);
    if (joined) this.#context.note('http2_joined_late', 1);
    for (const piece of pieces) peer.orders[sideOf(piece.flags)].add(piece);
    return peer;
  }

  /**
   * The owner of an accepted socket is known when it has read, and the socket of a TLS session when its data came: both later
   * than the first record.
   */
  #keepEnds({ ends }: Http2Peer, view: Http2RecordView, at: number): void {
    const { record } = ends;
    const tgid = view.owner_tgid;
    const is_new = record[http2_record.head_kind] === 0;
    const same_owner = tgid === 0 || tgid === record.readUInt32LE(http2_record.owner_tgid);
    const same_ports =
      view.local_port === record.readUInt16LE(http2_record.local_port) &&
      view.peer_port === record.readUInt16LE(http2_record.peer_port);
    if (!is_new && same_owner && (same_ports || view.local_port === 0)) return;
    record.set(this.#bytes.subarray(at, at + http2_record.SIZE));
    ends.dims = undefined;
  }

  /** Who is the client: by the preface, by who connected, or by the ports. */
  #clientOf(view: Http2RecordView, flags: number): Side | undefined {
    if ((flags & http2_flag.HTTP2_CLIENT) !== 0) return LOCAL;
    if ((flags & http2_flag.HTTP2_SERVER) !== 0) return PEER;
    if (view.role === flow_role.ROLE_OUTGOING) return LOCAL;
    if (view.role === flow_role.ROLE_INCOMING) return PEER;
    const { ephemeral_port } = this.#context.options;
    const local_high = view.local_port >= ephemeral_port;
    const peer_high = view.peer_port >= ephemeral_port;
    if (local_high === peer_high) return undefined;
    return local_high ? LOCAL : PEER;
  }

  #evict(): void {
    for (const oldest of this.#peers.values()) {
      this.#context.note('http2_connection_evicted', 1);
      this.#close(oldest, 0);
      return;
    }
  }

  /** `now_ns` 0: nothing is known of its end. */
  #close(peer: Http2Peer, now_ns: number): void {
    for (const order of peer.orders) order.giveUp();
    peer.connection.close(now_ns);
    this.#book(peer);
    this.#peers.delete(peer.cookie);
  }

  #book({ connection, booked, orders }: Http2Peer): void {
    for (const order of orders) {
      if (order.reordered > 0) this.#context.note('http2_reordered', order.reordered);
      order.reordered = 0;
    }
    const { counts } = connection;
    for (const name of COUNTS) {
      const count = counts[name] - booked[name];
      booked[name] = counts[name];
      if (count > 0) this.#context.note(`http2_${name}`, count);
    }
  }
}

function sideOf(flags: number): Side {
  return (flags & http2_flag.HTTP2_EGRESS) === 0 ? PEER : LOCAL;
}

/** Names a connection before it has a socket of its own: the same for its packets at the listening socket and at its own. */
function endsOf(view: Http2RecordView): string {
  const { netns, local_addr, local_port, peer_addr, peer_port } = view;
  const addresses = Buffer.concat([local_addr, peer_addr]).toString('latin1');
  return `${netns} ${local_port} ${peer_port} ${addresses}`;
}

const COUNTS: readonly (keyof Http2Counts)[] = [
  'unknown_fields',
  'bad_blocks',
  'lost',
  'evicted',
  'partial',
  'pushed',
];
