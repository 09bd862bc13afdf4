// Requests → rows.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import { ipv4Text, ipv6Text } from '../address.ts';
import { Routes } from '../http/route.ts';
import { Http2RecordView } from '../layout.gen.ts';
import { grpcName, type Http2Exchange } from './connection.ts';
import type { Http2Peer } from './decode.ts';
import { requests } from './table.ts';

const AF_INET6 = 10;
const UNKNOWN = 'unknown';
const D: Readonly<Record<string, number>> = Object.fromEntries(
  requests.dimensions.map(({ name }, i) => [name, i]),
);

export class Http2Rows {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #view = new Http2RecordView(new Uint8Array(0));
  readonly #routes = new Routes();
  readonly #dims = new Float64Array(requests.dimensions.length);
  readonly #measures = new Float64Array(requests.measures.length);

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(requests);
  }

  add(peer: Http2Peer, one: Http2Exchange): void {
    if (one.pushed) return; // nobody asked for it; counted in `pushed`
    const view = this.#view.over(peer.ends);
    const { ephemeral_port } = this.#context.options;
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    const { serves } = peer;
    const set = (name: string, value: number): void => {
      this.#dims[D[name]!] = value;
    };
    const word = (name: string, text: string): void => set(name, this.#fold.intern(text));
    word('direction', serves ? 'incoming' : 'outgoing');
    word('family', view.family === AF_INET6 ? 'IPv6' : 'IPv4');
    word('src_ip', this.#address(peer, view, view.local_addr_offset));
    word('dst_ip', this.#address(peer, view, view.peer_addr_offset));
    set('src_port', !serves && view.local_port >= ephemeral_port ? 0 : view.local_port);
    set('dst_port', serves && view.peer_port >= ephemeral_port ? 0 : view.peer_port);
    set('pid', view.owner_tgid);
    word('process_name', owner.process_name);
    word('method', one.method ?? UNKNOWN);
    word('path', this.#route(one, owner.process_name));
    set('status_code', one.status ?? 0);
    word('http_version', '2');
    const { service, method } = one.grpc ? grpcName(one.path) : { service: '', method: '' };
    word('rpc_system', one.grpc ? 'grpc' : '');
    word('rpc_service', service);
    word('rpc_method', method);
    word('rpc_grpc_status_code', one.grpc_status === undefined ? '' : `${one.grpc_status}`);
    this.#measures[0] = 1;
    this.#measures[1] = one.request_bytes;
    this.#measures[2] = one.response_bytes;
    this.#fold.add(this.#dims, this.#measures);
  }

  #route(one: Http2Exchange, service: string): string {
    if (one.path === undefined) return UNKNOWN;
    return this.#routes.of(service, one.path);
  }

  #address(peer: Http2Peer, view: Http2RecordView, at: number): string {
    return view.family === AF_INET6 ? ipv6Text(peer.ends, at) : ipv4Text(peer.ends, at);
  }
}
