// A netlink socket: what the kernel tells of its tables without a program of ours.
import { type FdHandle, native } from './native.ts';

export interface NetlinkOptions {
  /** NETLINK_…, as linux/netlink.h numbers them. */
  readonly protocol: number;
  /** Bits of the multicast groups to listen to; 0: none. Absent: 0. */
  readonly groups?: number;
  /** Of messages that wait to be read, bytes. */
  readonly room_bytes: number;
  /** A classic BPF program, `struct sock_filter[]`: the kernel queues what it lets pass. */
  readonly filter?: Uint8Array;
  /** The network namespace, as a path like /proc/1/ns/net; absent: our own. */
  readonly netns?: string;
}

export class NetlinkSocket {
  readonly #handle: FdHandle;

  /** @throws {BpfError} with the errno's name: EPERM for want of CAP_NET_ADMIN, or of CAP_SYS_ADMIN to enter `netns`. */
  constructor({ protocol, groups = 0, room_bytes, filter, netns }: NetlinkOptions) {
    const program = filter ?? new Uint8Array(0);
    this.#handle = native().netlinkOpen(netns ?? null, protocol, groups, room_bytes, program);
  }

  send(message: Uint8Array): void {
    native().netlinkSend(this.#handle, message);
  }

  /** Bytes of the next datagram, which is in `into` now; 0: none waits; −1: some found no room since the last call. */
  receive(into: Uint8Array): number {
    return native().netlinkReceive(this.#handle, into);
  }

  close(): void {
    native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
