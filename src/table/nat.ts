// Where a connection really goes after a destination NAT that its own socket does not name.

/** Asked by who reports flows and requests; the collector answers from what connection tracking and the NAT probe say. */
export interface NatLookup {
  /** Connections that are known; 0: nothing need be asked. */
  readonly size: number;
  /**
   * Address (16 bytes, IPv4 in the first four) and port (little endian) of the peer after NAT. `ends` in `bytes` at `at`: local
   * and peer address, 16 bytes each, local and peer port, two bytes each, little endian. `last`: the connection has ended.
   */
  find(
    transport: number,
    netns: number,
    bytes: Buffer,
    at: number,
    last: boolean,
  ): Buffer | undefined;
  /** The kernel side has seen where a connection of this network namespace goes; `ends` and answer as in `find`. */
  learn(transport: number, netns: number, ends: Buffer, nat: Buffer): void;
}

/** Of `ends`: two addresses and two ports. */
export const ENDS_BYTES = 36;
/** Of an answer: an address and a port. */
export const NAT_BYTES = 18;
/** Where the port stands in an answer. */
export const NAT_PORT = 16;
