// HTTPS between real programs: every request counted once at each end that is on this host, under the right process and addresses.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { startLive } from '../../test/live.ts';
import { exact, makeCertificate, NO_TLS, Peer, probed } from './peers.ts';

const PEER = join(import.meta.dirname, 'peer.py');
const COLLECTOR = { probes: { tls: { enabled: true } } };

for (const [name, words] of [
  ['blocking sockets', []],
  ['memory BIOs', ['memory']],
] as const) {
  test(`Python with ${name}, at both ends`, { skip: NO_TLS }, async (t) => {
    const { cert, key } = makeCertificate(t);
    const server = new Peer(t, 'python3', [PEER, 'server', cert, key, ...words]);
    const port = Number(await server.line());
    const live = await startLive(t, { collector: COLLECTOR });
    const client = new Peer(t, 'python3', [PEER, 'client', `${port}`, '8', '250', '4', ...words]);
    await probed(live, /libssl/);
    client.go();
    assert.deepEqual(JSON.parse(await client.line()), { requests: 2000 });
    await client.ended();
    const counts = JSON.parse(await server.finish());
    await exact(live, port, [
      { direction: 'incoming', pid: server.pid, counts },
      { direction: 'outgoing', pid: client.pid, counts },
    ]);
  });
}
