// Requests of HTTP/2 → rows of `httpflow`. What belongs to a connection is found once an interval.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { Routes, type ServiceRoutes } from '../http/route.ts';
import { httpflow } from '../httpflow.ts';
import { FAMILIES, fillOwner, Interned, IPPROTO_TCP, positions } from '../interned.ts';
import { Http2RecordView, http2_flag } from '../layout.gen.ts';
import { NatColumns } from '../nat/columns.ts';
import { grpcName, type Http2Exchange } from './connection.ts';

const UNKNOWN = 'unknown';
const OTHER = '<other>';
/** Methods, services and methods of gRPC: what a hostile client may make up is bounded. */
const METHODS_MAX = 64;
const RPC_MAX = 4096;

const D = positions(httpflow.dimensions);
const M = positions(httpflow.measures);

/** Whose requests they are: the record that tells addresses and owner, and the dimensions made of it. */
export interface Http2Ends {
  readonly record: Buffer;
  /** This end is the server; undefined: not known yet. */
  serves: boolean | undefined;
  /** Made of the record as it was, in this epoch of the fold. */
  dims: Float64Array | undefined;
  epoch: number;
  routes: ServiceRoutes | undefined;
}

export class Http2Rows {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #interned: Interned;
  readonly #nat: NatColumns;
  readonly #view = new Http2RecordView(new Uint8Array(0));
  readonly #routes = new Routes();
  readonly #methods = new Set<string>();
  readonly #rpc = new Set<string>();
  readonly #measures = new Float64Array(httpflow.measures.length);

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(httpflow);
    this.#interned = new Interned(this.#fold);
    this.#nat = new NatColumns(context, this.#interned, D);
  }

  /** A pushed response is no request: nobody sent one. */
  add(ends: Http2Ends, one: Http2Exchange, now_ms: number): void {
    if (one.pushed) return;
    this.#interned.renew();
    if (ends.dims === undefined || ends.epoch !== this.#fold.epoch) this.#setEnds(ends, now_ms);
    const dims = ends.dims!; // set right above
    this.#setRequest(dims, ends.routes!, one);
    if (one.status === undefined) this.#context.note('http2_status_unknown', 1);
    if (one.path === undefined) this.#context.note('http2_path_unknown', 1);
    const m = this.#measures;
    const serves = ends.serves === true;
    const answered = one.start_ns > 0 && one.first_byte_ns > 0;
    m[M.count] = 1;
    m[M.bytes_read] = serves ? one.request_bytes : one.response_bytes;
    m[M.bytes_written] = serves ? one.response_bytes : one.request_bytes;
    m[M.latency] = answered ? one.first_byte_ns - one.start_ns : Number.NaN;
    m[M.latency_max] = m[M.latency]!;
    m[M.duration] = one.start_ns > 0 ? Math.max(0, one.end_ns - one.start_ns) : 0;
    this.#fold.add(dims, m);
  }

  #setEnds(ends: Http2Ends, now_ms: number): void {
    const view = this.#view.over(ends.record);
    const { ephemeral_port } = this.#context.options; // from here on, the client's is folded
    const serves = ends.serves === true;
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    const words = this.#interned.owner(owner);
    const local = this.#interned.address(ends.record, view.local_addr_offset, view.family);
    const peer = this.#interned.address(ends.record, view.peer_addr_offset, view.family);
    const dims = new Float64Array(httpflow.dimensions.length);
    dims[D.direction] = this.#word(
      ends.serves === undefined ? 'unknown' : serves ? 'incoming' : 'outgoing',
    );
    dims[D.transport] = this.#word('tcp');
    dims[D.family] = this.#word(FAMILIES.get(view.family) ?? '');
    dims[D.src_ip] = local.text;
    dims[D.src_ip_type] = local.type;
    dims[D.src_port] = !serves && view.local_port >= ephemeral_port ? 0 : view.local_port;
    dims[D.dst_ip] = peer.text;
    dims[D.dst_ip_type] = peer.type;
    dims[D.dst_port] = serves && view.peer_port >= ephemeral_port ? 0 : view.peer_port;
    const domain = serves ? '' : this.#context.domains.find(view.netns, peer.ip, now_ms);
    dims[D.dst_domain] = this.#word(domain);
    if (ends.serves === false) this.#nat.fill(dims, IPPROTO_TCP, view, ends.record, false);
    fillOwner(dims, D, view, words);
    dims[D.netns] = view.netns;
    dims[D.http_version] = this.#word('2');
    dims[D.tls] = (view.head_flags & http2_flag.HTTP2_TLS) === 0 ? 0 : 1;
    ends.dims = dims;
    ends.epoch = this.#fold.epoch;
    ends.routes = this.#routes.service(
      serves
        ? `${owner.container_id} ${owner.process_name} ${view.local_port}`
        : `${peer.ip} ${view.peer_port}`,
    );
  }

  #setRequest(dims: Float64Array, routes: ServiceRoutes, one: Http2Exchange): void {
    const { path } = one;
    const route = path === undefined ? UNKNOWN : routes.of(path);
    const raw = path !== undefined && this.#context.options.http?.raw_path === true;
    const { service, method } = one.grpc ? grpcName(path) : NO_NAME;
    dims[D.method] = this.#word(this.#method(one.method));
    dims[D.path] = this.#word(raw ? withoutQuery(path) : route);
    dims[D.route] = this.#word(route);
    dims[D.truncated] = one.path_cut ? 1 : 0;
    dims[D.status_code] = one.status ?? 0;
    dims[D.rpc_system] = this.#word(one.grpc ? 'grpc' : '');
    dims[D.rpc_service] = this.#word(this.#bounded(service));
    dims[D.rpc_method] = this.#word(this.#bounded(method));
    dims[D.rpc_grpc_status_code] = this.#word(
      one.grpc_status === undefined ? '' : `${one.grpc_status}`,
    );
  }

  #method(method: string | undefined): string {
    if (method === undefined) return UNKNOWN;
    if (this.#methods.has(method)) return method;
    if (this.#methods.size >= METHODS_MAX) return OTHER;
    this.#methods.add(method);
    return method;
  }

  #bounded(name: string): string {
    if (name === '' || this.#rpc.has(name)) return name;
    if (this.#rpc.size >= RPC_MAX) return OTHER;
    this.#rpc.add(name);
    return name;
  }

  #word(text: string): number {
    return this.#interned.word(text);
  }
}

const NO_NAME = { service: '', method: '' };

function withoutQuery(path: string): string {
  const end = path.search(/[?#]/);
  return end < 0 ? path : path.slice(0, end);
}
