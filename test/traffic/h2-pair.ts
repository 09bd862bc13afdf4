// A program of its own, for tests that run it in a network namespace: an HTTP/2 server and its clients, over loopback.
//   node h2-pair.ts ROUNDS
// Prints what the server noted as JSON: { port, truths }.

import { once } from 'node:events';
import http2 from 'node:http2';
import { finish, h2Server, portOf, round, type Truth } from './h2.ts';

const SESSIONS = 4;
const REQUESTS = 20;

const rounds = Number(process.argv[2]);
const truths: Truth[] = [];
const server = await h2Server(truths);
const port = portOf(server);
const sessions = Array.from({ length: SESSIONS }, () => http2.connect(`http://127.0.0.1:${port}`));
for (let n = 0; n < rounds; n += 1) {
  await Promise.all(sessions.map((session) => round(session, n, REQUESTS)));
}
await Promise.all(sessions.map(finish));
server.close();
await once(server, 'close');
process.stdout.write(JSON.stringify({ port, truths }));
