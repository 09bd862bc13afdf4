// The columns that say who is at which end of a request, and whose it is, of every table of requests.

import type { DecodeContext, Owner } from '../src/table/probe.ts';
import { FAMILIES, fillOwner, type Interned, IPPROTO_TCP } from './interned.ts';
import { NatColumns } from './nat/columns.ts';

/** Ends of a socket, in the bytes of a record. */
export interface EndsView {
  readonly family: number;
  readonly netns: number;
  readonly local_port: number;
  readonly peer_port: number;
  readonly local_addr_offset: number;
  readonly peer_addr_offset: number;
}

/** Whose it is. */
export interface OwnedView {
  readonly owner_tgid: number;
  readonly owner_start_ns: number;
  readonly owner_uid: number;
  readonly owner_cgroup_id: number;
}

/** Of a connection: the name that its peer had when it began, once that was asked for. */
export interface Named {
  /** CLOCK_MONOTONIC. */
  readonly begin_ns: number;
  domain: string | undefined;
}

interface Filling {
  /** Undefined: not known which end asks. */
  readonly serves?: boolean;
  readonly transport: number;
  readonly now_ms: number;
  /** Undefined: it is not known when the connection began. */
  readonly named?: Named;
}

export class EndColumns {
  readonly #context: DecodeContext;
  readonly #interned: Interned;
  readonly #at: Readonly<Record<string, number>>;
  readonly #nat: NatColumns | undefined;

  /** `at`: of `positions`, which has `dst_nat_ip` where the table has it. */
  constructor(context: DecodeContext, interned: Interned, at: Readonly<Record<string, number>>) {
    this.#context = context;
    this.#interned = interned;
    this.#at = at;
    this.#nat = at.dst_nat_ip === undefined ? undefined : new NatColumns(context, interned, at);
  }

  /** All but the owner. Returns the text of the peer's address. */
  fill(
    dims: Float64Array,
    view: EndsView,
    bytes: Buffer,
    { serves, transport, now_ms, named }: Filling,
  ): string {
    const at = this.#at;
    const words = this.#interned;
    const { ephemeral_port } = this.#context.options; // from here on, the client's is folded
    const local = words.address(bytes, view.local_addr_offset, view.family);
    const peer = words.address(bytes, view.peer_addr_offset, view.family);
    dims[at.direction!] = words.word(
      serves === undefined ? 'unknown' : serves ? 'incoming' : 'outgoing',
    );
    dims[at.transport!] = words.word(transport === IPPROTO_TCP ? 'tcp' : 'udp');
    dims[at.family!] = words.word(FAMILIES.get(view.family) ?? '');
    dims[at.src_ip!] = local.text;
    dims[at.src_ip_type!] = local.type;
    dims[at.src_port!] = !serves && view.local_port >= ephemeral_port ? 0 : view.local_port;
    dims[at.dst_ip!] = peer.text;
    dims[at.dst_ip_type!] = peer.type;
    dims[at.dst_port!] = serves && view.peer_port >= ephemeral_port ? 0 : view.peer_port;
    dims[at.netns!] = view.netns;
    dims[at.dst_domain!] = words.word(
      serves ? '' : this.#domain(view.netns, peer.ip, now_ms, named),
    );
    if (serves === false) this.#nat?.fill(dims, transport, view, bytes, false);
    else this.#nat?.clear(dims);
    return peer.ip;
  }

  #domain(netns: number, ip: string, now_ms: number, named: Named | undefined): string {
    const { domains } = this.#context;
    if (named === undefined) return domains.find(netns, ip, now_ms);
    named.domain ??= domains.find(netns, ip, now_ms, named.begin_ns);
    return named.domain;
  }

  /** Of tables with `socketOwnerColumns`. */
  fillOwner(dims: Float64Array, view: OwnedView): Owner {
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    fillOwner(dims, this.#at, view, this.#interned.owner(owner));
    return owner;
  }
}
