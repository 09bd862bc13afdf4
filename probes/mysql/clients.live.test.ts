// A real MariaDB and clients that are not its own: two of Python, and one that the test speaks itself, with all that the others
// do not do.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { bothEnds, rowsAt, sums, turnedAway } from '../../test/db.ts';
import {
  asServer,
  type Mariadb,
  NO_MARIADB,
  startMariadb,
  startMysql,
} from '../../test/mariadb.ts';
import { lacksProgram } from '../../test/peer.ts';
import { Python } from '../../test/python.ts';
import { bytes, command, DEPRECATE_EOF, execute, login, prepare, query } from './testing.ts';

const PATIENCE_MS = 30_000;
const python = new Python(
  'mysql',
  ['pymysql', 'mysql-connector-python'],
  ['pymysql', 'mysql.connector'],
);
const NO_PYTHON = NO_MARIADB || (python.missing() ?? false);

async function runs(program: string, server: Mariadb): Promise<void> {
  const { status, stderr } = await python.run(program, [`${server.port}`]);
  assert.equal(status, 0, stderr);
}

const PYMYSQL = `
import sys, pymysql
from pymysql.constants import CLIENT
at = dict(host='127.0.0.1', port=int(sys.argv[1]), user='app', password='secret', database='d')
c = pymysql.connect(**at, client_flag=CLIENT.MULTI_STATEMENTS)
k = c.cursor()
k.execute('CREATE TABLE t (a int PRIMARY KEY)')
k.executemany('INSERT INTO t VALUES (%s)', [(i,) for i in range(5000)])
c.commit()
k.execute('SELECT a FROM t; SELECT 2; SELECT 3')
while k.nextset(): pass
s = c.cursor(pymysql.cursors.SSCursor)
s.execute('SELECT * FROM t')
assert len(s.fetchall()) == 5000
for sql in ('SELECT * FROM nowhere', 'INSERT INTO t VALUES (1)'):
    try: k.execute(sql)
    except pymysql.MySQLError: pass
for i in range(20): c.ping()
c.select_db('mysql')
c.close()
`;

test('PyMySQL', { skip: NO_PYTHON }, async (t) => {
  const server = await startMariadb(t);
  const live = await startMysql(t, server.port);
  await runs(PYMYSQL, server);
  // Of a query with several statements the server counts each.
  await bothEnds(live, server.port, {
    ...{ SET: 2, CREATE: 1, INSERT: 1, 'INSERT 1062': 1, COMMIT: 1, SELECT: 2, 'SELECT 1146': 1 },
    ...{ PING: 20, INIT_DB: 1, QUIT: 1 },
  });
  assert.deepEqual(turnedAway(live), {});
});

const CONNECTOR = `
import sys, mysql.connector
at = dict(host='127.0.0.1', port=int(sys.argv[1]), user='app', password='secret', database='d',
          use_pure=True, ssl_disabled=True)
c = mysql.connector.connect(**at)
k = c.cursor(prepared=True)
k.execute('CREATE TABLE t (a int, b longblob)')
for i in range(40): k.execute('INSERT INTO t VALUES (%s, %s)', (i, b'x' * 3000))
for i in range(30):
    k.execute('SELECT b FROM t WHERE a < %s', (i,))
    assert len(k.fetchall()) == i
k.execute('SELECT 1')
k.fetchall()
k.close()
c.cmd_change_user('app', 'secret', 'd')
c.cmd_reset_connection()
c.cmd_ping()
c.cmd_statistics()
c.cmd_init_db('d')
c.close()
`;

test('MySQL Connector/Python, prepared statements', { skip: NO_PYTHON }, async (t) => {
  const server = await startMariadb(t);
  const live = await startMysql(t, server.port);
  await runs(CONNECTOR, server);
  await asServer(live, server, 'app', { CREATE: 1, INSERT: 40, SELECT: 31 });
  assert.deepEqual(turnedAway(live), {});
});

const UNREADABLE = `
import sys, mysql.connector
at = dict(host='127.0.0.1', port=int(sys.argv[1]), user='app', password='secret', database='d',
          use_pure=True)
for more in ({}, {'ssl_disabled': True, 'compress': True}):
    c = mysql.connector.connect(**at, **more)
    k = c.cursor()
    for i in range(20):
        k.execute('SELECT 1')
        k.fetchall()
    c.close()
`;
const NO_TLS = NO_PYTHON || lacksProgram('openssl');

test('TLS and compression are told, not read', { skip: NO_TLS }, async (t) => {
  const server = await startMariadb(t, [], (folder) => {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const words = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=x'];
    spawnSync('openssl', [...words, '-keyout', key, '-out', cert]);
    spawnSync('chown', ['mysql', key, cert]);
    return [`--ssl-key=${key}`, `--ssl-cert=${cert}`];
  });
  const live = await startMysql(t, server.port);
  await runs(UNREADABLE, server);
  await server.mariadb('SELECT 5;\n', ['--skip-ssl']);
  await bothEnds(live, server.port, { SELECT: 1, QUIT: 1 });
  assert.deepEqual(turnedAway(live), { 'db_not_followed kept': 4 });
});

/** A client of the test's own: sends, and reads until so many packets in a row have come that end an answer so. */
class Client {
  readonly #socket: Socket;
  #said = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data: Buffer) => {
      this.#said += data.toString('latin1');
    });
  }

  static async open({ port }: Mariadb, abilities = 0): Promise<Client> {
    const socket = connect(port, '127.0.0.1').setNoDelay(true);
    const client = new Client(socket);
    await client.#until(1);
    await client.say(login('raw', abilities), 1);
    return client;
  }

  /** `count`: packets of the answer. */
  async say(text: string, count: number): Promise<string> {
    this.#said = '';
    this.#socket.write(text, 'latin1');
    await this.#until(count);
    return this.#said;
  }

  end(text = ''): void {
    this.#socket.end(text, 'latin1');
  }

  async #until(count: number): Promise<void> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (this.#packets() < count) await once(this.#socket, 'data', { signal });
  }

  #packets(): number {
    const all = Buffer.from(this.#said, 'latin1');
    let [at, packets] = [0, 0];
    for (; at + 4 <= all.length; packets += 1) {
      at += 4 + all.readUIntLE(at, 3);
      if (at > all.length) break;
    }
    return packets;
  }
}

const PING = command(0x0e);
const QUIT = command(1);
const LAST = 0xffff_ffff;

for (const abilities of [0, DEPRECATE_EOF]) {
  const name = abilities === 0 ? 'with EOF' : 'without EOF';
  test(`pieces, pipelines, cursors, ${name}`, { skip: NO_MARIADB }, async (t) => {
    const server = await startMariadb(t);
    const live = await startMysql(t, server.port);
    const client = await Client.open(server, abilities);
    const eof = abilities === 0 ? 1 : 0;
    for (const piece of query('SELECT 1').slice(0, -1)) {
      await client.say(piece, 0);
      await delay(1);
    }
    await client.say('1', 4 + eof);
    await client.say(PING.repeat(20) + query('DO 1').repeat(20), 40);
    const prepared = await client.say(prepare('SELECT 2, 3'), 3 + eof);
    const statement = Buffer.from(prepared, 'latin1').readUInt32LE(5);
    await client.say(execute(statement).repeat(10), 10 * (5 + eof));
    await client.say(prepare('VALUES (1), (2), (3)') + execute(LAST), 2 + 1 + 1 + 3 + 1 + 2 * eof);
    const [first] = [statement + 1];
    await client.say(execute(first, 1), 3);
    await client.say(command(0x1c, bytes(4, first) + bytes(4, 2)), 3);
    await client.say(command(0x1c, bytes(4, first) + bytes(4, 9)), 2);
    await client.say(command(0x19, bytes(4, first)) + execute(first), 1);
    await client.say(command(0x77), 1);
    await client.say(query('SELECT 1; SELECT 2; SELECT * FROM d.nowhere'), 2 * (4 + eof) + 1);
    client.end(QUIT);
    await bothEnds(live, server.port, {
      ...{ SELECT: 11, PING: 20, DO: 20, STMT_PREPARE: 2, VALUES: 2, STMT_FETCH: 2 },
      ...{ STMT_CLOSE: 1, 'EXECUTE 1243': 1, '<other> 1047': 1, 'SELECT 1146': 1, QUIT: 1 },
    });
    assert.deepEqual(turnedAway(live), {});
    const written = sums(rowsAt(live, server.port, 'outgoing'), 'bytes_written');
    assert.equal(written.PING, 20 * PING.length);
  });
}

test('a login that is refused is no command', { skip: NO_MARIADB }, async (t) => {
  const server = await startMariadb(t);
  const live = await startMysql(t, server.port);
  await server.mariadb('SELECT 1;\n', ['-pwrong']);
  await server.mariadb('SELECT 1;\n');
  await bothEnds(live, server.port, { SELECT: 1, QUIT: 1 });
  assert.deepEqual(turnedAway(live), {});
});

test('a connection that is older is counted from its first pause on', { skip: NO_MARIADB }, older);

async function older(t: TestContext): Promise<void> {
  const server = await startMariadb(t);
  const client = await Client.open(server);
  await client.say(PING, 1);
  const live = await startMysql(t, server.port);
  await delay(200);
  await client.say(prepare('SELECT 1') + execute(LAST), 3 + 5);
  for (let i = 0; i < 100; i += 1) await client.say(query('SELECT 2'), 5);
  await delay(200);
  await client.say(PING, 1);
  client.end(QUIT);
  await bothEnds(live, server.port, { STMT_PREPARE: 1, SELECT: 101, PING: 1, QUIT: 1 });
  assert.deepEqual(turnedAway(live), { 'db_place_found kept': 2 });
}
