// A web server for tests and benchmarks; server.go is the same in Go. It says its port in its first line, answers 404 to what
// begins with /missing, and tells at /count how many others it has answered.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

let count = 0;
const server = createServer((request, response) => {
  if (request.url === '/count') {
    response.end(String(count));
    return;
  }
  count += 1;
  response.statusCode = request.url?.startsWith('/missing') ? 404 : 200;
  response.end('The quick brown fox');
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo; // it listens on TCP
  console.log(port);
});
