// Decodes flow records (bpf/flow.bpf.h) into rows of `netflow`. Keeps nothing between intervals but a cache of strings.

import { getSystemErrorMap } from 'node:util';
import type { Fold } from '../src/table/fold.ts';
import type { DecodeContext, Owner, RecordDecoder, RecordSource } from '../src/table/probe.ts';
import { ipv4Text, ipv4Type, ipv6Text, ipv6Type } from './address.ts';
import { FlowRecordView, flow_flag, flow_record, flow_role, record_kind } from './layout.gen.ts';
import { netflow } from './netflow.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO_TCP = 6;
/** None: the end of a connection whose socket was gone before anybody could look. */
const FAMILIES: ReadonlyMap<number, string> = new Map([
  [AF_INET, 'IPv4'],
  [AF_INET6, 'IPv6'],
]);
const ERROR_MAX = 134;
const ADDRESSES_MAX = 100_000;
const OWNERS_MAX = 4096;

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
  readonly #words = new Map<string, number>();
  readonly #errors = new Map<number, number>();
  readonly #addresses4 = new Map<number, { text: number; type: number }>();
  readonly #addresses6 = new Map<string, { text: number; type: number }>();
  readonly #owners = new Map<Owner, Float64Array>();
  #epoch = -1;

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(netflow);
  }

  /** The bytes that the following `decode` calls read from. */
  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Adds the record at this offset. */
  decode(at: number, length: number): boolean {
    if (length < flow_record.SIZE) return false;
    if (this.#fold.epoch !== this.#epoch) this.#forget();
    const view = this.#view.move(at);
    const flags = view.head_flags;
    if ((flags & flow_flag.FLOW_OVERFLOW) !== 0) this.#decodeOverflow(view);
    else this.#decodeKey(view, flags);
    this.#decodeCounts(view, flags);
    this.#fold.add(this.#dims, this.#measures);
    return true;
  }

  #decodeKey(view: FlowRecordView, flags: number): void {
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
  }

  #decodeOwner(view: FlowRecordView): void {
    const dims = this.#dims;
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    let ids = this.#owners.get(owner);
    if (ids === undefined && this.#owners.size >= OWNERS_MAX) this.#owners.clear();
    if (ids === undefined) {
      ids = Float64Array.of(
        this.#fold.intern(owner.process_name),
        this.#fold.intern(owner.process_executable_path),
        this.#fold.intern(owner.cgroup_path),
        this.#fold.intern(owner.container_id),
      );
      this.#owners.set(owner, ids);
    }
    dims[D.pid] = view.owner_tgid;
    dims[D.uid] = view.owner_uid;
    const { owner_cgroup_id } = view; // beyond 2^53 it is garbage: no kernel counts that far
    dims[D.cgroup_id] = Number.isSafeInteger(owner_cgroup_id) ? owner_cgroup_id : 0;
    dims[D.process_name] = ids[0]!;
    dims[D.process_executable_path] = ids[1]!;
    dims[D.cgroup_path] = ids[2]!;
    dims[D.container_id] = ids[3]!;
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

  #address(view: FlowRecordView, at: number): { text: number; type: number } {
    if (view.family !== AF_INET && view.family !== AF_INET6) return { text: 0, type: 0 };
    return view.family === AF_INET ? this.#address4(at) : this.#address6(at);
  }

  #address4(at: number): { text: number; type: number } {
    const bytes = this.#bytes;
    const key =
      ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
    const known = this.#addresses4.get(key);
    if (known !== undefined) return known;
    if (this.#addresses4.size >= ADDRESSES_MAX) this.#addresses4.clear();
    const fresh = {
      text: this.#fold.intern(ipv4Text(bytes, at)),
      type: this.#word(ipv4Type(bytes, at)),
    };
    this.#addresses4.set(key, fresh);
    return fresh;
  }

  #address6(at: number): { text: number; type: number } {
    const bytes = this.#bytes;
    const key = bytes.toString('latin1', at, at + 16);
    const known = this.#addresses6.get(key);
    if (known !== undefined) return known;
    if (this.#addresses6.size >= ADDRESSES_MAX) this.#addresses6.clear();
    const fresh = {
      text: this.#fold.intern(ipv6Text(bytes, at)),
      type: this.#word(ipv6Type(bytes, at)),
    };
    this.#addresses6.set(key, fresh);
    return fresh;
  }

  /** `ECONNREFUSED` …; a connect that its own program gave up has no error: `abandoned`. */
  #error(errno: number): number {
    const known = this.#errors.get(errno);
    if (known !== undefined) return known;
    const name = errno === 0 ? 'abandoned' : getSystemErrorMap().get(-errno)?.[0];
    const id = this.#fold.intern(name ?? (errno < ERROR_MAX ? `errno ${errno}` : '<other>'));
    this.#errors.set(errno, id);
    return id;
  }

  #word(text: string): number {
    const known = this.#words.get(text);
    if (known !== undefined) return known;
    const id = this.#fold.intern(text);
    this.#words.set(text, id);
    return id;
  }

  /** The fold has given its strings new numbers. */
  #forget(): void {
    this.#epoch = this.#fold.epoch;
    this.#words.clear();
    this.#errors.clear();
    this.#addresses4.clear();
    this.#addresses6.clear();
    this.#owners.clear();
  }
}

/** Column name → position. A wrong name is caught by the type. */
function positions<Name extends string>(
  columns: readonly { readonly name: string }[],
): Record<Name, number> {
  const places: Record<string, number> = {};
  columns.forEach((column, i) => {
    places[column.name] = i;
  });
  return places as Record<Name, number>; // every name stands in the definition: flow.test.ts
}
