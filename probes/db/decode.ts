// Packets of databases (db.bpf.h) → connections → commands → rows of `dbflow`. One decoder for all databases of a collector.

import type { DecodeContext, RecordDecoder, RecordSource } from '../../src/table/probe.ts';
import { SegmentBudget } from '../capture/segments.ts';
import { DbRecordView, db_flag, db_record, record_kind } from '../layout.gen.ts';
import { MysqlTalk } from '../mysql/talk.ts';
import { PostgresqlTalk } from '../postgresql/talk.ts';
import { RedisTalk } from '../redis/talk.ts';
import { DbConnection, type DbConnectionSink } from './connection.ts';
import { type DbEnds, DbRows } from './rows.ts';
import type { Command, Talk, TalkSink } from './talk.ts';

const { DB_SENT, DB_BEGIN, DB_END, DB_RESET, DB_LISTENER } = db_flag;
const CONNECTIONS_MAX = 16_384;
/** What came to a listening socket, until the connection's own packets come. */
const PARKED_MAX = 4096;
const PARKED_PIECES_MAX = 4;
const CHUNKS_MAX = 50_000;
const BYTES_MAX = 64 << 20;
/** Commands that wait for answers, of all connections and of one. */
const WAITING_MAX = 1 << 19;
const WAITING_OF_ONE_MAX = 1 << 16;
const IDLE_NS = 3600e9;
/** The order of connections is kept so exactly. */
const ORDER_NS = 1e9;
const ENDED_SENT = 1;
const ENDED_CAME = 2;
const ENDED_BOTH = 3;

interface Parked {
  /** Of the client's first byte. */
  begin: number | undefined;
  readonly pieces: { seq: number; ack_seq: number; bytes: Uint8Array; time_ns: number }[];
}

interface Kept {
  readonly connection: DbConnection;
  /** When it came last in the order of connections. */
  ordered_ns: number;
  waiting: number;
  /** The owner that its rows show, as the record has it. */
  owner_tgid: number;
  owner_start_ns: number;
}

interface System {
  readonly name: string;
  readonly ports: readonly number[];
  readonly talk: (sink: TalkSink) => Talk;
}

const decoders = new WeakMap<DecodeContext, DbDecoder>();

export const dbRecords: RecordSource = {
  kind: record_kind.RECORD_DB,
  open(context) {
    const decoder = decoders.get(context) ?? new DbDecoder(context);
    decoders.set(context, decoder);
    return decoder;
  },
};

export class DbDecoder implements RecordDecoder, DbConnectionSink {
  readonly #context: DecodeContext;
  readonly #rows: DbRows;
  readonly #systems: readonly System[];
  readonly #clock_ns: () => number;
  readonly #view = new DbRecordView(new Uint8Array(0));
  readonly #segments = new SegmentBudget(CHUNKS_MAX, BYTES_MAX);
  /** By cookie; the first was silent for longest. */
  readonly #connections = new Map<number, Kept>();
  readonly #parked = new Map<string, Parked>();
  /** Connections that are not known have said nothing since then. */
  #silent_ns: number;
  #waiting = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #booked = { refused: 0, strays: 0 };

  /** `clock_ns`: what the kernel side's bpf_ktime_get_ns says now. */
  constructor(context: DecodeContext, clock_ns: () => number = monotonicNs) {
    const { redis, postgresql, mysql } = context.options;
    this.#context = context;
    this.#rows = new DbRows(context);
    this.#clock_ns = clock_ns;
    this.#silent_ns = clock_ns();
    this.#systems = [
      { name: 'redis', ports: redis?.ports ?? [], talk: (sink) => new RedisTalk(sink) },
      {
        name: 'postgresql',
        ports: postgresql?.ports ?? [],
        talk: (sink) => new PostgresqlTalk(sink),
      },
      { name: 'mysql', ports: mysql?.ports ?? [], talk: (sink) => new MysqlTalk(sink) },
    ];
  }

  /** What is in memory now: each has a limit. */
  get held(): { connections: number; waiting: number; chunks: number; parked: number } {
    const { size } = this.#connections;
    const { chunks } = this.#segments;
    return { connections: size, waiting: this.#waiting, chunks, parked: this.#parked.size };
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(at: number, length: number, now_ms: number): boolean {
    if (length < db_record.SIZE) return false;
    const view = this.#view.move(at);
    if (view.captured > length - db_record.SIZE || view.captured > view.payload_length)
      return false;
    this.#rows.now_ms = now_ms;
    const flags = view.head_flags;
    if ((flags & DB_LISTENER) !== 0) {
      this.#park(view);
      return true;
    }
    const { cookie } = view;
    const kept = this.#connections.get(cookie) ?? this.#open(view, flags);
    if (kept === undefined) return true;
    const { connection } = kept;
    this.#take(kept, view, flags);
    this.#limit(kept);
    if (connection.ended === ENDED_BOTH) this.#remove(cookie, kept);
    else if (connection.last_ns - kept.ordered_ns > ORDER_NS) {
      kept.ordered_ns = connection.last_ns;
      this.#connections.delete(cookie);
      this.#connections.set(cookie, kept);
    }
    return true;
  }

  tick(now_ms: number, last = false): void {
    this.#rows.now_ms = now_ms;
    const now_ns = this.#clock_ns();
    for (const [cookie, kept] of [...this.#connections]) {
      if (last) kept.connection.lose('open_at_end');
      kept.connection.tick(now_ns);
      this.#limit(kept);
      const silent_ns = now_ns - kept.connection.last_ns;
      if (silent_ns > IDLE_NS && kept.waiting === 0) this.#remove(cookie, kept);
    }
    const { refused, strays } = this.#segments;
    this.#context.dropped('db_packets', 'too_many_early', refused - this.#booked.refused);
    this.#context.dropped('db_packets', 'stray', strays - this.#booked.strays);
    this.#booked = { refused, strays };
  }

  done(ends: DbEnds, command: Command): void {
    this.#rows.add(ends, command);
  }

  note(what: string, count: number): void {
    this.#context.note(what, count);
  }

  dropped(what: string, reason: string, count: number): void {
    this.#context.dropped(what, reason, count);
  }

  #take(kept: Kept, view: DbRecordView, flags: number): void {
    const { connection } = kept;
    const sent = (flags & DB_SENT) !== 0;
    const request = sent !== connection.ends.serves;
    const { seq, payload_length, captured, time_ns } = view;
    if (view.owner_tgid !== 0) this.#keepOwner(kept, view);
    if ((flags & DB_BEGIN) !== 0) connection.side(request).begin(seq);
    if (payload_length > 0) {
      if (!connection.ends_certain) this.#keepEnds(connection, view, sent);
      // Who answers has said nothing before the first command came.
      if (request) connection.side(false).begin(view.ack_seq);
      const from = view.at + db_record.SIZE;
      const bytes = this.#bytes.subarray(from, from + captured);
      connection.side(request).push(seq, payload_length, bytes, time_ns);
    }
    if ((flags & DB_END) !== 0) connection.ended |= sent ? ENDED_SENT : ENDED_CAME;
    if ((flags & DB_RESET) !== 0) connection.ended = ENDED_BOTH;
  }

  /** NAT changes the addresses of what goes out before it is seen: what comes in has the socket's own. */
  #keepEnds(connection: DbConnection, view: DbRecordView, sent: boolean): void {
    const { ends } = connection;
    this.#bytes.copy(
      ends.record,
      db_record.local_addr,
      view.at + db_record.local_addr,
      view.at + db_record.netns,
    );
    ends.record.writeUInt16LE(view.local_port, db_record.local_port);
    ends.record.writeUInt16LE(view.peer_port, db_record.peer_port);
    ends.record[db_record.family] = view.family;
    connection.ends_certain = !sent;
    ends.domain = undefined;
    ends.epoch = -1;
  }

  #keepOwner(kept: Kept, view: DbRecordView): void {
    const { owner_tgid, owner_start_ns } = view;
    if (kept.owner_tgid === owner_tgid && kept.owner_start_ns === owner_start_ns) return;
    const { ends } = kept.connection;
    kept.owner_tgid = owner_tgid;
    kept.owner_start_ns = owner_start_ns;
    const from = view.at + db_record.owner_start_ns;
    const length = db_record.time_ns - db_record.owner_start_ns;
    this.#bytes.copy(ends.record, db_record.owner_start_ns, from, from + length);
    ends.epoch = -1;
  }

  #limit(kept: Kept): void {
    const { connection } = kept;
    let { waiting } = connection;
    if (waiting > WAITING_OF_ONE_MAX || this.#waiting + waiting - kept.waiting > WAITING_MAX) {
      connection.lose('too_many_waiting');
      waiting = connection.waiting;
    }
    this.#waiting += waiting - kept.waiting;
    kept.waiting = waiting;
  }

  #open(view: DbRecordView, flags: number): Kept | undefined {
    const begins = (flags & DB_BEGIN) !== 0;
    if (!begins && view.payload_length === 0) return undefined; // the end of one that said nothing
    const parked = this.#unpark(view); // also where the server speaks first
    const fresh = begins || parked?.begin !== undefined;
    const at = this.#system(view, fresh ? begins && (flags & DB_SENT) !== 0 : undefined);
    if (at === undefined) {
      this.#context.dropped('db_packets', 'side_unknown', 1);
      return undefined;
    }
    if (this.#connections.size >= CONNECTIONS_MAX) this.#evict();
    const record = Buffer.from(this.#bytes.subarray(view.at, view.at + db_record.SIZE));
    const { system, serves } = at;
    const connection = new DbConnection(
      {
        ...{ system: system.name, serves, record, dims: undefined, epoch: -1 },
        ...{ begin_ns: view.time_ns, domain: undefined },
      },
      this,
      this.#segments,
      { talk: system.talk, fresh, last_ns: this.#silent_ns },
    );
    const kept = {
      connection,
      ordered_ns: view.time_ns,
      waiting: 0,
      owner_tgid: view.owner_tgid,
      owner_start_ns: view.owner_start_ns,
    };
    this.#connections.set(view.cookie, kept);
    if (parked !== undefined) adopt(connection, parked);
    return kept;
  }

  /** Which database, and which end this is; `asks`: known from who opened the connection. */
  #system(
    view: DbRecordView,
    asks: boolean | undefined,
  ): { system: System; serves: boolean } | undefined {
    for (const system of this.#systems) {
      const local = system.ports.includes(view.local_port);
      const peer = system.ports.includes(view.peer_port);
      if (local && peer) return asks === undefined ? undefined : { system, serves: !asks };
      if (local || peer) return { system, serves: local };
    }
    return undefined;
  }

  /** The longest silent one; what comes of it later is as if it were older than the decoder. */
  #evict(): void {
    for (const [cookie, kept] of this.#connections) {
      kept.connection.lose('too_many_waiting');
      this.#remove(cookie, kept);
      this.#silent_ns = Math.max(this.#silent_ns, this.#clock_ns());
      this.#context.note('db_connections_forgotten', 1);
      return;
    }
  }

  #remove(cookie: number, kept: Kept): void {
    kept.connection.close();
    this.#waiting -= kept.waiting;
    this.#connections.delete(cookie);
  }

  /** The kernel hands SYN to the listening socket, and first bytes too where these come before the acknowledgement. */
  #park(view: DbRecordView): void {
    const key = this.#endsKey(view);
    const { seq, ack_seq, captured, payload_length, time_ns } = view;
    const begins = (view.head_flags & DB_BEGIN) !== 0;
    const known = this.#parked.get(key);
    const parked: Parked =
      known !== undefined && !(begins && known.begin !== seq)
        ? known
        : { begin: undefined, pieces: [] };
    if (begins) parked.begin = seq;
    if (captured > 0 && captured === payload_length && parked.pieces.length < PARKED_PIECES_MAX) {
      const from = view.at + db_record.SIZE;
      const bytes = Uint8Array.from(this.#bytes.subarray(from, from + captured));
      parked.pieces.push({ seq, ack_seq, bytes, time_ns });
    }
    this.#parked.delete(key);
    if (this.#parked.size >= PARKED_MAX) {
      for (const oldest of this.#parked.keys()) {
        this.#parked.delete(oldest);
        break;
      }
    }
    this.#parked.set(key, parked);
  }

  #unpark(view: DbRecordView): Parked | undefined {
    const key = this.#endsKey(view);
    const parked = this.#parked.get(key);
    this.#parked.delete(key);
    return parked;
  }

  #endsKey(view: DbRecordView): string {
    const from = view.at + db_record.local_addr;
    const addresses = this.#bytes.toString('latin1', from, from + 32);
    return `${addresses}${view.netns} ${view.local_port} ${view.peer_port}`;
  }
}

function adopt(connection: DbConnection, { begin, pieces }: Parked): void {
  const side = connection.side(true);
  if (begin !== undefined) side.begin(begin);
  for (const { seq, ack_seq, bytes, time_ns } of pieces) {
    if (ack_seq !== 0) connection.side(false).begin(ack_seq);
    side.push(seq, bytes.length, bytes, time_ns);
  }
}

/** CLOCK_MONOTONIC, as the decoder of DNS has it. */
function monotonicNs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e9 + nanoseconds;
}
