// An HTTPS server and client of Node, whose TLS library is within the executable.
//   node_peer.mjs server CERT KEY            prints its port; at the end of its input: {"path": requests}
//   node_peer.mjs client PORT,… CONNECTIONS REQUESTS   waits for a line; prints {"requests": n}; ports take turns by request,
//                                            and the thread reads sockets without TLS between them
//   node_peer.mjs h2-server CERT KEY         the same over HTTP/2
//   node_peer.mjs h2-client PORT REQUESTS    the same, all requests at once on one connection

import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';

const [what, ...words] = process.argv.slice(2);

function serve(create, cert, key) {
  const counts = {};
  const server = create(
    { cert: readFileSync(cert), key: readFileSync(key) },
    (request, response) => {
      counts[request.url] = (counts[request.url] ?? 0) + 1;
      const missing = request.url.startsWith('/missing');
      response.writeHead(missing ? 404 : 200, { 'content-type': 'text/plain' });
      response.end(missing ? '' : 'hello');
    },
  );
  server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`));
  process.stdin.on('end', () =>
    process.stdout.write(`${JSON.stringify(counts)}\n`, () => process.exit(0)),
  );
  process.stdin.resume();
}

function get(agent, port, path) {
  return new Promise((resolve, reject) => {
    const request = https.get(
      { agent, host: '127.0.0.1', port, path, rejectUnauthorized: false },
      (response) => {
        response.on('end', resolve);
        response.resume();
      },
    );
    request.on('error', reject);
  });
}

/** A request without TLS, whose both ends are this thread's and stay open. */
async function askPlainly() {
  const server = http.createServer((_, response) => response.end('plain'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  await (await fetch(`http://127.0.0.1:${server.address().port}/`)).text();
}

async function ask(ports, connections, requests) {
  const names = ['red', 'green', 'blue'];
  const one = async () => {
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < requests; i += 1) {
      if (i < 2) await askPlainly();
      const port = ports[i % ports.length];
      await get(agent, port, i % 10 === 9 ? '/missing' : `/page/${names[i % 3]}`);
    }
    agent.destroy();
  };
  await Promise.all(Array.from({ length: connections }, one));
  say(connections * requests);
}

function askAtOnce(port, count) {
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  let left = count;
  const end = () => {
    left -= 1;
    if (left === 0) session.close(() => say(count));
  };
  session.once('remoteSettings', () => {
    for (let i = 0; i < count; i += 1) {
      const stream = session.request({ ':path': i % 10 === 9 ? '/missing' : '/page/red' });
      stream.on('close', end);
      stream.resume();
    }
  });
}

function say(requests) {
  process.stdout.write(`${JSON.stringify({ requests })}\n`, () => process.exit(0));
}

if (what === 'server') {
  serve(https.createServer, ...words);
} else if (what === 'h2-server') {
  serve(http2.createSecureServer, ...words);
} else if (what === 'h2-client') {
  process.stdin.once('data', () => askAtOnce(words[0], Number(words[1])));
} else {
  process.stdin.once('data', () => {
    process.stdin.pause();
    const [ports, connections, requests] = words;
    void ask(ports.split(',').map(Number), Number(connections), Number(requests));
  });
}
