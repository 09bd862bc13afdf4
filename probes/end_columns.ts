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

  /** All but the owner. `serves` undefined: not known which end asks. Returns the text of the peer's address. */
  fill(
    dims: Float64Array,
    view: EndsView,
    bytes: Buffer,
    { serves, transport, now_ms }: { serves?: boolean; transport: number; now_ms: number },
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
    const domain = serves ? '' : this.#context.domains.find(view.netns, peer.ip, now_ms);
    dims[at.dst_domain!] = words.word(domain);
    if (serves === false) this.#nat?.fill(dims, transport, view, bytes, false);
    else this.#nat?.clear(dims);
    return peer.ip;
  }

  /** Of tables with `socketOwnerColumns`. */
  fillOwner(dims: Float64Array, view: OwnedView): Owner {
    const owner = this.#context.owner(view.owner_tgid, view.owner_start_ns, view.owner_cgroup_id);
    fillOwner(dims, this.#at, view, this.#interned.owner(owner));
    return owner;
  }
}
