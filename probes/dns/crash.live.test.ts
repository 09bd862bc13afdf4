// A collector that is killed between a query and its answer: its successor counts the answer, and makes up no time-out.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { hear, startChild } from '../../test/child.ts';
import { liveFolders, NO_LIVE, Sink, settles } from '../../test/live.ts';
import { haveIp, makeNamespaces } from '../../test/traffic/traffic.ts';
import { Peer } from './peers.ts';

const RING_BYTES = 8 << 20;
const SKIP = NO_LIVE || (!haveIp() && 'needs ip');
const A = 1;
/** Fewer than the client's window: it sends them all before it waits. */
const HELD = 10;
const ANSWERED = 200;

async function flush(child: ChildProcess): Promise<void> {
  child.send('flush');
  await hear(child);
}

test('killed between queries and their answers', { skip: SKIP }, async (t) => {
  const wire = makeNamespaces(`dnscrash-${process.pid}`);
  t.after(() => wire.remove());
  const [, host] = wire.addresses;
  const sink = await Sink.listen();
  t.after(() => sink.close());
  const { data_dir, pin_path } = liveFolders(t);
  const more = JSON.stringify({ dns: { ports: [53], timeout: 60_000, domains_max: 1000 } });
  const words = [data_dir, pin_path, String(sink.port), String(RING_BYTES), more];

  const server = new Peer(t, ['server', host, '53'], wire.names[1]);
  await server.line();
  const first = startChild(t, words);
  await hear(first);
  const spec = [
    ['ok-#.example', A, ANSWERED],
    ['held-#.example', A, HELD],
  ];
  const client = new Peer(t, ['client', host, '53', JSON.stringify(spec)], wire.names[0]);
  const answered = { incoming: ANSWERED, outgoing: ANSWERED };
  const counts = (match: object) =>
    Object.fromEntries(
      ['incoming', 'outgoing'].map((direction) => {
        const end = direction === 'incoming' ? { src_ip: host } : { dst_ip: host };
        const sums = sink.total({ direction, ...end, ...match }, ['count'], 'dnsflow');
        return [direction, sums.count];
      }),
    );
  await settles(
    () => flush(first),
    () => counts({ rcode: 0 }),
    answered,
  );
  await delay(500); // the last of them are on their way
  await flush(first);
  first.kill('SIGKILL');
  await once(first, 'exit');

  server.say(); // nobody reads the ring now
  await client.line();
  const second = startChild(t, words);
  await hear(second);
  const all = { incoming: ANSWERED + HELD, outgoing: ANSWERED + HELD };
  await settles(
    () => flush(second),
    () => counts({ rcode: 0 }),
    all,
  );
  assert.deepEqual(counts({ rcode: -1 }), { incoming: 0, outgoing: 0 });
  const [unmatched] = Object.values(sink.total({ src_ip: host }, ['unmatched'], 'dnsflow'));
  assert.equal(unmatched, HELD, 'the server side has no query for these');
  second.send('stop');
  await once(second, 'message');
});
