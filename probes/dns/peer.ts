// A DNS server and a client for live tests, each a process of its own that counts what it did: the truth.
// `peer.ts server HOST PORT`, `peer.ts client HOST PORT SPEC`; SPEC: a list of [name, type, how many] as JSON.
// What the server does with a name is its first label: ok, nx, fail, drop, big (truncated over UDP), alias.

import { createSocket, type Socket } from 'node:dgram';
import { connect, createServer, isIPv6, type Socket as TcpSocket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { joined, message, name, pointer, RESPONSE, record, TRUNCATED, u16 } from './testing.ts';

const RCODES: Readonly<Record<string, number>> = { nx: 3, fail: 2 };
const ADDRESS = Uint8Array.of(127, 0, 0, 77);
const ADDRESS6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const AAAA = 28;
const A = 1;
const CNAME = 5;
const TXT = 16;
const AT_QUESTION = 12;
const WINDOW = 16;
const TTL = 300;

const counts: Record<string, number> = {};
const bump = (what: string): void => {
  counts[what] = (counts[what] ?? 0) + 1;
};

/** What comes first in the question, and its type. */
function asked(query: Buffer): { text: string; type: number } {
  const labels: string[] = [];
  let at = AT_QUESTION;
  for (; query[at]! > 0; at += query[at]! + 1) {
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
  }
  return { text: labels.join('.'), type: query.readUInt16BE(at + 1) };
}

/** Undefined: no answer. */
function answer(query: Buffer, transport: 'udp' | 'tcp'): Uint8Array | undefined {
  const { text, type } = asked(query);
  const what = text.split(/[-.]/)[0]!;
  const address = type === AAAA ? ADDRESS6 : ADDRESS;
  const id = query.readUInt16BE(0);
  const questions = [[text, type]] as const;
  const own = record(pointer(AT_QUESTION), type, TTL, address);
  bump(`${transport} ${what}`);
  if (what === 'drop') return undefined;
  if (what in RCODES) return message({ id, flags: RESPONSE | RCODES[what]!, questions });
  if (what === 'alias') {
    const there = name(`behind.${text}`);
    const answers = [
      record(pointer(AT_QUESTION), CNAME, TTL, there),
      record(there, A, TTL, ADDRESS),
    ];
    return message({ id, flags: RESPONSE, questions, answers });
  }
  if (what !== 'big') return message({ id, flags: RESPONSE, questions, answers: [own] });
  if (transport === 'udp') return message({ id, flags: RESPONSE | TRUNCATED, questions });
  const long = new Uint8Array(4000).fill(65);
  const answers = [own, record(pointer(AT_QUESTION), TXT, TTL, long)];
  return message({ id, flags: RESPONSE, questions, answers });
}

/** Messages with their lengths, whatever the segments. */
function splitter(take: (one: Buffer) => void): (bytes: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const end = 2 + rest.readUInt16BE(0);
      take(rest.subarray(2, end));
      rest = rest.subarray(end);
    }
  };
}

async function serve(host: string, port: number): Promise<void> {
  const tcp = createServer((socket) => {
    socket.setNoDelay(true);
    const take = splitter((query) => {
      const reply = answer(query, 'tcp');
      if (reply === undefined) return;
      // In pieces, as a network may have it.
      socket.write(u16(reply.length).subarray(0, 1));
      socket.write(joined([u16(reply.length).subarray(1), reply.subarray(0, 30)]));
      socket.write(reply.subarray(30));
    });
    socket.on('data', take);
    socket.on('error', () => undefined); // its client went away
  });
  await new Promise<void>((done) => tcp.listen(port, host, done));
  const address = tcp.address();
  const own = typeof address === 'object' && address !== null ? address.port : port;
  const udp = createSocket({ type: isIPv6(host) ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 });
  udp.on('message', (query, from) => {
    const reply = answer(query, 'udp');
    if (reply !== undefined) udp.send(reply, from.port, from.address);
  });
  await new Promise<void>((done) => udp.bind(own, host, done));
  say({ port: own, pid: process.pid });
  process.stdin.resume().on('end', () => {
    say({ pid: process.pid, counts });
    process.exit(0);
  });
}

interface Waiting {
  readonly done: () => void;
}

/** One at a time for what gets no answer, else WINDOW at once, all from one socket; what is truncated again over TCP. */
async function ask(host: string, port: number, spec: [string, number, number][]): Promise<void> {
  const udp = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  const waiting = new Map<number, Waiting>();
  const again: [string, number][] = [];
  udp.on('message', (reply) => {
    const flags = reply.readUInt16BE(2);
    bump(`udp ${flags & 15}`);
    const { text, type } = asked(reply);
    if ((flags & TRUNCATED) !== 0) again.push([text, type]);
    const one = waiting.get(reply.readUInt16BE(0));
    waiting.delete(reply.readUInt16BE(0));
    one?.done();
  });
  await new Promise<void>((done) => udp.bind(0, done));
  let id = 0;
  for (const [text, type, times] of spec) {
    for (let i = 0; i < times; i += 1) {
      id += 1;
      const query = message({ id, questions: [[text.replace('#', String(i)), type]] });
      await send(udp, query, port, host);
      if (text.startsWith('drop')) continue;
      await new Promise<void>((done) => {
        const one = { done: () => done() };
        waiting.set(id, one);
        if (waiting.size < WINDOW) done();
      });
    }
  }
  while (waiting.size > 0) await delay(5);
  udp.close();
  if (again.length > 0) await askTcp(host, port, again);
  say({ pid: process.pid, counts });
}

function send(udp: Socket, bytes: Uint8Array, port: number, host: string): Promise<void> {
  return new Promise((done, fail) => {
    udp.send(bytes, port, host, (error) => (error === null ? done() : fail(error)));
  });
}

/** All on one connection, several in a segment. */
async function askTcp(host: string, port: number, all: [string, number][]): Promise<void> {
  const socket: TcpSocket = connect(port, host);
  await new Promise<void>((done) => socket.on('connect', done));
  let left = all.length;
  const ended = new Promise<void>((done) => {
    const take = splitter((reply) => {
      bump(`tcp ${reply.readUInt16BE(2) & 15}`);
      left -= 1;
      if (left === 0) done();
    });
    socket.on('data', take);
  });
  const queries = all.map((one, id) => message({ id, questions: [one] }));
  socket.write(joined(queries.flatMap((query) => [u16(query.length), query])));
  await ended;
  socket.destroy();
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const [mode, host, port, spec] = process.argv.slice(2);
if (mode === 'server') await serve(host!, Number(port));
else if (mode === 'client') await ask(host!, Number(port), JSON.parse(spec!));
