// Collectors that are killed under load: the programs in the library go on, and each request has its response.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { hear, startChild } from '../../test/child.ts';
import { liveFolders, Sink } from '../../test/live.ts';
import { Peer } from '../../test/peer.ts';
import { exactIn, makeCertificate, NO_TLS, type Side } from '../../test/tls_peers.ts';

const PEER = join(import.meta.dirname, 'peer.py');
const OWN = JSON.stringify({ probes: { tls: { enabled: true } } });
/** Holds all that can come while no collector lives. */
const RING_BYTES = 64 << 20;
const REQUESTS = 60_000;
const KILLS = 3;

test(`killed ${KILLS} times under load`, { skip: NO_TLS }, async (t) => {
  const sink = await Sink.listen();
  t.after(() => sink.close());
  const { data_dir, pin_path } = liveFolders(t);
  const start = () => startChild(t, [data_dir, pin_path, `${sink.port}`, `${RING_BYTES}`, OWN]);
  const { cert, key } = makeCertificate(t);
  const server = new Peer(t, 'python3', [PEER, 'server', cert, key]);
  const port = Number(await server.line());
  const client = new Peer(t, 'python3', [PEER, 'client', `${port}`, '2', `${REQUESTS / 2}`, '2']);
  let child = start();
  assert.equal((await hear(child)).taken_over, false);
  child.send('settle');
  await hear(child);
  client.go();
  for (let kill = 0; kill < KILLS; kill += 1) {
    await delay(500);
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
    child = start();
    assert.equal((await hear(child)).taken_over, true);
  }
  assert.deepEqual(JSON.parse(await client.line()), { requests: REQUESTS });
  await client.ended();
  const counts: Side['counts'] = JSON.parse(await server.finish());
  const flush = async (): Promise<void> => {
    child.send('flush');
    await hear(child);
  };
  await exactIn(sink, flush, port, [
    { direction: 'incoming', pid: server.pid, counts },
    { direction: 'outgoing', pid: client.pid, counts },
  ]);
  child.send('stop');
  await hear(child);
  assert.equal(existsSync(pin_path), false);
});
