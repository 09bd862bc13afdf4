// The columns `dst_nat_ip` and `dst_nat_port` of a row of an outgoing flow.

import { NAT_PORT } from '../../src/table/nat.ts';
import type { DecodeContext } from '../../src/table/probe.ts';
import type { Interned } from '../interned.ts';

/** Ends of a flow in the bytes of a record. */
export interface FlowEnds {
  readonly family: number;
  readonly netns: number;
  /** Of the local address, which the peer's and both ports follow (NatLookup). */
  readonly local_addr_offset: number;
}

export class NatColumns {
  readonly #context: DecodeContext;
  readonly #interned: Interned;
  readonly #ip: number;
  readonly #port: number;

  /** `at`: of `positions`. */
  constructor(context: DecodeContext, interned: Interned, at: Readonly<Record<string, number>>) {
    this.#context = context;
    this.#interned = interned;
    this.#ip = at.dst_nat_ip!;
    this.#port = at.dst_nat_port!;
  }

  clear(dims: Float64Array): void {
    dims[this.#ip] = 0;
    dims[this.#port] = 0;
  }

  /** Where NAT leads this outgoing flow; `last`: it has ended. */
  fill(dims: Float64Array, transport: number, ends: FlowEnds, bytes: Buffer, last: boolean): void {
    this.clear(dims);
    const { nat } = this.#context;
    if (nat === undefined || nat.size === 0) return;
    const peer = nat.find(transport, ends.netns, bytes, ends.local_addr_offset, last);
    if (peer === undefined) return;
    dims[this.#ip] = this.#interned.address(peer, 0, ends.family).text;
    dims[this.#port] = peer.readUInt16LE(NAT_PORT);
  }
}
