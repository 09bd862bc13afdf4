// A program for live tests that need both ends of requests in network namespaces. `server HOST` prints its two ports (HTTP/1.1,
// HTTP/2) and ends with its standard input; `client HOST PORT PORT` asks: KEPT over one connection, CLOSED over one each,
// STREAMS over one of HTTP/2.

import { once } from 'node:events';
import { Agent, createServer, get } from 'node:http';
import { connect, createServer as createServer2 } from 'node:http2';
import { fileURLToPath } from 'node:url';

export const KEPT = 500;
export const CLOSED = 200;
export const STREAMS = 100;

async function serve(host: string): Promise<void> {
  const servers = [
    createServer((_, response) => response.end('one')),
    createServer2((_, response) => response.end('two')),
  ];
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, host);
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('a port was asked for');
    ports.push(address.port);
  }
  process.stdout.write(`${ports.join(' ')}\n`);
  process.stdin.on('end', () => process.exit()).resume();
}

async function ask(host: string, port: number, port2: number): Promise<void> {
  const one = async (agent: Agent | false): Promise<void> => {
    const request = get({ host, port, agent, path: '/asked' });
    const [response] = await once(request, 'response');
    response.resume();
    await once(response, 'end');
  };
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < KEPT; i += 1) await one(agent);
  agent.destroy();
  for (let i = 0; i < CLOSED; i += 1) await one(false);
  const session = connect(`http://${host}:${port2}`);
  for (let i = 0; i < STREAMS; i += 1) {
    const stream = session.request({ ':path': '/asked' }).resume();
    await once(stream, 'close');
  }
  session.close();
  await once(session, 'close');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [mode, host = '', port, port2] = process.argv.slice(2);
  if (mode === 'server') await serve(host);
  else await ask(host, Number(port), Number(port2));
}
