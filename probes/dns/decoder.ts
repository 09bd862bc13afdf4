// Decodes DNS packets (dns.bpf.h) into rows of `dnsflow`, and tells the domain cache which address was looked up by which
// name. A query is counted once: when its answer comes, or when it has timed out.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext, RecordDecoder } from '../../src/table/probe.ts';
import { EndColumns } from '../end_columns.ts';
import { Interned, IPPROTO_TCP, positions } from '../interned.ts';
import { DnsRecordView, dns_flag, dns_record } from '../layout.gen.ts';
import { dnsflow } from './dnsflow.ts';
import { type Message, type Question, readMessage, TYPE_CNAME, typeName } from './message.ts';
import { Pending, type Query } from './pending.ts';
import { DnsStreams } from './stream.ts';

const RCODE_TIMED_OUT = -1;
const OTHER = '<other>';
/** Aliases one after another from the name that was asked for. */
const ALIASES_MAX = 16;
/** TCP connections whose owners are remembered. */
const OWNERS_MAX = 4096;

const D = positions(dnsflow.dimensions);
const M = positions(dnsflow.measures);

/** A message of one packet, or put together from several. */
interface Heard {
  readonly message: Message;
  /** Of the whole message, as the wire had it. */
  readonly bytes: number;
  readonly sent: boolean;
  readonly client: boolean;
}

export class DnsDecoder implements RecordDecoder {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #interned: Interned;
  readonly #ends: EndColumns;
  readonly #clock_ns: () => number;
  readonly #pending = new Pending();
  readonly #streams = new DnsStreams();
  /** By cookie, of a TCP connection, the head of the newest record that knew whose it is; the first was silent for longest. */
  readonly #owners = new Map<string, Buffer>();
  /** Names of this interval, against a flood of them. */
  readonly #domains = new Set<string>();
  readonly #view = new DnsRecordView(new Uint8Array(0));
  /** Another record than the one that is decoded: a query's. */
  readonly #other = new DnsRecordView(new Uint8Array(0));
  #bytes: Buffer = Buffer.alloc(0);
  readonly #dims = new Float64Array(dnsflow.dimensions.length);
  readonly #measures = new Float64Array(dnsflow.measures.length);
  #other_bytes: Buffer = Buffer.alloc(0);
  #now_ms = 0;
  #lost_records = 0;
  #lost_streams = 0;

  /** `clock_ns`: what the kernel side's bpf_ktime_get_ns says now. */
  constructor(context: DecodeContext, clock_ns: () => number = monotonicNs) {
    this.#context = context;
    this.#fold = context.fold(dnsflow);
    this.#interned = new Interned(this.#fold);
    this.#ends = new EndColumns(context, this.#interned, D);
    this.#clock_ns = clock_ns;
  }

  /** Queries without an answer so far. */
  get waiting(): number {
    return this.#pending.size;
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(at: number, length: number, now_ms: number): boolean {
    if (length < dns_record.SIZE) return false;
    const view = this.#view.move(at);
    if (view.captured > length - dns_record.SIZE || view.captured > view.payload_length)
      return false;
    this.#now_ms = now_ms;
    this.#interned.renew();
    const head = this.#bytes.subarray(at, at + dns_record.SIZE);
    const payload = at + dns_record.SIZE;
    if (view.transport !== IPPROTO_TCP) {
      this.#heard(view, head, this.#bytes, payload, view.captured, view.payload_length);
      return true;
    }
    const sent = (view.head_flags & dns_flag.DNS_SENT) !== 0;
    const cookie = this.#cookie(head);
    if (view.owner_tgid !== 0) this.#keepOwner(cookie, head);
    const pieces = this.#streams.feed(`${sent} ${cookie}`, {
      seq: view.seq,
      length: view.payload_length,
      captured: view.captured,
      bytes: this.#bytes,
      at: payload,
    });
    for (const piece of pieces) {
      this.#heard(view, head, piece.bytes, 0, piece.bytes.length, piece.length);
    }
    return true;
  }

  /** Queries that waited too long; the kernel's count of lost records was read just before. */
  tick(now_ms: number, last = false): void {
    this.#now_ms = now_ms;
    this.#interned.renew();
    const { dns } = this.#context.options;
    for (const query of this.#pending.expired(this.#clock_ns(), dns.timeout * 1e6)) {
      if (query.uncertain) this.#context.dropped('dns_queries', 'answer_may_be_lost', 1);
      else this.#timedOut(query, 0);
    }
    if (last) this.#context.dropped('dns_queries', 'open_at_end', this.#pending.giveUp());
    const { lost } = this.#streams;
    if (lost > this.#lost_streams)
      this.#context.note('dns_tcp_place_lost', lost - this.#lost_streams);
    this.#lost_streams = lost;
    this.#domains.clear(); // the next interval's are its own
  }

  /** The kernel side has lost so many records in all, since it was loaded. */
  lostRecords(count: number): void {
    if (count > this.#lost_records) this.#pending.doubt();
    this.#lost_records = count;
  }

  #heard(
    view: DnsRecordView,
    head: Buffer,
    bytes: Uint8Array,
    at: number,
    length: number,
    whole: number,
  ): void {
    const message = readMessage(bytes, at, length);
    const sent = (view.head_flags & dns_flag.DNS_SENT) !== 0;
    if (message === undefined) {
      this.#context.dropped('dns_messages', 'no_header', 1);
      return;
    }
    const client = sent !== message.response;
    if (!this.#context.options.dns.ports.includes(client ? view.peer_port : view.local_port)) {
      // From a server that asks at its own port, or nobody that speaks DNS.
      this.#context.dropped('dns_messages', 'wrong_way', 1);
      return;
    }
    if (message.fault !== '' && length === whole) this.#context.note('dns_malformed', 1);
    if (message.questions.length > 1) this.#context.note('dns_many_questions', 1);
    const heard = { message, bytes: whole, sent, client };
    if (message.response) this.#answered(view, head, heard);
    else this.#asked(view, head, heard);
  }

  #asked(view: DnsRecordView, head: Buffer, heard: Heard): void {
    const { message, client, bytes } = heard;
    const key = this.#key(head, message.id, client);
    const [question] = message.questions;
    const text = questionText(question);
    const crowded = this.#pending.add({
      key,
      question: text,
      time_ns: view.time_ns,
      peer: this.#peer(head),
      head: Buffer.from(head),
      client,
      domain: question?.name ?? '',
      query_type: question === undefined ? '' : typeName(question.type),
      bytes,
      fault: message.fault,
      repeated: this.#pending.isWaiting(key, text),
      uncertain: false,
    });
    if (crowded !== undefined) this.#context.dropped('dns_queries', 'too_many_waiting', 1);
  }

  #answered(view: DnsRecordView, head: Buffer, heard: Heard): void {
    const { message, client } = heard;
    const to = {
      key: this.#key(head, message.id, client),
      question: questionText(message.questions[0]),
      peer: this.#peer(head),
      client,
    };
    const match = this.#pending.answer(to, view.time_ns);
    if (typeof match === 'object' && 'transfer' in match) {
      this.#goesOn(view, heard, match.transfer);
    } else if (match === 'answered') {
      this.#context.note('dns_answers_repeated', 1);
    } else if (match === 'unknown') {
      this.#unmatched(view, heard);
    } else if (match === 'timed_out') {
      this.#late(view, heard);
    } else if (view.time_ns - match.time_ns >= this.#context.options.dns.timeout * 1e6) {
      this.#timedOut(match, 1);
    } else {
      this.#matched(view, heard, match);
      if (client) this.#learn(view, match.domain, message);
    }
  }

  #matched(view: DnsRecordView, { message, bytes, client }: Heard, query: Query): void {
    const asked = this.#over(query.head);
    // What came in has the addresses as the socket knows them: NAT changes what goes out before it is seen.
    this.#decodeKey(client ? view : asked, client, query.domain, query.query_type, message.rcode);
    this.#decodeOwner(asked.owner_tgid === 0 ? view : asked);
    const m = this.#clear();
    const latency = Math.max(0, view.time_ns - query.time_ns);
    m[M.count] = 1;
    m[M.latency] = latency;
    m[M.latency_max] = latency;
    m[M.latency_samples] = 1;
    m[M.latency_distribution] = latency;
    m[M.truncated] = message.truncated ? 1 : 0;
    m[M.retransmits] = query.repeated ? 1 : 0;
    m[M.bytes_query] = query.bytes;
    m[M.bytes_answer] = bytes;
    this.#fold.add(this.#dims, m);
  }

  /** A further message of a zone's transfer: only its bytes count. Over UDP there is but one. */
  #goesOn(view: DnsRecordView, { message, bytes, client }: Heard, query: Query): void {
    if (view.transport !== IPPROTO_TCP) {
      this.#context.note('dns_answers_repeated', 1);
      return;
    }
    const asked = this.#over(query.head);
    this.#decodeKey(client ? view : asked, client, query.domain, query.query_type, message.rcode);
    this.#decodeOwner(asked.owner_tgid === 0 ? view : asked);
    this.#clear()[M.bytes_answer] = bytes;
    this.#fold.add(this.#dims, this.#measures);
  }

  #timedOut(query: Query, late: number): void {
    const asked = this.#over(query.head);
    this.#decodeKey(asked, query.client, query.domain, query.query_type, RCODE_TIMED_OUT);
    // A server's first query may come before its connection has an owner.
    const owned = asked.owner_tgid === 0 ? this.#owners.get(this.#cookie(query.head)) : undefined;
    this.#decodeOwner(owned === undefined ? asked : this.#over(owned));
    const m = this.#clear();
    m[M.count] = 1;
    m[M.retransmits] = query.repeated ? 1 : 0;
    m[M.late_answers] = late;
    m[M.bytes_query] = query.bytes;
    this.#fold.add(this.#dims, m);
  }

  /** The query is older than this decoder, or its record was lost: counted, its time unknown. */
  #unmatched(view: DnsRecordView, heard: Heard): void {
    this.#answerAlone(view, heard, heard.message.rcode);
    const m = this.#clear();
    m[M.count] = 1;
    m[M.unmatched] = 1;
    m[M.truncated] = heard.message.truncated ? 1 : 0;
    m[M.bytes_answer] = heard.bytes;
    this.#fold.add(this.#dims, m);
  }

  /** The query was counted as timed out: the answer is only noted beside. */
  #late(view: DnsRecordView, heard: Heard): void {
    this.#answerAlone(view, heard, RCODE_TIMED_OUT);
    const m = this.#clear();
    m[M.late_answers] = 1;
    this.#fold.add(this.#dims, m);
  }

  #answerAlone(view: DnsRecordView, { message, client }: Heard, rcode: number): void {
    const [question] = message.questions;
    const type = question === undefined ? '' : typeName(question.type);
    this.#decodeKey(view, client, question?.name ?? '', type, rcode);
    this.#decodeOwner(view);
  }

  /** Measures of a new row: nothing counted, nothing observed. */
  #clear(): Float64Array {
    const m = this.#measures.fill(0);
    m[M.latency] = Number.NaN;
    m[M.latency_max] = Number.NaN;
    m[M.latency_distribution] = Number.NaN;
    return m;
  }

  #decodeKey(
    view: DnsRecordView,
    client: boolean,
    domain: string,
    query_type: string,
    rcode: number,
  ): void {
    const dims = this.#dims;
    const words = this.#interned;
    const bytes = view === this.#view ? this.#bytes : this.#other_bytes;
    const { transport } = view;
    this.#ends.fill(dims, view, bytes, { serves: !client, transport, now_ms: this.#now_ms });
    dims[D.rcode] = rcode;
    dims[D.domain] = words.word(this.#limited(domain, query_type));
    dims[D.query_type] = words.word(query_type);
  }

  /** Names are anybody's to make up: those beyond the interval's limit are one. */
  #limited(domain: string, query_type: string): string {
    const key = `${query_type} ${domain}`;
    if (this.#domains.has(key)) return domain;
    if (this.#domains.size >= this.#context.options.dns.domains_max) {
      this.#context.note('dns_domain_other', 1);
      return OTHER;
    }
    this.#domains.add(key);
    return domain;
  }

  #decodeOwner(view: DnsRecordView): void {
    const dims = this.#dims;
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    const words = this.#interned.owner(owner);
    const { owner_cgroup_id } = view; // beyond 2^53 it is garbage: no kernel counts that far
    dims[D.pid] = view.owner_tgid;
    dims[D.cgroup_id] = Number.isSafeInteger(owner_cgroup_id) ? owner_cgroup_id : 0;
    dims[D.process_name] = words.process_name;
    dims[D.cgroup_path] = words.cgroup_path;
    dims[D.container_id] = words.container_id;
  }

  #keepOwner(cookie: string, head: Buffer): void {
    this.#owners.delete(cookie);
    if (this.#owners.size >= OWNERS_MAX) {
      for (const oldest of this.#owners.keys()) {
        this.#owners.delete(oldest);
        break;
      }
    }
    this.#owners.set(cookie, Buffer.from(head));
  }

  /** Addresses that the name asked for leads to, over its aliases. */
  #learn(view: DnsRecordView, asked: string, { answers, rcode }: Message): void {
    if (asked === '' || asked === '.' || rcode !== 0) return;
    const heard = { now_ms: this.#now_ms, time_ns: view.time_ns };
    const ttls = new Map([[asked, Number.POSITIVE_INFINITY]]);
    for (let pass = 0; pass < ALIASES_MAX; pass += 1) {
      const before = ttls.size;
      for (const { name, type, ttl, value } of answers) {
        const so_far = type === TYPE_CNAME ? ttls.get(name) : undefined;
        if (so_far !== undefined && !ttls.has(value)) ttls.set(value, Math.min(so_far, ttl));
      }
      if (ttls.size === before) break;
    }
    for (const { name, type, ttl, value } of answers) {
      const so_far = type === TYPE_CNAME ? undefined : ttls.get(name);
      if (so_far === undefined) continue;
      this.#context.domains.note(view.netns, value, asked, Math.min(so_far, ttl), heard);
    }
  }

  #over(head: Buffer): DnsRecordView {
    this.#other_bytes = head;
    this.#other.over(head);
    return this.#other.move(0);
  }

  #key(head: Buffer, id: number, client: boolean): string {
    // One socket of a server has many clients; a client's is its own.
    return `${this.#cookie(head)} ${client ? '' : this.#peer(head)} ${id}`;
  }

  #cookie(head: Buffer): string {
    return head.toString('latin1', dns_record.cookie, dns_record.cookie + 8);
  }

  #peer(head: Buffer): string {
    const address = head.toString('latin1', dns_record.peer_addr, dns_record.peer_addr + 16);
    return `${address}${head.readUInt16LE(dns_record.peer_port)}`;
  }
}

/** What must be alike in a query and its answer; '': no question. mDNS has a wish of its own in the class's upper bit. */
function questionText(question: Question | undefined): string {
  if (question === undefined) return '';
  return `${question.name} ${question.type} ${question.class & 0x7fff}`;
}

/** CLOCK_MONOTONIC; a double holds it to the nanosecond for 104 days of uptime, and to two after. */
function monotonicNs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e9 + nanoseconds;
}
