// Where connections go after NAT, from whoever knows: connection tracking over netlink, and the NAT probe.

import type { Ledger } from '../table/ledger.ts';
import { ENDS_BYTES, type NatLookup } from '../table/nat.ts';

const CONNECTIONS_MAX = 65_536;
/** A flow is reported some time after it ended, at the latest with the interval's sweep; its requests, with the next one. */
const LAG_MS = 90_000;
const TICK_MS = 10_000;
/** Connection tracking does not say whose namespace the socket is in. */
const ANY_NETNS = 0;
const PEER_ADDRESS = 16;
/** Key of the kernel's map `nat_services`: an address, a port, padding. */
const SERVICE_BYTES = 24;
const SERVICES_MAX = 512;

export interface NatTableOptions {
  readonly ledger: Ledger;
  /** A destination that is led elsewhere, as the kernel side keeps it: for each that was not told lately. */
  readonly service: (key: Uint8Array) => void;
}

export class NatTable implements NatLookup {
  readonly #options: NatTableOptions;
  /** By transport, namespace and ends. The oldest come first. */
  readonly #known = new Map<string, Buffer>();
  /** Those of them that have ended, with the time. */
  readonly #ended = new Map<string, number>();
  readonly #services = new Set<string>();
  #now_ms = 0;
  #tick_ms = Number.NEGATIVE_INFINITY;

  constructor(options: NatTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#known.size;
  }

  find(
    transport: number,
    netns: number,
    bytes: Buffer,
    at: number,
    last: boolean,
  ): Buffer | undefined {
    const ends = bytes.toString('latin1', at, at + ENDS_BYTES);
    for (const where of [netns, ANY_NETNS]) {
      const key = keyOf(transport, where, ends);
      const nat = this.#known.get(key);
      if (nat === undefined) continue;
      if (last) this.#ended.set(key, this.#now_ms);
      return nat;
    }
    return undefined;
  }

  learn(transport: number, netns: number, ends: Buffer, nat: Buffer): void {
    this.#learn(keyOf(transport, netns, ends.toString('latin1')), nat);
  }

  /** From connection tracking; the kernel side hears of the service. */
  learnTracked(transport: number, ends: Buffer, nat: Buffer): void {
    this.#learn(keyOf(transport, ANY_NETNS, ends.toString('latin1')), nat);
    const key = Buffer.alloc(SERVICE_BYTES);
    ends.copy(key, 0, PEER_ADDRESS, PEER_ADDRESS * 2);
    ends.copy(key, PEER_ADDRESS, ENDS_BYTES - 2, ENDS_BYTES);
    const service = key.toString('latin1');
    if (this.#services.has(service)) return;
    if (this.#services.size >= SERVICES_MAX) this.#services.clear();
    this.#services.add(service);
    this.#options.service(key);
  }

  /** Connection tracking has seen its end. */
  endTracked(transport: number, ends: Buffer): void {
    const key = keyOf(transport, ANY_NETNS, ends.toString('latin1'));
    if (this.#known.has(key)) this.#ended.set(key, this.#now_ms);
  }

  /** Before records are decoded: lets go of what ended some time ago. */
  turn(now_ms: number): void {
    this.#now_ms = now_ms;
    if (Math.abs(now_ms - this.#tick_ms) < TICK_MS) return;
    this.#tick_ms = now_ms;
    this.#services.clear(); // the kernel side may have let some go
    for (const [key, ended_ms] of this.#ended) {
      if (Math.abs(now_ms - ended_ms) > LAG_MS) this.#forget(key);
    }
  }

  #learn(key: string, nat: Buffer): void {
    this.#forget(key); // to the end, as the youngest
    this.#known.set(key, nat);
    if (this.#known.size <= CONNECTIONS_MAX) return;
    for (const ended of this.#ended.keys()) {
      this.#forget(ended);
      return;
    }
    for (const oldest of this.#known.keys()) {
      this.#forget(oldest);
      break;
    }
    const { ledger } = this.#options;
    ledger.seen('decode', 'conntrack', 1);
    ledger.dropped('decode', 'conntrack', 'table_full', 1);
  }

  #forget(key: string): void {
    this.#known.delete(key);
    this.#ended.delete(key);
  }
}

function keyOf(transport: number, netns: number, ends: string): string {
  return `${transport} ${netns} ${ends}`;
}
