// A little of everything that the fixtures watch: connections that end well, are refused, are reset; datagrams; a program.

import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { promisify } from 'node:util';

const loopback = '127.0.0.1';
const rounds = 3;

export async function makeTraffic(): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const port = await converse(round === rounds - 1);
    await refused(port);
    await datagram();
    await promisify(execFile)('true');
  }
}

/** One connection, both sides here. `reset`: the client goes without reading. Returns the port, closed again. */
async function converse(reset: boolean): Promise<number> {
  const server = createServer((socket) => {
    socket.on('data', () => socket.write('world'));
    // the reset is what this is for
    socket.on('error', () => socket.destroy());
  });
  server.listen(0, loopback);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // not a path: it listens on an address
  const client = connect(port, loopback);
  await once(client, 'connect');
  client.write('hello');
  await once(client, 'data');
  if (reset) client.resetAndDestroy();
  else client.end();
  await once(client, 'close');
  server.close();
  await once(server, 'close');
  return port;
}

async function refused(port: number): Promise<void> {
  const client = connect(port, loopback);
  const [error] = await once(client, 'error').catch((cause: unknown) => [cause]);
  if (!(error instanceof Error)) throw new Error('A closed port took a connection');
}

async function datagram(): Promise<void> {
  const receiver = createSocket('udp4');
  receiver.bind(0, loopback);
  await once(receiver, 'listening');
  const sender = createSocket('udp4');
  const arrived = once(receiver, 'message');
  sender.send('datagram', receiver.address().port, loopback);
  await arrived;
  sender.close();
  receiver.close();
}

/** Holds a listening socket open while `work` looks at the open sockets. */
export async function withOpenSocket(work: () => void): Promise<void> {
  const server = createServer();
  server.listen(0, loopback);
  await once(server, 'listening');
  try {
    work();
  } finally {
    server.close();
  }
}
