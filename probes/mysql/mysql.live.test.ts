// A real MariaDB with its own programs and others as clients: what sonde says of both ends is what the server says of itself.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { bothEnds, type Counts, output, rowsAt, sums, turnedAway } from '../../test/db.ts';
import { lacks } from '../../test/live.ts';
import {
  asServer,
  LOGIN,
  NO_MARIADB,
  startMariadb,
  startMysql,
  status,
} from '../../test/mariadb.ts';
import { lacksProgram } from '../../test/peer.ts';

const NO_SYSBENCH = NO_MARIADB || lacksProgram('sysbench');
const EVENTS = 1000;
const SLAPS = 8000;

const LINES = (file: string): string => `
CREATE TABLE t (a int PRIMARY KEY, b longtext);
INSERT INTO t SELECT seq, repeat('x', 200) FROM seq_1_to_2000;
SELECT * FROM t;
SELECT * FROM nowhere;
SELEC 1;
INSERT INTO t VALUES (1, 'again');
-- a comment
/* and another */ UPDATE t SET b = 'y' WHERE a = 1;
/*!40101 SET NAMES utf8mb4 */;
(SELECT 1) UNION (SELECT 2);
delimiter //
CREATE PROCEDURE p() BEGIN SELECT 1; SELECT a FROM t; SELECT 3; END //
CREATE PROCEDURE q() BEGIN SELECT 1; SELECT * FROM nowhere; SELECT 3; END //
delimiter ;
CALL p();
CALL q();
SELECT repeat('z', 17000000);
INSERT INTO t VALUES (3001, '${'long '.repeat(3_500_000)}');
LOAD DATA LOCAL INFILE '${file}' INTO TABLE t;
LOAD DATA LOCAL INFILE '/does/not/exist' INTO TABLE t;
USE mysql;
PREPARE s FROM 'SELECT 4';
EXECUTE s;
SIGNAL SQLSTATE '45000';
`;

test(
  'statements of mariadb: errors, files, procedures, long values',
  { skip: NO_MARIADB },
  statements,
);

async function statements(t: TestContext): Promise<void> {
  const server = await startMariadb(t);
  const live = await startMysql(t, server.port);
  const why = lacks(live, 'mysql');
  if (why !== false) return t.skip(why);
  const file = join(server.folder, 'rows');
  const rows = Array.from({ length: 10_000 }, (_, i) => `${10_000 + i}\t${'w'.repeat(400)}\n`);
  writeFileSync(file, rows.join(''));
  await server.mariadb(LINES(file), ['-f', '--local-infile', '--max-allowed-packet=64M']);
  await bothEnds(live, server.port, {
    ...{ CREATE: 3, INSERT: 2, 'INSERT 1062': 1, SELECT: 4, 'SELECT 1146': 1, 'SELEC 1064': 1 },
    ...{ UPDATE: 1, SET: 1, CALL: 1, 'CALL 1146': 1, LOAD: 2, INIT_DB: 1, PREPARE: 1, EXECUTE: 1 },
    ...{ 'SIGNAL 1644': 1, QUIT: 1 },
  });
  await asServer(live, server, 'app');
  // of the long values alone, which stay exact
  const { 'db_bytes_passed_over kept': _, ...others } = turnedAway(live);
  assert.deepEqual(others, {});
  const outgoing = rowsAt(live, server.port, 'outgoing');
  const [read, written] = [sums(outgoing, 'bytes_read'), sums(outgoing, 'bytes_written')];
  assert.ok(read.SELECT! > 17_000_000 + 2000 * 200, `SELECT read ${read.SELECT}`);
  assert.ok(written.INSERT! > 17_500_000, `INSERT wrote ${written.INSERT}`);
  assert.ok(written.LOAD! > rows.join('').length, `LOAD wrote ${written.LOAD}`);
  for (const direction of ['incoming', 'outgoing']) {
    const name = direction === 'incoming' ? 'mariadbd' : 'mariadb';
    for (const row of rowsAt(live, server.port, direction)) {
      assert.deepEqual([row.process_name, row.db_system_name], [name, 'mysql']);
      assert.equal(row.latency_count, row.db_operation_name === 'QUIT' ? 0 : row.count);
      assert.ok(Number(row.duration) >= Number(row.latency_max ?? 0));
    }
  }
  assert.deepEqual(live.collector.ledger.imbalance(), []);
}

test('sysbench, prepared statements as fast as they go', { skip: NO_SYSBENCH }, sysbench);

async function sysbench(t: TestContext): Promise<void> {
  const server = await startMariadb(t, ['--innodb-flush-log-at-trx-commit=0']);
  const at = ['--mysql-host=127.0.0.1', `--mysql-port=${server.port}`, '--mysql-user=app'];
  const words = [...at, '--mysql-password=secret', '--mysql-db=d', '--table-size=1000'];
  const run = (...more: string[]) => output('sysbench', ['oltp_read_write', ...words, ...more]);
  await run('prepare');
  const live = await startMysql(t, server.port);
  const before = await status(server);
  await server.ask('TRUNCATE performance_schema.events_statements_summary_by_user_by_event_name');
  await run('--threads=4', `--events=${EVENTS}`, '--time=0', 'run');
  const after = await status(server);
  const since = (name: string): number => after[name]! - before[name]!;
  const executed: Counts = {};
  for (const word of ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'BEGIN', 'COMMIT', 'ROLLBACK']) {
    const count = since(`Com_${word.toLowerCase()}`);
    if (count > 0) executed[word] = count;
  }
  const statements = Object.values(executed).reduce((sum, count) => sum + count, 0);
  assert.ok(executed.SELECT! >= 14 * EVENTS && statements >= 20 * EVENTS);
  assert.equal(since('Com_stmt_execute'), statements);
  await asServer(live, server, 'app', executed);
  assert.deepEqual(turnedAway(live), {});
}

test('mariadb-slap, statements in text as fast as they go', { skip: NO_MARIADB }, async (t) => {
  const server = await startMariadb(t);
  await server.ask('USE d; CREATE TABLE t (a int); INSERT INTO t SELECT seq FROM seq_1_to_50');
  const live = await startMysql(t, server.port);
  const before = await status(server);
  const sql = 'SELECT * FROM t;DELETE FROM t LIMIT 1;INSERT INTO t VALUES (1);DO 1';
  const words = ['--no-defaults', '-h127.0.0.1', `-P${server.port}`, ...LOGIN, '--silent'];
  const load = ['--create-schema=d', '--no-drop', '-c8', '-i4', `--number-of-queries=${SLAPS}`];
  await output('mariadb-slap', [...words, ...load, '--delimiter=;', `-q${sql}`]);
  const since = (await status(server)).Com_insert! - before.Com_insert!;
  assert.equal(since, SLAPS);
  await asServer(live, server, 'app');
  assert.deepEqual(turnedAway(live), {});
});
