import assert from 'node:assert/strict';
import test from 'node:test';
import { reachWords } from './reach.ts';

/** As the gRPC library says it. */
const FRAMES = {
  refused: [
    'No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ',
    'connect ECONNREFUSED 127.0.0.1:1',
  ],
  alert: [
    'No connection established. Last error: 400DE9347A7F0000:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert ' +
      'certificate required:../deps/rec_layer_s3.c:918:SSL alert number 116\n (2026-11-27T13:56:03.303Z). Resolution note: ',
    'TLS: tlsv13 alert certificate required',
  ],
  unknown: [
    'No connection established. Last error: Error: self-signed certificate in certificate chain. Resolution note: ',
    'self-signed certificate in certificate chain',
  ],
  own: ['unauthenticated: the bearer token is missing or wrong', undefined],
} as const;

for (const [name, [said, words]] of Object.entries(FRAMES)) {
  test(`${name}: one line, without the frame`, () => {
    const error = Object.assign(new Error('14 UNAVAILABLE'), { details: said });
    assert.equal(reachWords(error, true), words ?? said);
  });
}

test('who closes the connection at once may ask for TLS, or refuse a certificate', () => {
  const closed = new Error(
    'No connection established. Last error: Failed to connect (2026-11-27T13:55:00.000Z).',
  );
  assert.match(reachWords(closed, false), /it may ask for TLS$/);
  assert.match(reachWords(closed, true), /refuse the certificate/);
});
