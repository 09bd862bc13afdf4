// Addresses as the documents write them: text by RFC 5952, and one of three kinds.

export type AddressType = 'other' | 'private' | 'multicast';

/** Dotted text of an IPv4 address in four bytes. */
export function ipv4Text(bytes: Uint8Array, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

/** Text of an IPv6 address in sixteen bytes: lower case, the longest run of two or more zero groups as `::`. */
export function ipv6Text(bytes: Uint8Array, at: number): string {
  const groups = Array.from(
    { length: 8 },
    (_, i) => ((bytes[at + 2 * i] ?? 0) << 8) | (bytes[at + 2 * i + 1] ?? 0),
  );
  const { start, length } = longestZeroRun(groups);
  const text = groups.map((group) => group.toString(16));
  if (length < 2) return text.join(':');
  return `${text.slice(0, start).join(':')}::${text.slice(start + length).join(':')}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start += 1) {
    let length = 0;
    while (start + length < groups.length && groups[start + length] === 0) length += 1;
    if (length > best.length) best = { start, length };
  }
  return best;
}

/**
 * `private`: not routed on the Internet (RFC 1918, shared, link-local, loopback, unique local); `multicast`; else
 * `other`, the unspecified address included.
 */
export function ipv4Type(bytes: Uint8Array, at: number): AddressType {
  const first = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  if (first >= 224 && first < 240) return 'multicast';
  if (first === 10 || first === 127) return 'private';
  if (first === 172 && second >= 16 && second < 32) return 'private';
  if (first === 192 && second === 168) return 'private';
  if (first === 169 && second === 254) return 'private';
  if (first === 100 && second >= 64 && second < 128) return 'private';
  return 'other';
}

export function ipv6Type(bytes: Uint8Array, at: number): AddressType {
  const first = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  if (first === 0xff) return 'multicast';
  if ((first & 0xfe) === 0xfc) return 'private';
  if (first === 0xfe && (second & 0xc0) === 0x80) return 'private';
  for (let i = 0; i < 15; i += 1) if (bytes[at + i] !== 0) return 'other';
  return bytes[at + 15] === 1 ? 'private' : 'other';
}
