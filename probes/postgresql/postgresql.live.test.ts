// A real PostgreSQL with its own programs as clients: what sonde says of both ends is what the server says of itself
// (pg_stat_statements, asked for over a Unix socket, which is not looked at) and what pgbench counted.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, globSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  bothEnds,
  type Counts,
  freePort,
  output,
  outputOf,
  rowsAt,
  sums,
  turnedAway,
} from '../../test/db.ts';
import { type Live, lacks, NO_LIVE, startLive } from '../../test/live.ts';
import { lacksProgram } from '../../test/peer.ts';
import { bytesOf, message, query, startup } from './testing.ts';

const BIN = globSync('/usr/lib/postgresql/*/bin').at(-1) ?? '';
const USER = spawnSync('id', ['-u', 'postgres'], { encoding: 'utf8' }).stdout.trim();
const NO_POSTGRESQL =
  NO_LIVE ||
  lacksProgram('setpriv') ||
  ((BIN === '' || USER === '') && 'needs postgresql and its user');
const PATIENCE_MS = 60_000;
const TRANSACTIONS = 50;
const CLIENTS = 4;

interface Postgresql {
  readonly port: number;
  /** A query's answer, one line a row, asked for where sonde does not look. */
  ask(sql: string): Promise<string>;
  /** psql over TCP, fed these lines. */
  psql(lines: string, words?: readonly string[]): Promise<string>;
  /** pgbench over TCP; its report. */
  pgbench(words: readonly string[]): Promise<string>;
}

const AS_USER = ['--reuid', USER, '--clear-groups'];

async function ready(folder: string, port: number, server: ChildProcess): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  const words = ['-h', folder, '-p', `${port}`, '-d', 'postgres'];
  while (spawnSync(join(BIN, 'pg_isready'), words).status !== 0) {
    assert.equal(server.exitCode, null, 'the server has ended');
    assert.ok(Date.now() < end, 'the server does not answer');
    await delay(50);
  }
}

async function startPostgresql(t: TestContext): Promise<Postgresql> {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-postgresql-'));
  const data = join(folder, 'data');
  spawnSync('chown', [USER, folder]);
  chmodSync(folder, 0o755);
  const port = await freePort();
  const as = (program: string, words: readonly string[]): string[] => [
    ...[...AS_USER, '--', join(BIN, program), ...words],
  ];
  await output('setpriv', as('initdb', ['-D', data, '-A', 'trust', '-U', 'postgres', '-N']));
  const settings = {
    ...{ port, unix_socket_directories: folder, listen_addresses: '127.0.0.1', fsync: 'off' },
    ...{ shared_preload_libraries: 'pg_stat_statements', 'pg_stat_statements.track': 'top' },
    ...{ 'pg_stat_statements.track_utility': 'on', autovacuum: 'off' },
  };
  const words = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const server = spawn('setpriv', as('postgres', ['-D', data, ...words]), { stdio: 'ignore' });
  t.after(async () => {
    server.kill('SIGQUIT');
    if (server.exitCode === null) await once(server, 'close');
    rmSync(folder, { recursive: true });
  });
  await ready(folder, port, server);
  const ask = (sql: string) =>
    output(join(BIN, 'psql'), ['-h', folder, '-p', `${port}`, '-U', 'postgres', '-XAtc', sql]);
  await ask('CREATE EXTENSION pg_stat_statements');
  const over_tcp = ['-h', '127.0.0.1', '-p', `${port}`, '-U', 'postgres'];
  return {
    port,
    ask,
    psql: (lines, more = []) => outputOf(join(BIN, 'psql'), [...over_tcp, '-XAt', ...more], lines),
    pgbench: (more) => output(join(BIN, 'pgbench'), [...over_tcp, ...more, 'postgres']),
  };
}

function start(t: TestContext, port: number): Promise<Live> {
  const collector = {
    postgresql: { ports: [port] },
    probes: { postgresql: { enabled: true } },
    ring_bytes: 64 << 20,
  };
  return startLive(t, { collector });
}

/** Calls by first word, as the server has counted them. */
async function truth({ ask }: Postgresql): Promise<Counts> {
  const calls: Counts = {};
  const rows = await ask(
    "SELECT upper(substring(query from '^\\s*(\\w+)')), sum(calls) FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' GROUP BY 1",
  );
  for (const line of rows.trim().split('\n')) {
    const [word = '', count] = line.split('|');
    calls[word] = Number(count);
  }
  return calls;
}

for (const mode of ['simple', 'extended', 'prepared']) {
  test(`pgbench, ${mode}: the server says the same`, { skip: NO_POSTGRESQL }, async (t) => {
    const postgresql = await startPostgresql(t);
    await postgresql.pgbench(['-i', '-q', '-s', '1']);
    const live = await start(t, postgresql.port);
    const why = lacks(live, 'postgresql');
    if (why !== false) return t.skip(why);
    await postgresql.ask('SELECT pg_stat_statements_reset()');
    const words = ['-c', `${CLIENTS}`, '-t', `${TRANSACTIONS}`, '-M', mode, '-n'];
    const report = await postgresql.pgbench(words);
    const total = CLIENTS * TRANSACTIONS;
    assert.match(report, new RegExp(`actually processed: ${total}/${total}`));
    const calls = await truth(postgresql);
    assert.equal(calls.UPDATE, 3 * total);
    // Of statements without a plan that are run again, the server counts the first run alone; and END is COMMIT to it.
    const { END, ...rest } = calls;
    assert.ok(END);
    await bothEnds(live, postgresql.port, { ...rest, BEGIN: total, COMMIT: total });
    assert.deepEqual(turnedAway(live), {});
    for (const direction of ['incoming', 'outgoing']) {
      const rows = rowsAt(live, postgresql.port, direction);
      const name = direction === 'incoming' ? 'postgres' : 'pgbench';
      for (const row of rows) {
        assert.deepEqual([row.process_name, row.db_system_name], [name, 'postgresql']);
        assert.equal(row.latency_count, row.count);
        assert.ok(Number(row.duration) >= Number(row.latency_max));
      }
    }
    assert.deepEqual(live.collector.ledger.imbalance(), []);
  });
}

const LINES = `
CREATE TABLE t (a int PRIMARY KEY, b text);
INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 2000) i;
SELECT * FROM t;
SELECT * FROM nowhere;
SELEC 1;
INSERT INTO t VALUES (1, 'again');
-- a comment
/* and /* another */ */ UPDATE t SET b = 'y' WHERE a = 1;
DO $$ BEGIN RAISE NOTICE 'told'; END $$;
SELECT 1 \\; SELECT 2 \\; SELECT 1/0 \\; SELECT 3;
COPY t FROM STDIN;
3001\tz
3002\tz
\\.
COPY t FROM STDIN;
3001\ttwice
\\.
COPY (SELECT * FROM t) TO STDOUT;
`;

test('statements of psql: errors, notices, copies, several in one', { skip: NO_POSTGRESQL }, psql);

async function psql(t: TestContext): Promise<void> {
  const postgresql = await startPostgresql(t);
  const live = await start(t, postgresql.port);
  await postgresql.psql(LINES);
  await bothEnds(live, postgresql.port, {
    ...{ CREATE: 1, INSERT: 1, SELECT: 3, 'SELECT 42P01': 1, 'SELEC 42601': 1, UPDATE: 1 },
    ...{ 'INSERT 23505': 1, DO: 1, 22012: 1, COPY: 2, 'COPY 23505': 1 },
  });
  assert.deepEqual(turnedAway(live), {});
  const rows = rowsAt(live, postgresql.port, 'outgoing');
  const read = sums(rows, 'bytes_read');
  assert.ok(read.SELECT! > 2000 * 200 && read.COPY! > 1999 * 200);
  assert.ok(sums(rows, 'bytes_written').COPY! > 2 * 'copy t from stdin;'.length);
}

async function until(socket: Socket, text: string, end: string, times = 1): Promise<void> {
  let said = '';
  socket.on('data', (bytes: Buffer) => {
    said += bytes.toString('latin1');
  });
  socket.write(text, 'latin1');
  const signal = AbortSignal.timeout(PATIENCE_MS);
  while (said.split(end).length <= times) await once(socket, 'data', { signal });
  socket.removeAllListeners('data');
}

const READY = 'Z\0\0\0\u0005';
const parse = (sql: string): string => message('P', `\0${sql}\0\0\0`);
const bind = message('B', '\0\0\0\0\0\0\0\0');
const execute = message('E', '\0\0\0\0\0');
const sync = message('S', '');
const run = (sql: string): string => parse(sql) + bind + message('D', 'P\0') + execute;

test(
  'pipelines of the extended query, and requests for encryption',
  { skip: NO_POSTGRESQL },
  pipes,
);

async function pipes(t: TestContext): Promise<void> {
  const postgresql = await startPostgresql(t);
  const live = await start(t, postgresql.port);
  const socket = connect(postgresql.port, '127.0.0.1').setNoDelay(true);
  await once(socket, 'connect');
  await until(socket, bytesOf(8, 80_877_103), 'N');
  await until(socket, startup('postgres'), READY);
  await until(socket, run('SELECT 1') + run('SELECT 2') + run('SHOW all') + sync, READY);
  await until(socket, (run('SELECT 1') + sync).repeat(20), READY, 20);
  await until(socket, run('SELECT 1') + run('SELECT 1/0') + run('SELECT 3') + sync, READY);
  await until(socket, parse('SELECT nothing') + sync + query('SELECT 5'), READY, 2);
  for (const byte of query('VALUES (1)')) socket.write(byte);
  await until(socket, '', READY);
  socket.end(message('X', ''));
  await bothEnds(live, postgresql.port, {
    ...{ SELECT: 25, SHOW: 1, 'SELECT 22012': 1, 'SELECT 42703': 1 },
  });
  assert.deepEqual(turnedAway(live), { 'db_commands_skipped kept': 2 });
}

test('a connection that the server ends: FATAL counts once, though the client stays', {
  skip: NO_POSTGRESQL,
}, async (t) => {
  const postgresql = await startPostgresql(t);
  const live = await start(t, postgresql.port);
  const end = 'SELECT pg_terminate_backend(pg_backend_pid())';
  for (const asked of [query(end), query(`BEGIN; ${end}`), run(end) + sync]) {
    const socket = connect({ port: postgresql.port, host: '127.0.0.1', allowHalfOpen: true });
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    await until(socket, startup('postgres'), READY);
    await until(socket, asked, '57P01');
  }
  const counts = { 'SELECT 57P01': 2, BEGIN: 1, '57P01': 1 };
  await bothEnds(live, postgresql.port, counts);
  assert.deepEqual(turnedAway(live), {});
});
