// A conversation that tests write down: who says what, in which pieces. Each piece is a segment of its own, since the next
// is sent only when the other end has it.

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** `>`: the client says it; `<`: the server. */
export type Step = readonly ['>' | '<', string | Uint8Array];

export interface Played {
  readonly port: number;
  readonly said: { readonly client: number; readonly server: number };
}

export interface PlayOptions {
  readonly host?: string;
  /** Where the client connects to, if that is another name of the same. */
  readonly connect_host?: string;
  /** The client resets the connection in place of closing it. */
  readonly abort?: boolean;
  /** Between the establishment and the first step. */
  readonly before?: () => Promise<void>;
}

class End {
  readonly socket: Socket;
  #received = 0;
  #waiting: (() => void) | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('error', () => undefined); // a reset is part of some conversations
    socket.on('data', (bytes) => {
      this.#received += bytes.length;
      this.#waiting?.();
    });
  }

  async receives(total: number): Promise<void> {
    while (this.#received < total) {
      await new Promise<void>((done) => {
        this.#waiting = done;
      });
    }
  }
}

/** Plays a conversation on a connection of its own. */
export async function play(steps: readonly Step[], options: PlayOptions = {}): Promise<Played> {
  const { host = '127.0.0.1', connect_host = host } = options;
  const server = createServer();
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // a TCP server's is none of the other kinds
  const accepted = once(server, 'connection');
  const client = new End(connect(port, connect_host));
  const [socket]: Socket[] = await accepted;
  const served = new End(socket!);
  await options.before?.();
  const said = { client: 0, server: 0 };
  for (const [who, what] of steps) {
    const bytes = typeof what === 'string' ? Buffer.from(what, 'latin1') : what;
    const [from, to] = who === '>' ? [client, served] : [served, client];
    from.socket.write(bytes);
    const side = who === '>' ? 'client' : 'server';
    said[side] += bytes.length;
    await to.receives(said[side]);
  }
  // not `once`, which takes the reset for its own failure
  const closed = new Promise<void>((done) => served.socket.once('close', () => done()));
  if (options.abort === true) client.socket.resetAndDestroy();
  else client.socket.end();
  served.socket.end();
  await closed;
  client.socket.destroy();
  server.close();
  return { port, said };
}

/** Each byte by itself. */
export function bytewise(who: '>' | '<', text: string): readonly Step[] {
  return [...text].map((byte): Step => [who, byte]);
}

/** A request, and its answer, as conversations are made of. */
export const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

export function repeat(steps: readonly Step[], times: number): readonly Step[] {
  return Array.from({ length: times }, () => steps).flat();
}
