// TLS, mTLS, tokens, and where plain text may go.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { tableFromArrays, tableToIPC } from 'apache-arrow';
import { isLoopback } from './address.ts';
import { type AskOptions, asker } from './ask.ts';
import { FlightSender, type SenderOptions } from './client.ts';
import { OperatorError } from './error.ts';
import { FlightServer, type ServerOptions } from './server.ts';
import { Spool } from './spool.ts';

const dir = mkdtempSync(join(tmpdir(), 'tls-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const file = (name: string) => join(dir, name);

function openssl(...args: string[]): void {
  const { status, stderr } = spawnSync('openssl', args, { cwd: dir, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

function authorityOf(name: string): void {
  const files = ['-keyout', `${name}.key`, '-out', `${name}.crt`];
  openssl('req', '-x509', ...curve, '-days', '2', '-subj', `/CN=${name}`, ...files);
}

function certificate(name: string, ca: string, names: string): void {
  writeFileSync(file(`${name}.ext`), `subjectAltName=${names}\n`);
  const files = ['-keyout', `${name}.key`, '-out', `${name}.csr`];
  openssl('req', ...curve, '-subj', `/CN=${name}`, ...files);
  const signed = ['-in', `${name}.csr`, '-out', `${name}.crt`, '-extfile', `${name}.ext`];
  const by = ['-CA', `${ca}.crt`, '-CAkey', `${ca}.key`, '-CAcreateserial', '-days', '2'];
  openssl('x509', '-req', ...signed, ...by);
}

authorityOf('ca');
authorityOf('stranger');
certificate('server', 'ca', 'DNS:reducer.test,IP:127.0.0.1');
certificate('client', 'ca', 'DNS:collector.test');
certificate('unnamed', 'ca', 'DNS:elsewhere.test');
certificate('foreign', 'stranger', 'DNS:collector.test');
certificate('renewed', 'stranger', 'IP:127.0.0.1');
const CERTIFICATE = /certificate/;

interface Outcome {
  readonly stored: number;
  readonly sender: FlightSender['stats'];
  readonly server: FlightServer;
}

/** Sends one batch and tells whether it arrived, or why the first attempts failed. */
async function tryOnce(
  t: TestContext,
  listen: Partial<ServerOptions>,
  send: Partial<SenderOptions>,
): Promise<Outcome> {
  let stored = 0;
  const put = async () => {
    stored++;
    return { ok: true } as const;
  };
  const server = await FlightServer.listen({ host: '127.0.0.1', port: 0, ...listen }, { put });
  const spool_dir = mkdtempSync(join(tmpdir(), 'wire-'));
  const spool = Spool.open(spool_dir, { bytes_max: 1 << 20 });
  const payload = tableToIPC(tableFromArrays({ n: Int32Array.of(1) }), 'stream');
  spool.append({ table: 't', payload, rows: 1, counts: {} });
  const sender = new FlightSender(spool, {
    host: '127.0.0.1',
    port: server.port,
    collector_id: 'c',
    hostname: 'h',
    version: '0',
    backoff_ms_min: 5,
    backoff_ms_max: 20,
    connect_timeout_ms: 500,
    ...send,
  });
  t.after(async () => {
    await sender.close();
    spool.close();
    rmSync(spool_dir, { recursive: true, force: true });
    await server.close();
  });
  while (stored === 0 && sender.stats.failures < 2) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return { stored, sender: sender.stats, server };
}

const own = { cert: file('server.crt'), key: file('server.key') };
const mutual = { ...own, client_ca: file('ca.crt') };
const ca = file('ca.crt');

test('TLS: the right authority passes, another one and another name do not', async (t) => {
  const right = await tryOnce(t, { tls: own }, { tls: { ca } });
  assert.equal(right.stored, 1);
  const named = { ca, server_name: 'reducer.test' };
  assert.equal((await tryOnce(t, { tls: own }, { tls: named })).stored, 1);
  const wrong = await tryOnce(t, { tls: own }, { tls: { ca: file('stranger.crt') } });
  assert.equal(wrong.stored, 0);
  assert.ok(wrong.server.stats.refused.tls_failed > 0);
  assert.match(wrong.sender.last_error, /certificate|self.signed|verify/i);
  const other = { ca, server_name: 'elsewhere.test' };
  assert.equal((await tryOnce(t, { tls: own }, { tls: other })).stored, 0);
});

test('mTLS: only a certificate of the named authority passes', async (t) => {
  const client = { ca, cert: file('client.crt'), key: file('client.key') };
  assert.equal((await tryOnce(t, { tls: mutual }, { tls: client })).stored, 1);
  const without = await tryOnce(t, { tls: mutual }, { tls: { ca } });
  assert.equal(without.stored, 0);
  assert.ok(without.server.stats.refused.tls_failed > 0);
  const foreign = { ca, cert: file('foreign.crt'), key: file('foreign.key') };
  assert.equal((await tryOnce(t, { tls: mutual }, { tls: foreign })).stored, 0);
});

test('TLS: renewed files serve those who connect after it, at both ends', async (t) => {
  const put = async () => ({ ok: true }) as const;
  const [cert, key, trusted] = [file('now.crt'), file('now.key'), file('now.ca')];
  const show = (name: string) => {
    copyFileSync(file(`${name}.crt`), cert);
    copyFileSync(file(`${name}.key`), key);
  };
  show('server');
  copyFileSync(ca, trusted);
  const at = { host: '127.0.0.1', port: 0 };
  const server = await FlightServer.listen({ ...at, tls: { cert, key } }, { put });
  const askerOf = () => {
    const made = asker({ host: '127.0.0.1', port: server.port, tls: { ca: trusted } });
    t.after(() => made.close());
    return () => made.action('none', {}).catch((error: Error) => error.message);
  };
  t.after(() => server.close());
  const connected = askerOf();
  assert.doesNotMatch(String(await connected()), CERTIFICATE);
  writeFileSync(cert, 'half a certificate');
  assert.throws(() => server.renewTls(), { code: 'wire_tls' });
  show('renewed');
  server.renewTls();
  assert.doesNotMatch(String(await connected()), CERTIFICATE, 'what is connected goes on');
  const later = askerOf();
  assert.match(String(await later()), CERTIFICATE);
  copyFileSync(file('stranger.crt'), trusted);
  await later(); // it learns that it is refused still
  assert.doesNotMatch(String(await later()), CERTIFICATE, 'and has read its files again');
});

/** One question to a reducer that has a certificate without the address at which it is asked. */
async function ask(t: TestContext, tls: AskOptions['tls'], client_ca?: string): Promise<string> {
  const shown = { cert: file('unnamed.crt'), key: file('unnamed.key') };
  const run = async () => Buffer.from('well');
  const server = await FlightServer.listen(
    {
      host: '127.0.0.1',
      port: 0,
      tls: { ...shown, ...(client_ca !== undefined && { client_ca }) },
    },
    { put: async () => ({ ok: true }), actions: { health: { description: '', run } } },
  );
  const asking = asker({ host: '127.0.0.1', port: server.port, ...(tls && { tls }) });
  t.after(async () => {
    asking.close();
    await server.close();
  });
  return (await asking.action('health', {}, 5000)).toString('utf8');
}

test('who has the reducer’s own certificate trusts it, whoever signed it and whatever its names', async (t) => {
  const reducer_cert = file('unnamed.crt');
  assert.equal(await ask(t, { reducer_cert }), 'well');
  assert.equal(await ask(t, { ca, server_name: 'elsewhere.test' }), 'well');
  await assert.rejects(ask(t, { ca }), /127\.0\.0\.1|altnames/i);
  await assert.rejects(ask(t, { reducer_cert: file('server.crt') }), /verify|certificate/i);
  await assert.rejects(ask(t, { reducer_cert: file('server.crt'), ca }), /altnames/i);
  const client = { cert: file('client.crt'), key: file('client.key') };
  assert.equal(await ask(t, { reducer_cert, ...client }, ca), 'well');
  await assert.rejects(ask(t, { reducer_cert }, ca));
});

test('a question over TLS to an address brings no warning of Node’s', async (t) => {
  const warnings: string[] = [];
  const note = (warning: Error) => warnings.push(warning.message);
  process.on('warning', note);
  t.after(() => process.off('warning', note));
  await ask(t, { reducer_cert: file('unnamed.crt') });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
});

test('a token passes over TLS and is refused when wrong', async (t) => {
  const listen = { tls: own, token: 'secret' };
  const right = await tryOnce(t, listen, { tls: { ca }, token: 'secret' });
  assert.equal(right.stored, 1);
  const wrong = await tryOnce(t, listen, { tls: { ca }, token: 'Secret' });
  assert.equal(wrong.stored, 0);
  assert.match(wrong.sender.last_error, /unauthenticated/);
  assert.ok(wrong.server.stats.refused.unauthenticated > 0);
});

test('plain text to the TLS port, and a handshake that never comes, are counted', async (t) => {
  const limits = { first_bytes_ms: 100 };
  const { server } = await tryOnce(t, { tls: own, limits }, { tls: { ca } });
  const before = server.stats.refused.tls_failed;
  for (const bytes of ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '']) {
    const socket = connect(server.port, '127.0.0.1').resume();
    socket.on('error', () => undefined);
    socket.write(bytes);
    await new Promise((resolve) => socket.once('close', resolve));
  }
  assert.equal(server.stats.refused.tls_failed, before + 2);
  const plain = await tryOnce(t, { tls: own }, { allow_plaintext: true });
  assert.equal(plain.stored, 0);
});

test('plain text leaves this machine only when allowed by name', async () => {
  const options = { collector_id: 'c', hostname: 'h', version: '0', port: 1 };
  const spool = {
    pending: function* () {
      yield* [];
    },
    acknowledge: () => undefined,
    acknowledged: () => 0,
    settled: () => 0,
    last: () => undefined,
    noteSent: () => undefined,
  };
  const code = (wanted: string) => (error: unknown) =>
    error instanceof OperatorError && error.code === wanted;
  for (const host of ['10.0.0.1', 'reducer', '::', 'fe80::1', 'localhost.example.com']) {
    assert.throws(() => new FlightSender(spool, { ...options, host }), code('wire_plaintext'));
    await new FlightSender(spool, { ...options, host, allow_plaintext: true }).close();
  }
  const put = async () => ({ ok: true }) as const;
  const refused = FlightServer.listen({ host: '0.0.0.0', port: 0 }, { put });
  await assert.rejects(refused, code('wire_plaintext'));
  const bad = { ...options, host: 'a b' };
  assert.throws(() => new FlightSender(spool, bad), code('wire_address'));
  const no_file = { ...options, host: 'reducer', tls: { ca: file('none') } };
  assert.throws(() => new FlightSender(spool, no_file), code('wire_tls'));
  const no_key = FlightServer.listen(
    { host: '127.0.0.1', port: 0, tls: { cert: file('server.crt'), key: file('client.key') } },
    { put },
  );
  await assert.rejects(no_key, code('wire_tls'));
  for (const host of ['localhost', '127.9.9.9', '::1', '::ffff:127.0.0.1']) {
    assert.equal(isLoopback(host), true, host);
  }
});

test('a port that is taken is the operator’s error', async () => {
  const put = async () => ({ ok: true }) as const;
  const first = await FlightServer.listen({ host: '127.0.0.1', port: 0 }, { put });
  const second = FlightServer.listen({ host: '127.0.0.1', port: first.port }, { put });
  await assert.rejects(second, /Cannot listen on 127\.0\.0\.1:\d+: EADDRINUSE/);
  await first.close();
});

test('IPv6 and names work as IPv4 does', async (t) => {
  const six = await tryOnce(t, { host: '::1' }, { host: '::1' });
  assert.equal(six.stored, 1);
  const name = await tryOnce(t, {}, { host: 'localhost' });
  assert.equal(name.stored, 1);
});
