// Decodes the records of the `http` source (record.bpf.h) into rows of `httpflow`. A record is a run of like requests: its
// dimensions are found once, its requests are added one by one.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext, Owner, RecordDecoder, RecordSource } from '../../src/table/probe.ts';
import { httpflow } from '../httpflow.ts';
import { type Address, AF_INET, AF_INET6, fillOwner, Interned, positions } from '../interned.ts';
import {
  flow_role,
  HttpRecordView,
  HttpRestRecordView,
  http_flag,
  http_record,
  http_rest_record,
  record_kind,
} from '../layout.gen.ts';
import { parseRequestLine } from './line.ts';
import { Routes, type ServiceRoutes } from './route.ts';

const FAMILIES: ReadonlyMap<number, string> = new Map([
  [AF_INET, 'IPv4'],
  [AF_INET6, 'IPv6'],
]);
const OTHER = '<other>';
const ENTRY_BYTES = 16;
const ENTRIES_MAX = http_record.entry_length;
const HEAD_BYTES = http_record.entry;
/** `ttfb` of entries without one (record.bpf.h). */
const NO_MESSAGE = 0xffffffff;
const NO_RESPONSE = 0xfffffffe;
const COARSE = 0x80000000;
const LINES_MAX = 4096;
const SERVICES_MAX = 1000;
/** Methods beyond those of the standards: what a hostile client may make up is bounded. */
const METHODS_MAX = 64;

const D = positions(httpflow.dimensions);
const M = positions(httpflow.measures);

export const httpRecords: RecordSource = {
  kind: record_kind.RECORD_HTTP,
  open: (context) => new HttpDecoder(context),
};

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

export class HttpDecoder implements RecordDecoder {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #interned: Interned;
  readonly #view = new HttpRecordView(new Uint8Array(0));
  readonly #rest = new HttpRestRecordView(new Uint8Array(0));
  readonly #routes = new Routes({ services_max: SERVICES_MAX });
  readonly #services = new Map<string, Service>();
  readonly #methods = new Set<string>();
  readonly #dims = new Float64Array(httpflow.dimensions.length);
  readonly #measures = new Float64Array(httpflow.measures.length);
  #bytes: Buffer = Buffer.alloc(0);

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(httpflow);
    this.#interned = new Interned(this.#fold);
  }

  over(bytes: Uint8Array): void {
    this.#view.over(bytes);
    this.#rest.over(bytes);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(at: number, length: number, now_ms: number): boolean {
    if (length < http_rest_record.SIZE) return false;
    if (this.#interned.renew()) this.#services.clear();
    if ((this.#rest.move(at).head_flags & http_flag.HTTP_OVERFLOW) !== 0) return this.#decodeRest();
    if (length < HEAD_BYTES + ENTRY_BYTES) return false;
    const view = this.#view.move(at);
    const room = Math.min(ENTRIES_MAX, Math.floor((length - HEAD_BYTES) / ENTRY_BYTES));
    if (view.entries > room || view.first >= view.entries) return false;
    this.#decodeKey(view, now_ms);
    this.#decodeEntries(view, at);
    return true;
  }

  #decodeKey(view: HttpRecordView, now_ms: number): void {
    const dims = this.#dims;
    const { ephemeral_port } = this.#context.options; // from here on, the client's is folded
    const serves = view.role === flow_role.ROLE_INCOMING;
    const peer = this.#address(view, view.peer_addr_offset);
    const local = this.#address(view, view.local_addr_offset);
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    dims[D.direction] = this.#word(serves ? 'incoming' : 'outgoing');
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
    this.#decodeOwner(view, owner);
    dims[D.netns] = view.netns;
    dims[D.status_code] = view.status;
    dims[D.tls] = (view.head_flags & http_flag.HTTP_TLS) === 0 ? 0 : 1;
    const service = serves
      ? `${owner.container_id} ${owner.process_name} ${view.local_port}`
      : `${peer.ip} ${view.peer_port}`;
    this.#decodeLine(view, service);
  }

  #decodeOwner(view: HttpRecordView, owner: Owner): void {
    const dims = this.#dims;
    const words = this.#interned.owner(owner);
    fillOwner(dims, D, view, words);
  }

  #decodeLine(view: HttpRecordView, service: string): void {
    const dims = this.#dims;
    const line = this.#line(view, service);
    dims[D.method] = line.method;
    dims[D.path] = line.path;
    dims[D.route] = line.route;
    dims[D.http_version] = line.version;
    dims[D.truncated] = line.truncated;
  }

  #line(view: HttpRecordView, service_name: string): Line {
    const mixed = (view.head_flags & http_flag.HTTP_MIXED) !== 0;
    const length = mixed ? 0 : Math.min(view.line_bytes, http_record.line_length);
    const at = view.line_offset;
    const text = this.#bytes.toString('latin1', at, at + length);
    const service = this.#service(service_name);
    const known = service.lines.get(text);
    if (known !== undefined) return known;
    const { method, path, version, truncated } = parseRequestLine(text);
    const route = length === 0 ? OTHER : service.routes.of(path);
    const shown = this.#context.options.http?.raw_path === true && length > 0 ? path : route;
    const fresh: Line = {
      method: this.#word(length === 0 ? OTHER : this.#method(method)),
      path: this.#fold.intern(shown),
      route: this.#fold.intern(route),
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

  #decodeEntries(view: HttpRecordView, at: number): void {
    const m = this.#measures;
    const bytes = this.#bytes;
    const serves = view.role === flow_role.ROLE_INCOMING;
    let from = at + HEAD_BYTES + view.first * ENTRY_BYTES;
    for (let i = view.first; i < view.entries; i += 1) {
      const ttfb = bytes.readUInt32LE(from);
      const request = bytes.readUInt32LE(from + 8);
      const response = bytes.readUInt32LE(from + 12);
      m[M.count] = ttfb === NO_MESSAGE ? 0 : 1;
      m[M.latency] = ttfb >= NO_RESPONSE ? Number.NaN : nanoseconds(ttfb);
      m[M.latency_max] = m[M.latency]!;
      m[M.duration] = nanoseconds(bytes.readUInt32LE(from + 4));
      m[M.bytes_read] = serves ? request : response;
      m[M.bytes_written] = serves ? response : request;
      this.#fold.add(this.#dims, m);
      from += ENTRY_BYTES;
    }
  }

  /** Totals without a key; the status is its class: 200 for all of 2xx. */
  #decodeRest(): boolean {
    const dims = this.#dims;
    const m = this.#measures;
    const rest = this.#rest;
    const serves = rest.role === flow_role.ROLE_INCOMING;
    const other = this.#word(OTHER);
    for (let i = 0; i < dims.length; i += 1) {
      dims[i] = httpflow.dimensions[i]!.type === 'string' ? other : 0;
    }
    dims[D.direction] = this.#word(serves ? 'incoming' : 'outgoing');
    dims[D.transport] = this.#word('tcp');
    dims[D.status_code] = rest.status_class * 100;
    m[M.count] = rest.rest_requests;
    m[M.bytes_read] = serves ? rest.rest_bytes_request : rest.rest_bytes_response;
    m[M.bytes_written] = serves ? rest.rest_bytes_response : rest.rest_bytes_request;
    m[M.latency] = Number.NaN;
    m[M.latency_max] = Number.NaN;
    m[M.duration] = rest.rest_duration_ns;
    const row = this.#fold.addRow(dims, m, 0);
    const answered = rest.rest_answered;
    if (row < 0 || answered === 0) return true;
    // Of these only the mean is known.
    const histogram = this.#fold.bucketsOf(row, M.latency, rest.rest_ttfb_ns);
    histogram.addValue(row, rest.rest_ttfb_ns / answered, answered);
    return true;
  }

  #address(view: HttpRecordView, at: number): Address {
    return this.#interned.address(this.#bytes, at, view.family);
  }

  #word(text: string): number {
    return this.#interned.word(text);
  }
}

/** A time as the kernel side packs it: nanoseconds, or with the highest bit units of 1024. */
function nanoseconds(time: number): number {
  return time < COARSE ? time : (time - COARSE) * 1024;
}
