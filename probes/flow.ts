// Decodes flow records (bpf/flow.bpf.h) into rows of `netflow`. Keeps nothing between intervals but a cache of strings.

import { getSystemErrorMap } from 'node:util';
import { FlowDomains } from '../src/table/domains.ts';
import type { Fold } from '../src/table/fold.ts';
import { ENDS_BYTES } from '../src/table/nat.ts';
import type { DecodeContext, RecordDecoder, RecordSource } from '../src/table/probe.ts';
import {
  type Address,
  AF_INET,
  AF_INET6,
  FAMILIES,
  fillOwner,
  Interned,
  IPPROTO_TCP,
  positions,
} from './interned.ts';
import {
  FlowRecordView,
  flow_error,
  flow_flag,
  flow_record,
  flow_role,
  record_kind,
} from './layout.gen.ts';
import { NatColumns } from './nat/columns.ts';
import { netflow } from './netflow.ts';

const ERROR_MAX = 134;
/** Failed connects of which nobody but their callers knows why. */
const WITHOUT_ERRNO: ReadonlyMap<number, string> = new Map([
  [0, 'abandoned'],
  [flow_error.FLOW_NOT_SENT, 'not_sent'],
]);

const D = positions(netflow.dimensions);
const M = positions(netflow.measures);

/** What a TCP or UDP record is decoded by; both probes name it. */
export const flowRecords: RecordSource = {
  kind: record_kind.RECORD_FLOW,
  open: (context) => new FlowDecoder(context),
};

/** `decode` allocates only for an address, an owner or a word that the interval has not seen. */
export class FlowDecoder implements RecordDecoder {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #view = new FlowRecordView(new Uint8Array(0));
  #bytes: Buffer = Buffer.alloc(0);
  readonly #dims = new Float64Array(netflow.dimensions.length);
  readonly #measures = new Float64Array(netflow.measures.length);
  readonly #interned: Interned;
  readonly #nat: NatColumns;
  readonly #errors = new Map<number, number>();
  readonly #domains = new FlowDomains();

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(netflow);
    this.#interned = new Interned(this.#fold);
    this.#nat = new NatColumns(context, this.#interned, D);
  }

  /** The bytes that the following `decode` calls read from. */
  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Adds the record at this offset. */
  decode(at: number, length: number, now_ms: number): boolean {
    if (length < flow_record.SIZE) return false;
    if (this.#interned.renew()) this.#errors.clear();
    const view = this.#view.move(at);
    const flags = view.head_flags;
    if ((flags & flow_flag.FLOW_OVERFLOW) !== 0) this.#decodeOverflow(view);
    else this.#decodeKey(view, flags, now_ms);
    this.#decodeCounts(view, flags);
    this.#fold.add(this.#dims, this.#measures);
    return true;
  }

  #decodeKey(view: FlowRecordView, flags: number, now_ms: number): void {
    const dims = this.#dims;
    const role = view.role === flow_role.ROLE_UNKNOWN ? this.#guessRole(view) : view.role;
    const { ephemeral_port } = this.#context.options; // from here on, the opener's is folded
    const local_folds = role === flow_role.ROLE_OUTGOING && view.local_port >= ephemeral_port;
    const peer_folds = role === flow_role.ROLE_INCOMING && view.peer_port >= ephemeral_port;
    dims[D.direction] = this.#direction(role);
    dims[D.transport] = this.#word(view.transport === IPPROTO_TCP ? 'tcp' : 'udp');
    dims[D.family] = this.#word(FAMILIES.get(view.family) ?? '');
    dims[D.src_port] = local_folds ? 0 : view.local_port;
    dims[D.dst_port] = peer_folds ? 0 : view.peer_port;
    const peer = this.#address(view, view.peer_addr_offset);
    this.#decodeLocal(view);
    dims[D.dst_ip] = peer.text;
    dims[D.dst_ip_type] = peer.type;
    dims[D.netns] = view.netns;
    dims[D.error_type] = (flags & flow_flag.FLOW_FAILED) === 0 ? 0 : this.#error(view.error);
    this.#decodeOwner(view);
    const outgoing = role === flow_role.ROLE_OUTGOING;
    dims[D.dst_domain] = outgoing ? this.#word(this.#domain(view, flags, peer.ip, now_ms)) : 0;
    this.#decodeNat(view, flags, outgoing);
  }

  /** What the socket's own packets show; else what is known of it otherwise. */
  #decodeNat(view: FlowRecordView, flags: number, outgoing: boolean): void {
    const dims = this.#dims;
    if (!outgoing) {
      this.#nat.clear(dims);
      return;
    }
    const last = (flags & (flow_flag.FLOW_CLOSED | flow_flag.FLOW_FAILED)) !== 0;
    this.#nat.fill(dims, view.transport, view, this.#bytes, last);
    if ((flags & flow_flag.FLOW_NAT) === 0) return;
    dims[D.dst_nat_ip] = this.#address(view, view.nat_addr_offset).text;
    dims[D.dst_nat_port] = view.nat_port;
  }

  /** A connection has the name that its peer was looked up by when it began; a UDP flow, at its first datagram. */
  #domain(view: FlowRecordView, flags: number, ip: string, now_ms: number): string {
    const { domains } = this.#context;
    if (domains.size + this.#domains.size === 0) return '';
    const first = (flags & (flow_flag.FLOW_ESTABLISHED | flow_flag.FLOW_FAILED)) !== 0;
    const last = (flags & (flow_flag.FLOW_CLOSED | flow_flag.FLOW_FAILED)) !== 0;
    const { begin_ns } = view;
    if (first && last) return domains.find(view.netns, ip, now_ms, begin_ns);
    const at = view.local_addr_offset;
    const flow = `${view.netns} ${this.#bytes.toString('latin1', at, at + ENDS_BYTES)}`;
    let name = first ? undefined : this.#domains.get(flow);
    if (name === undefined && (first || view.transport !== IPPROTO_TCP)) {
      name = domains.find(view.netns, ip, now_ms, begin_ns);
      if (name !== '') this.#domains.set(flow, name);
    }
    if (last) this.#domains.delete(flow);
    return name ?? '';
  }

  #decodeOwner(view: FlowRecordView): void {
    const dims = this.#dims;
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    const words = this.#interned.owner(owner);
    fillOwner(dims, D, view, words);
  }

  #decodeCounts(view: FlowRecordView, flags: number): void {
    const m = this.#measures;
    const failed = (flags & flow_flag.FLOW_FAILED) !== 0;
    const older = (flags & flow_flag.FLOW_PREEXISTING) !== 0;
    m[M.bytes_read] = this.#count(view.bytes_read);
    m[M.bytes_written] = this.#count(view.bytes_written);
    m[M.packets_read] = this.#count(view.packets_read);
    m[M.packets_written] = this.#count(view.packets_written);
    m[M.retransmits] = this.#count(view.retransmits);
    m[M.rtt] = view.srtt_us > 0 ? view.srtt_us : Number.NaN;
    m[M.rtt_var] = view.srtt_us > 0 ? view.rttvar_us : Number.NaN;
    m[M.rtt_samples] = view.srtt_us > 0 ? 1 : 0;
    m[M.tcp_established] = view.connections_established;
    m[M.tcp_closed] = view.connections_closed;
    m[M.connect_failures] = view.connections_failed;
    m[M.connect_latency] = view.connect_ns > 0 ? view.connect_ns : Number.NaN;
    m[M.resets_sent] = !failed && (flags & flow_flag.FLOW_RESET_OUT) !== 0 ? 1 : 0;
    m[M.resets_received] = !failed && (flags & flow_flag.FLOW_RESET_IN) !== 0 ? 1 : 0;
    m[M.preexisting] = older ? 1 : 0;
    m[M.bytes_read_before_start] = older ? m[M.bytes_read]! : 0;
    m[M.bytes_written_before_start] = older ? m[M.bytes_written]! : 0;
  }

  /** Totals without a key: everything but direction and transport is `<other>`. */
  #decodeOverflow(view: FlowRecordView): void {
    const other = this.#word('<other>');
    for (let i = 0; i < this.#dims.length; i += 1) {
      this.#dims[i] = netflow.dimensions[i]!.type === 'string' ? other : 0;
    }
    this.#dims[D.direction] = this.#direction(view.role);
    this.#dims[D.transport] = this.#word(view.transport === IPPROTO_TCP ? 'tcp' : 'udp');
  }

  /** Connections whose begin nobody saw: the end with a port below the ephemeral ones serves. */
  #guessRole(view: FlowRecordView): number {
    const { ephemeral_port } = this.#context.options;
    const local_high = view.local_port >= ephemeral_port;
    const peer_high = view.peer_port >= ephemeral_port;
    if (local_high && !peer_high) return flow_role.ROLE_OUTGOING;
    if (peer_high && !local_high) return flow_role.ROLE_INCOMING;
    return flow_role.ROLE_UNKNOWN;
  }

  #direction(role: number): number {
    if (role === flow_role.ROLE_OUTGOING) return this.#word('outgoing');
    return this.#word(role === flow_role.ROLE_INCOMING ? 'incoming' : 'unknown');
  }

  #count(value: number): number {
    if (value >= 0) return value;
    // A socket was read while it moved (bpf: settle).
    this.#context.dropped('counts', 'negative_delta', 1);
    return 0;
  }

  /** A socket bound to the wildcard address reaches loopback peers from 127.0.0.1, or ::1. */
  #decodeLocal(view: FlowRecordView): void {
    const loopback = this.#isLoopback(view) && this.#isWildcard(view);
    const local = this.#address(view, view.local_addr_offset);
    const text = view.family === AF_INET6 ? '::1' : '127.0.0.1';
    this.#dims[D.src_ip] = loopback ? this.#word(text) : local.text;
    this.#dims[D.src_ip_type] = loopback ? this.#word('private') : local.type;
  }

  #isWildcard(view: FlowRecordView): boolean {
    const at = view.local_addr_offset;
    for (let i = 0; i < 16; i += 1) if (this.#bytes[at + i] !== 0) return false;
    return true;
  }

  #isLoopback(view: FlowRecordView): boolean {
    const at = view.peer_addr_offset;
    if (view.family === AF_INET) return this.#bytes[at] === 127;
    for (let i = 0; i < 15; i += 1) if (this.#bytes[at + i] !== 0) return false;
    return this.#bytes[at + 15] === 1;
  }

  #address(view: FlowRecordView, at: number): Address {
    return this.#interned.address(this.#bytes, at, view.family);
  }

  /** `ECONNREFUSED` …; a connect that its own program gave up has no error: `abandoned`. */
  #error(errno: number): number {
    const known = this.#errors.get(errno);
    if (known !== undefined) return known;
    const name = WITHOUT_ERRNO.get(errno) ?? getSystemErrorMap().get(-errno)?.[0];
    const id = this.#fold.intern(name ?? (errno < ERROR_MAX ? `errno ${errno}` : '<other>'));
    this.#errors.set(errno, id);
    return id;
  }

  #word(text: string): number {
    return this.#interned.word(text);
  }
}
