// Requests of HTTP/2 → rows of `httpflow`. What belongs to a connection is found once an interval.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { EndColumns } from '../end_columns.ts';
import { Routes, type ServiceRoutes } from '../http/route.ts';
import { httpflow } from '../httpflow.ts';
import { Interned, IPPROTO_TCP, positions } from '../interned.ts';
import { Http2RecordView, http2_flag } from '../layout.gen.ts';
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
  readonly #ends: EndColumns;
  readonly #view = new Http2RecordView(new Uint8Array(0));
  readonly #routes = new Routes();
  readonly #methods = new Set<string>();
  readonly #rpc = new Set<string>();
  readonly #measures = new Float64Array(httpflow.measures.length);

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(httpflow);
    this.#interned = new Interned(this.#fold);
    this.#ends = new EndColumns(context, this.#interned, D);
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
    const { serves } = ends;
    const dims = new Float64Array(httpflow.dimensions.length);
    const peer_ip = this.#ends.fill(dims, view, ends.record, {
      ...(serves === undefined ? {} : { serves }),
      transport: IPPROTO_TCP,
      now_ms,
    });
    const owner = this.#ends.fillOwner(dims, view);
    dims[D.http_version] = this.#word('2');
    dims[D.tls] = (view.head_flags & http2_flag.HTTP2_TLS) === 0 ? 0 : 1;
    ends.dims = dims;
    ends.epoch = this.#fold.epoch;
    ends.routes = this.#routes.service(
      serves
        ? `${owner.container_id} ${owner.process_name} ${view.local_port}`
        : `${peer_ip} ${view.peer_port}`,
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
