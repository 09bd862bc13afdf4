// Connections that the host translates for others: what a container or a pod asks of a service address, and the host's own
// network namespace leads elsewhere. No packet that a socket sends or gets shows it; the kernel's connection tracking does,
// over netlink. Only connections with destination NAT are asked for, by a filter in the kernel.

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { BpfError } from '../bpf/error.ts';
import { type NetlinkOptions, NetlinkSocket } from '../bpf/netlink.ts';
import type { Ledger } from '../table/ledger.ts';
import {
  CONNTRACK_GROUPS,
  conntrackDump,
  NETLINK_NETFILTER,
  readConntrack,
  type Translation,
  translatedOnly,
} from './conntrack_message.ts';
import type { NatTable } from './nat_table.ts';

/** There once the kernel tracks connections, without which it translates none; to ask it before would load its modules. */
const CONNTRACK = '/proc/sys/net/netfilter/nf_conntrack_max';
const ROOM_BYTES = 1 << 20;
const DATAGRAM_BYTES = 1 << 16;
/** Datagrams of one look; the rest waits for the next. */
const DATAGRAMS_MAX = 4096;
const TICK_MS = 10_000;

export const OWN_NETNS = '';

export interface ConntrackOptions {
  /** Network namespaces to listen in, as paths; OWN_NETNS: the one that we are in. */
  readonly netns: readonly string[];
  readonly ledger: Ledger;
  readonly table: NatTable;
  /** Called once for each that cannot be listened in. */
  readonly refused: (netns: string, reason: string) => void;
}

export class Conntrack {
  readonly #options: ConntrackOptions;
  readonly #sockets = new Map<string, NetlinkSocket>();
  readonly #refused = new Set<string>();
  readonly #datagram = Buffer.alloc(DATAGRAM_BYTES);
  #tick_ms = Number.NEGATIVE_INFINITY;

  constructor(options: ConntrackOptions) {
    this.#options = options;
  }

  /** Takes what the kernel has told until now: before the records of the ring that may need it. */
  read(now_ms: number): void {
    if (Math.abs(now_ms - this.#tick_ms) >= TICK_MS) this.#tick(now_ms);
    for (const [netns, socket] of this.#sockets) {
      this.#attempt(netns, () => {
        if (this.#take(socket, DATAGRAMS_MAX) === 'whole') return;
        this.#dropped('netlink_overrun');
        this.#dump(netns); // those of them that go on
      });
    }
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }

  #tick(now_ms: number): void {
    this.#tick_ms = now_ms;
    if (existsSync(CONNTRACK)) for (const netns of this.#options.netns) this.#listen(netns);
  }

  #listen(netns: string): void {
    if (this.#sockets.has(netns) || this.#refused.has(netns)) return;
    this.#attempt(netns, () => {
      const groups = { groups: CONNTRACK_GROUPS, filter: translatedOnly() };
      this.#sockets.set(netns, new NetlinkSocket({ ...where(netns), ...groups }));
      this.#dump(netns);
    });
  }

  /** A namespace that cannot be listened in, or no longer can since it is gone, is left alone from then on. */
  #attempt(netns: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      this.#sockets.get(netns)?.close();
      this.#sockets.delete(netns);
      this.#refused.add(netns);
      this.#options.refused(netns, error.message);
    }
  }

  #dropped(reason: string): void {
    const { ledger } = this.#options;
    ledger.seen('decode', 'conntrack', 1);
    ledger.dropped('decode', 'conntrack', reason, 1);
  }

  /** What is there already. */
  #dump(netns: string): void {
    using socket = new NetlinkSocket(where(netns));
    socket.send(conntrackDump());
    this.#take(socket, Number.POSITIVE_INFINITY);
  }

  #take(socket: NetlinkSocket, datagrams_max: number): 'whole' | 'lost' {
    let outcome: 'whole' | 'lost' = 'whole';
    for (let i = 0; i < datagrams_max; i += 1) {
      const bytes = socket.receive(this.#datagram);
      if (bytes === 0) break;
      if (bytes < 0) {
        outcome = 'lost';
        continue;
      }
      const datagram = this.#datagram.subarray(0, bytes);
      if (readConntrack(datagram, (one) => this.#note(one)) === 'done') break;
    }
    return outcome;
  }

  #note({ ended, transport, ends, nat }: Translation): void {
    const { table } = this.#options;
    if (ended) table.endTracked(transport, ends);
    else table.learnTracked(transport, ends, nat);
  }
}

/**
 * The host's network namespace: the one of the process 1 below `proc`. Who may not look at that process, or is in its
 * namespace anyhow, listens in his own.
 */
export function hostNetns(proc: string): string {
  const path = join(proc, '1/ns/net');
  try {
    return statSync(path).ino === statSync('/proc/self/ns/net').ino ? OWN_NETNS : path;
  } catch {
    return OWN_NETNS;
  }
}

function where(netns: string): NetlinkOptions {
  const options = { protocol: NETLINK_NETFILTER, room_bytes: ROOM_BYTES };
  return netns === OWN_NETNS ? options : { ...options, netns };
}
