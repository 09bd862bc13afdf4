// Messages of the kernel's connection tracking (linux/netfilter/nfnetlink_conntrack.h), of connections with destination NAT:
// what they say, how to ask for all that are there, and the filter that keeps the others away.

import { ENDS_BYTES, NAT_BYTES } from '../table/nat.ts';

const NLMSG_HEADER = 16;
const NFGEN_HEADER = 4;
const ATTRIBUTE_HEADER = 4;
const ATTRIBUTE_TYPE = 0x3fff;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
const SUBSYSTEM = 1; // NFNL_SUBSYS_CTNETLINK
const CT_NEW = (SUBSYSTEM << 8) | 0;
const CT_GET = (SUBSYSTEM << 8) | 1;
const CT_DELETE = (SUBSYSTEM << 8) | 2;
const TUPLE_ORIGINAL = 1;
const TUPLE_REPLY = 2;
const STATUS = 3;
const STATUS_MASK = 26;
const TUPLE_IP = 1;
const TUPLE_PROTO = 2;
const V6_FIRST = 3; // below: the addresses of IPv4
const PROTO_NUMBER = 1;
const PROTO_SRC_PORT = 2;
const PROTO_DST_PORT = 3;
const IPS_DST_NAT = 1 << 5;
const TRANSPORTS: ReadonlySet<number> = new Set([6, 17]); // TCP, UDP

/** NETLINK_NETFILTER of linux/netlink.h. */
export const NETLINK_NETFILTER = 12;
/** Bits of the groups of what begins and of what ends. */
export const CONNTRACK_GROUPS = (1 << 0) | (1 << 2);

/** A connection as its client made it, and where its packets go. */
export interface Translation {
  readonly ended: boolean;
  readonly transport: number;
  /** The client's address, the one that it asked for (16 bytes each, IPv4 in the first four), and both ports, little endian. */
  readonly ends: Buffer;
  /** Address (16 bytes) and port (little endian) after NAT. */
  readonly nat: Buffer;
}

const ADDRESS = 16;
const PORT = 2;

/** Calls `found` for each translated connection of a datagram. 'done': it was the last one of an answer. */
export function readConntrack(
  datagram: Buffer,
  found: (translation: Translation) => void,
): 'done' | 'more' {
  for (let at = 0; at + NLMSG_HEADER <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    const type = datagram.readUInt16LE(at + 4);
    if (length < NLMSG_HEADER || at + length > datagram.length) return 'done'; // cut off
    if (type === CT_NEW || type === CT_DELETE) {
      const body = datagram.subarray(at + NLMSG_HEADER + NFGEN_HEADER, at + length);
      const translation = readOne(body, type === CT_DELETE);
      if (translation !== undefined) found(translation);
    } else if (type <= NLMSG_DONE) {
      return 'done'; // or an error
    }
    at += align(length);
  }
  return 'more';
}

interface Tuple {
  transport: number;
  readonly addresses: [Buffer | undefined, Buffer | undefined];
  readonly ports: [number, number];
}

function readOne(body: Buffer, ended: boolean): Translation | undefined {
  let original: Tuple | undefined;
  let reply: Tuple | undefined;
  let status = 0;
  for (const [type, value] of attributes(body)) {
    if (type === TUPLE_ORIGINAL) original = readTuple(value);
    else if (type === TUPLE_REPLY) reply = readTuple(value);
    else if (type === STATUS && value.length >= 4) status = value.readUInt32BE(0);
  }
  if ((status & IPS_DST_NAT) === 0 || original === undefined || reply === undefined) return;
  const [source, destination] = original.addresses;
  const [server] = reply.addresses;
  if (!TRANSPORTS.has(original.transport) || !source || !destination || !server) return;
  const ends = Buffer.alloc(ENDS_BYTES);
  source.copy(ends, 0);
  destination.copy(ends, ADDRESS);
  ends.writeUInt16LE(original.ports[0], 2 * ADDRESS);
  ends.writeUInt16LE(original.ports[1], 2 * ADDRESS + PORT);
  const nat = Buffer.alloc(NAT_BYTES);
  server.copy(nat, 0);
  nat.writeUInt16LE(reply.ports[0], ADDRESS);
  return { ended, transport: original.transport, ends, nat };
}

function readTuple(bytes: Buffer): Tuple {
  const tuple: Tuple = { transport: 0, addresses: [undefined, undefined], ports: [0, 0] };
  for (const [type, value] of attributes(bytes)) {
    if (type === TUPLE_IP) {
      for (const [which, address] of attributes(value)) {
        const wanted = which < V6_FIRST ? 4 : ADDRESS;
        if (which >= 1 && which <= 4 && address.length === wanted) {
          tuple.addresses[(which - 1) % 2] = address;
        }
      }
    } else if (type === TUPLE_PROTO) {
      for (const [which, one] of attributes(value)) {
        if (which === PROTO_NUMBER && one.length >= 1) tuple.transport = one[0]!;
        if (which === PROTO_SRC_PORT && one.length >= PORT) tuple.ports[0] = one.readUInt16BE(0);
        if (which === PROTO_DST_PORT && one.length >= PORT) tuple.ports[1] = one.readUInt16BE(0);
      }
    }
  }
  return tuple;
}

function* attributes(bytes: Buffer): Generator<readonly [type: number, value: Buffer]> {
  for (let at = 0; at + ATTRIBUTE_HEADER <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER || at + length > bytes.length) return;
    const type = bytes.readUInt16LE(at + 2) & ATTRIBUTE_TYPE;
    yield [type, bytes.subarray(at + ATTRIBUTE_HEADER, at + length)];
    at += align(length);
  }
}

function align(length: number): number {
  return (length + 3) & ~3;
}

/** Asks for all connections with destination NAT; kernels before 5.8 answer with all there are. */
export function conntrackDump(): Buffer {
  const message = Buffer.alloc(NLMSG_HEADER + NFGEN_HEADER + 2 * (ATTRIBUTE_HEADER + 4));
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(CT_GET, 4);
  message.writeUInt16LE(NLM_F_REQUEST | NLM_F_DUMP, 6);
  [STATUS, STATUS_MASK].forEach((type, i) => {
    const at = NLMSG_HEADER + NFGEN_HEADER + i * (ATTRIBUTE_HEADER + 4);
    message.writeUInt16LE(ATTRIBUTE_HEADER + 4, at);
    message.writeUInt16LE(type, at + 2);
    message.writeUInt32BE(IPS_DST_NAT, at + ATTRIBUTE_HEADER);
  });
  return message;
}

const SKF_AD_NLATTR = 0xfffff000 + 12;

/** Events of connections whose status has destination NAT. */
export function translatedOnly(): Buffer {
  const program: readonly (readonly [code: number, yes: number, no: number, k: number])[] = [
    [0x00, 0, 0, NLMSG_HEADER + NFGEN_HEADER], // A = where attributes begin
    [0x01, 0, 0, STATUS], // X = which is wanted
    [0x30, 0, 0, SKF_AD_NLATTR], // A = where it stands; 0: it does not
    [0x15, 4, 0, 0], // none: to the last
    [0x07, 0, 0, 0], // X = A
    [0x40, 0, 0, ATTRIBUTE_HEADER], // A = its value
    [0x45, 0, 1, IPS_DST_NAT],
    [0x06, 0, 0, 0xffffffff], // keep
    [0x06, 0, 0, 0], // drop
  ];
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, yes, no, k], i) => {
    bytes.writeUInt16LE(code, i * 8);
    bytes[i * 8 + 2] = yes;
    bytes[i * 8 + 3] = no;
    bytes.writeUInt32LE(k, i * 8 + 4);
  });
  return bytes;
}
