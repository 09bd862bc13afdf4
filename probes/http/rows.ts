// Rows of `httpflow` from what the kernel side says of requests: its dimensions from the head of a record, which is also the
// key of totals (record.bpf.h). One for all decoders of a collector, so that a path has one route, however it comes.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { EndColumns } from '../end_columns.ts';
import { httpflow } from '../httpflow.ts';
import { Interned, IPPROTO_TCP, positions } from '../interned.ts';
import { flow_role, type HttpRecordView, http_flag, http_record } from '../layout.gen.ts';
import { requestLineOf } from './line.ts';
import { Routes, type ServiceRoutes } from './route.ts';

const OTHER = '<other>';
const LINES_MAX = 4096;
const SERVICES_MAX = 1000;
/** Methods beyond those of the standards: what a hostile client may make up is bounded. */
const METHODS_MAX = 64;

const D = positions(httpflow.dimensions);

const opened = new WeakMap<DecodeContext, HttpRows>();

/** The one of this collector. */
export function httpRows(context: DecodeContext): HttpRows {
  const known = opened.get(context);
  if (known !== undefined) return known;
  const rows = new HttpRows(context);
  opened.set(context, rows);
  return rows;
}

/** A request line in the columns: numbers of the fold's strings. */
interface Line {
  readonly method: number;
  readonly path: number;
  readonly route: number;
  readonly version: number;
  readonly truncated: number;
}

interface Service {
  readonly routes: ServiceRoutes;
  readonly lines: Map<string, Line>;
}

export class HttpRows {
  readonly fold: Fold;
  /** The dimensions of one row, which `key` and `other` fill. */
  readonly dims = new Float64Array(httpflow.dimensions.length);
  readonly #context: DecodeContext;
  readonly #interned: Interned;
  readonly #ends: EndColumns;
  readonly #routes = new Routes({ services_max: SERVICES_MAX });
  readonly #services = new Map<string, Service>();
  readonly #methods = new Set<string>();

  constructor(context: DecodeContext) {
    this.#context = context;
    this.fold = context.fold(httpflow);
    this.#interned = new Interned(this.fold);
    this.#ends = new EndColumns(context, this.#interned, D);
  }

  /** Before rows of another moment: what the fold's strings were called may have changed. */
  renew(): void {
    if (this.#interned.renew()) this.#services.clear();
  }

  /** The dimensions of what lies at `view` in `bytes`. */
  key(view: HttpRecordView, bytes: Buffer, now_ms: number): void {
    this.renew();
    const { dims } = this;
    const serves = view.role === flow_role.ROLE_INCOMING;
    const ends = { serves, transport: IPPROTO_TCP, now_ms };
    const peer_ip = this.#ends.fill(dims, view, bytes, ends);
    const owner = this.#ends.fillOwner(dims, view);
    dims[D.status_code] = view.status;
    dims[D.tls] = (view.head_flags & http_flag.HTTP_TLS) === 0 ? 0 : 1;
    const service = serves
      ? `${owner.container_id} ${owner.process_name} ${view.local_port}`
      : `${peer_ip} ${view.peer_port}`;
    this.#decodeLine(view, bytes, service);
  }

  #decodeLine(view: HttpRecordView, bytes: Buffer, service: string): void {
    const { dims } = this;
    const line = this.#line(view, bytes, service);
    dims[D.method] = line.method;
    dims[D.path] = line.path;
    dims[D.route] = line.route;
    dims[D.http_version] = line.version;
    dims[D.truncated] = line.truncated;
  }

  #line(view: HttpRecordView, bytes: Buffer, service_name: string): Line {
    const mixed = (view.head_flags & http_flag.HTTP_MIXED) !== 0;
    const length = mixed ? 0 : Math.min(view.line_bytes, http_record.line_length);
    const at = view.line_offset;
    const text = bytes.toString('latin1', at, at + length);
    const service = this.#service(service_name);
    const known = service.lines.get(text);
    if (known !== undefined) return known;
    const { method, path, version, truncated } = requestLineOf(bytes.subarray(at, at + length));
    const route = length === 0 ? OTHER : service.routes.of(path);
    const shown = this.#context.options.http?.raw_path === true && length > 0 ? path : route;
    const fresh: Line = {
      method: this.#word(length === 0 ? OTHER : this.#method(method)),
      path: this.fold.intern(shown),
      route: this.fold.intern(route),
      version: this.#word(version),
      truncated: truncated && length > 0 ? 1 : 0,
    };
    if (service.lines.size >= LINES_MAX) service.lines.clear();
    service.lines.set(text, fresh);
    return fresh;
  }

  #service(name: string): Service {
    const known = this.#services.get(name);
    if (known !== undefined) return known;
    if (this.#services.size >= SERVICES_MAX) this.#services.clear();
    const fresh = { routes: this.#routes.service(name), lines: new Map() };
    this.#services.set(name, fresh);
    return fresh;
  }

  #method(method: string): string {
    if (this.#methods.has(method)) return method;
    if (this.#methods.size >= METHODS_MAX) return OTHER;
    this.#methods.add(method);
    return method;
  }

  /** The dimensions of totals without a key; the status is its class: 200 for all of 2xx. */
  other(serves: boolean, status_class: number): void {
    this.renew();
    const { dims } = this;
    const other = this.#word(OTHER);
    for (let i = 0; i < dims.length; i += 1) {
      dims[i] = httpflow.dimensions[i]!.type === 'string' ? other : 0;
    }
    dims[D.direction] = this.#word(serves ? 'incoming' : 'outgoing');
    dims[D.transport] = this.#word('tcp');
    dims[D.status_code] = status_class * 100;
  }

  #word(text: string): number {
    return this.#interned.word(text);
  }
}
