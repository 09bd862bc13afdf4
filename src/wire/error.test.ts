import assert from 'node:assert/strict';
import test from 'node:test';
import { listenCure } from './error.ts';

test('each reason why an address cannot be listened on has its own cure', () => {
  const of = (code: string) => listenCure(Object.assign(new Error(code), { code }), '--listen');
  assert.match(of('EADDRINUSE'), /^free the port/);
  assert.match(of('EACCES'), /CAP_NET_BIND_SERVICE/);
  assert.match(of('EADDRNOTAVAIL'), /^name an address that this machine has: --listen$/);
});
