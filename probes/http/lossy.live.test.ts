// What makes counting hard: segments that are lost and come again or out of order, between network namespaces; sweeps in
// the midst of traffic; a ring that is too small.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram } from '../../test/peer.ts';
import { haveIp, makeNamespaces } from '../../test/traffic/traffic.ts';

const run = promisify(execFile);
const NO_PYTHON = NO_LIVE || lacksProgram('python3');
const NO_LOSS = NO_PYTHON || (!haveIp() && 'needs ip') || lacksProgram('nft');
const PORT = 8765;
const THREADS = 4;

/** Answers each POST with as many bytes as its path says, in HTTP/1.1. */
const SERVER = `
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"HTTP/1.1 500 " * int(self.path.split("/")[2])
        self.send_response(200 if len(body) % 2 else 201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 100
server = Server((sys.argv[1], int(sys.argv[2])), Handler)
print("ready", server.server_address[1], flush=True)
server.serve_forever()
`;

/** Threads with a connection each; prints what each status came to. */
const CLIENT = `
import http.client, sys, threading, collections
host, port, times, distinct = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "distinct"
seen = collections.Counter()
def talk(n):
    c = http.client.HTTPConnection(host, port)
    for i in range(times):
        name = "t%s" % "xyzw"[i % 4] if distinct else "same"
        c.request("POST", "/%s/%d" % (name, i * 37 % 4000), body="GET / HTTP/1.1\\r\\n" * (i * 13 % 900))
        r = c.getresponse(); r.read(); seen[r.status] += 1
    c.close()
threads = [threading.Thread(target=talk, args=(n,)) for n in range(${THREADS})]
[t.start() for t in threads]; [t.join() for t in threads]
print(seen[200], seen[201])
`;

function inside(netns: string | undefined, words: readonly string[]): [string, string[]] {
  const all = ['python3', '-c', ...words];
  return netns === undefined ? [all[0]!, all.slice(1)] : ['ip', ['netns', 'exec', netns, ...all]];
}

async function serve(t: TestContext, host: string, port: number, netns?: string): Promise<number> {
  const [program, words] = inside(netns, [SERVER, host, String(port)]);
  const child: ChildProcess = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  for await (const line of createInterface({ input: child.stdout! })) {
    return Number(line.split(' ')[1]);
  }
  throw new Error('the server ended before it listened');
}

/** Requests answered with 200 and with 201. */
async function ask(
  host: string,
  port: number,
  times: number,
  kind: 'same' | 'distinct',
  netns?: string,
): Promise<readonly [number, number]> {
  const [program, words] = inside(netns, [CLIENT, host, String(port), String(times), kind]);
  const { stdout } = await run(program, words);
  const [ok, created] = stdout.trim().split(' ').map(Number);
  return [ok!, created!];
}

/** By direction: how many were answered with 200, with 201, and with anything else. */
function counted(live: Live, port: number): unknown {
  return ['incoming', 'outgoing'].map((direction) => {
    const at = direction === 'incoming' ? { src_port: port } : { dst_port: port };
    const sums = [0, 0, 0];
    for (const { status_code, count } of live.sink.rows({ direction, ...at }, 'httpflow')) {
      sums[status_code === 200 ? 0 : status_code === 201 ? 1 : 2]! += Number(count);
    }
    return sums;
  });
}

test('hard conditions', { skip: NO_PYTHON }, async (t) => {
  const live = await startLive(t);
  await t.test('segments that are lost', { skip: NO_LOSS }, async (s) => {
    const wire = makeNamespaces(`http-${process.pid}`);
    s.after(() => wire.remove());
    for (const name of wire.names) loseSegments(name);
    const port = await serve(s, wire.addresses[1], PORT, wire.names[1]);
    const [ok, created] = await ask(wire.addresses[1], port, 60, 'distinct', wire.names[0]);
    const truth = [ok, created, 0];
    await settles(
      () => live.collector.flush(),
      () => counted(live, port),
      [truth, truth],
    );
    const rows = live.sink.rows({ src_port: port }, 'httpflow');
    assert.ok(rows.length > 0 && rows.every(({ netns }) => Number(netns) > 0));
  });
  await t.test('sweeps in the midst of traffic', async (s) => {
    const port = await serve(s, '127.0.0.1', 0);
    let over = false;
    const sweeps = (async () => {
      let n = 0;
      for (; !over; n += 1) {
        await live.collector.flush();
        await delay(5);
      }
      return n;
    })();
    const [ok, created] = await ask('127.0.0.1', port, 200, 'same');
    over = true;
    assert.ok((await sweeps) > 1); // dozens, but in a virtual machine without KVM
    const truth = [ok, created, 0];
    await settles(
      () => live.collector.flush(),
      () => counted(live, port),
      [truth, truth],
    );
  });
});

/** Of what comes in, one segment in thirty is thrown away before any socket sees it. */
function loseSegments(netns: string): void {
  const rules = `table inet loss {
    chain in { type filter hook input priority 0; tcp flags & syn == 0 numgen random mod 30 == 0 drop; }
  }`;
  execFileSync('ip', ['netns', 'exec', netns, 'nft', '-f', '-'], { input: rules });
}

test('a ring that is too small: the counts stay', { skip: NO_PYTHON }, async (t) => {
  const live = await startLive(t, { collector: { ring_bytes: 65_536 } });
  const port = await serve(t, '127.0.0.1', 0);
  // Waits without turning the loop, so that nothing drains the ring meanwhile.
  const [program, words] = inside(undefined, [
    CLIENT,
    '127.0.0.1',
    String(port),
    '600',
    'distinct',
  ]);
  const said = execFileSync(program, words, { encoding: 'utf8' });
  const [ok, created] = said.trim().split(' ').map(Number) as [number, number]; // its last line
  const total = (): readonly number[] =>
    ['incoming', 'outgoing'].map((direction) => {
      const rows = live.sink.rows({ direction }, 'httpflow');
      const own = rows.filter((row) =>
        [row.src_port, row.dst_port, Number(row.method === '<other>') * port].includes(port),
      );
      return own.reduce((sum, row) => sum + Number(row.count), 0);
    });
  // What else the machine says in HTTP meanwhile is in the same totals.
  await settles(
    () => live.collector.flush(),
    () => total().map((sum) => sum >= ok + created),
    [true, true],
  );
  const rest = live.sink.rows({ method: '<other>' }, 'httpflow');
  assert.ok(rest.length > 0, 'the ring was never full');
});
