// A real MariaDB for live tests, and what it says of itself: commands by user from its performance_schema, and SHOW STATUS,
// asked for over a Unix socket, which is not looked at.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Counts, freePort, output, outputOf, rowsAt, sums } from './db.ts';
import { type Live, NO_LIVE, settles, startLive } from './live.ts';
import { lacksProgram } from './peer.ts';

const USER = spawnSync('id', ['-u', 'mysql'], { encoding: 'utf8' }).stdout.trim();
const PROGRAMS = ['mariadbd', 'mariadb', 'mariadb-install-db', 'setpriv'];
export const NO_MARIADB =
  NO_LIVE || lacksProgram(...PROGRAMS) || (USER === '' && 'needs the user mysql');
const PATIENCE_MS = 60_000;
const RING_BYTES = 128 << 20;

export interface Mariadb {
  readonly port: number;
  readonly folder: string;
  /** A query's answer, one line a row, asked for where sonde does not look. */
  ask(sql: string): Promise<string>;
  /** The client `mariadb` over TCP, fed these lines. */
  mariadb(lines: string, words?: readonly string[]): Promise<string>;
}

const AS_USER = ['--reuid', USER, '--clear-groups', '--'];
export const LOGIN = ['-uapp', '-psecret'];

/** `files`: makes more in its folder, and says what the server is told of them. */
export async function startMariadb(
  t: TestContext,
  more: readonly string[] = [],
  files = (_: string): readonly string[] => [],
): Promise<Mariadb> {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-mysql-'));
  spawnSync('chown', [USER, folder]);
  chmodSync(folder, 0o755);
  const [port, socket] = [await freePort(), join(folder, 'socket')];
  const data = [`--datadir=${join(folder, 'data')}`, '--innodb-flush-method=nosync'];
  const install = ['--auth-root-authentication-method=normal', '--skip-test-db'];
  const sizes = ['--innodb-log-file-size=8M', '--innodb-buffer-pool-size=32M'];
  const made = ['mariadb-install-db', '--no-defaults', ...data, ...install, ...sizes];
  await output('setpriv', [...AS_USER, ...made]);
  const words = [
    ...['mariadbd', '--no-defaults', ...data, ...sizes, `--port=${port}`, `--socket=${socket}`],
    ...['--bind-address=127.0.0.1', '--performance-schema=ON', '--skip-name-resolve'],
    ...['--local-infile=1', '--max-allowed-packet=64M', `--pid-file=${folder}/pid`, ...more],
    ...files(folder),
  ];
  const server = spawn('setpriv', [...AS_USER, ...words], { stdio: 'ignore' });
  t.after(async () => {
    server.kill('SIGKILL');
    if (server.exitCode === null && server.signalCode === null) await once(server, 'close');
    rmSync(folder, { recursive: true });
  });
  const root = ['--no-defaults', '-S', socket, '-uroot', '-BN'];
  const end = Date.now() + PATIENCE_MS;
  while (spawnSync('mariadb', [...root, '-e', 'SELECT 1']).status !== 0) {
    assert.equal(server.exitCode, null, 'the server has ended');
    assert.ok(Date.now() < end, 'the server does not answer');
    await delay(50);
  }
  const ask = (sql: string) => output('mariadb', [...root, '-e', sql]);
  await ask(`CREATE USER app@127.0.0.1 IDENTIFIED BY 'secret'; CREATE USER raw@127.0.0.1;
    GRANT ALL ON *.* TO app@127.0.0.1; GRANT ALL ON *.* TO raw@127.0.0.1; CREATE DATABASE d;`);
  const over_tcp = ['--no-defaults', '-h127.0.0.1', `-P${port}`, ...LOGIN, '-BN', 'd'];
  return {
    ...{ port, folder, ask },
    mariadb: (lines, words = []) => outputOf('mariadb', [...over_tcp, ...words], lines),
  };
}

export function startMysql(t: TestContext, port: number): Promise<Live> {
  const collector = {
    mysql: { ports: [port] },
    probes: { mysql: { enabled: true } },
    ring_bytes: RING_BYTES,
  };
  return startLive(t, { collector });
}

/** What the server calls a command → what it is to sonde; of SQL the first word is the same. */
const COMMANDS: Readonly<Record<string, string>> = {
  ...{ Prepare: 'STMT_PREPARE', Execute: 'EXECUTE', Fetch: 'STMT_FETCH' },
  ...{ 'Close stmt': 'STMT_CLOSE', 'Reset stmt': 'STMT_RESET', 'Long Data': 'STMT_SEND_LONG_DATA' },
  ...{ 'Field List': 'FIELD_LIST', 'Change user': 'CHANGE_USER', call_procedure: 'CALL' },
  ...{ error: 'SELEC', change_db: 'USE' },
};

/** Commands of a user over TCP by what they are called, with those that failed behind `failed`. */
async function truth({ ask }: Mariadb, user: string): Promise<Counts> {
  const rows = await ask(`SELECT SUBSTRING_INDEX(EVENT_NAME, '/', -2), COUNT_STAR, SUM_ERRORS
    FROM performance_schema.events_statements_summary_by_user_by_event_name
    WHERE USER = '${user}' AND COUNT_STAR > 0 AND EVENT_NAME NOT LIKE 'statement/sp/%'`);
  const counts: Counts = {};
  for (const line of rows.trim().split('\n')) {
    const [name = '', count, failed] = line.split('\t');
    const [of, last = ''] = name.split('/');
    const word = of === 'sql' ? last.split('_')[0]! : last.replaceAll(' ', '_');
    const key = COMMANDS[last] ?? word.toUpperCase();
    counts[key] = (counts[key] ?? 0) + Number(count);
    if (Number(failed) > 0) counts.failed = (counts.failed ?? 0) + Number(failed);
  }
  return counts;
}

/** Of one end, by command whatever came of it; those that failed as the truth has them. */
function byCommand(live: Live, port: number, direction: string): Counts {
  const all: Counts = {};
  for (const [key, count] of Object.entries(sums(rowsAt(live, port, direction)))) {
    const [name = '', error] = key.split(' ');
    all[name] = (all[name] ?? 0) + count;
    if (error !== undefined) all.failed = (all.failed ?? 0) + count;
  }
  return all;
}

/** At both ends as the server says; `rename`: what it calls executions otherwise. */
export async function asServer(
  live: Live,
  server: Mariadb,
  user: string,
  executed: Counts = {},
): Promise<void> {
  const expected = await truth(server, user);
  for (const [word, count] of Object.entries(executed)) {
    expected[word] = (expected[word] ?? 0) + count;
    expected.EXECUTE = (expected.EXECUTE ?? 0) - count;
  }
  if (expected.EXECUTE === 0) delete expected.EXECUTE;
  const seen = (direction: string) => sorted(byCommand(live, server.port, direction));
  await settles(
    () => live.collector.flush(),
    () => ({ incoming: seen('incoming'), outgoing: seen('outgoing') }),
    { incoming: sorted(expected), outgoing: sorted(expected) },
  );
}

const sorted = (counts: Counts): Counts =>
  Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));

/** What the server has counted since it began, whoever asked; the test asks by SHOW alone. */
export async function status({ ask }: Mariadb): Promise<Counts> {
  const lines = (await ask('SHOW GLOBAL STATUS')).trim().split('\n');
  const pairs = lines.map((line) => line.split('\t'));
  return Object.fromEntries(pairs.map(([name, value]) => [name, Number(value)]));
}
