// Where a connection really goes after a destination NAT that the packets of its own socket do not show.

/** Asked by who reports flows; the collector answers from what connection tracking says. */
export interface NatLookup {
  /** Connections that are known; 0: nothing need be asked. */
  readonly size: number;
  /**
   * Address (16 bytes, IPv4 in the first four) and port (little endian) of the peer after NAT. `ends` in `bytes` at `at`: local
   * and peer address, 16 bytes each, local and peer port, two bytes each, little endian. `last`: nobody will ask again.
   */
  find(transport: number, bytes: Buffer, at: number, last: boolean): Buffer | undefined;
}
