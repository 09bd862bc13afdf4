// What a user's SQL may do: the guard's own verdicts, and then the engine behind it, tried with real files.

import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { netflow } from '../../probes/netflow.ts';
import { Store } from './client.ts';
import { refusal, withoutEnd } from './guard.ts';
import { collect } from './query.ts';
import { flowBatch, rowsOf, temporaryDir } from './testing.ts';

const dir = temporaryDir();
const secret = join(dir.path, 'secret.csv');
const out = join(dir.path, 'out.csv');
let store: Store;

before(async () => {
  store = await Store.open({ target: { dir: join(dir.path, 'store') }, tables: [netflow] });
  await store.insert(flowBatch(1, 10, Date.now()));
  writeFileSync(secret, 'word\nhush\n');
});
after(async () => {
  await store.close();
  dir.remove();
});

const allowed = [
  'SELECT 1',
  'select count() from netflow;',
  "SELECT 'DROP TABLE x; INTO OUTFILE' AS a -- INTO OUTFILE\n, 2 /* file('x') */",
  'WITH a AS (SELECT 1 AS x) SELECT * FROM a',
  '(SELECT 1) UNION ALL (SELECT 2)',
  'SHOW TABLES',
  "SHOW SETTINGS LIKE 'max_threads'",
  'FROM netflow SELECT count()',
  'SELECT 1 AS format',
  'SELECT format, settings FROM (SELECT 1 AS format, 2 AS settings) ORDER BY format DESC',
  'SELECT host AS settings FROM netflow GROUP BY settings',
  'DESCRIBE TABLE netflow',
  'EXPLAIN SELECT 1',
  'SELECT * FROM numbers(3)',
  'SELECT * FROM system.settings LIMIT 1',
  'SELECT format(\'{}\', host) AS f, `bytes_read`, "host" FROM netflow',
  'SELECT quantile(0.5)(bytes_read) FROM (SELECT * FROM netflow) AS n JOIN netflow AS m USING (pid)',
  "SELECT table FROM (SELECT table FROM system.columns WHERE table in ('netflow') LIMIT 1)",
  "SELECT count() FROM system.columns WHERE table NOT IN ('a') AND table LIKE ('n%') AND (1)",
  'SELECT table, count() FROM system.columns GROUP BY table HAVING (count() > 1)',
  'SELECT table FROM system.columns ORDER BY table DESC LIMIT (1)',
];

const writes = [
  'INSERT INTO netflow (host) VALUES (1)',
  'DROP TABLE netflow',
  'TRUNCATE TABLE netflow',
  'ALTER TABLE netflow DELETE WHERE 1',
  'CREATE TABLE z (a Int8) ENGINE = Memory',
  'CREATE TEMPORARY TABLE z (a Int8)',
  'SET readonly = 0',
  'SYSTEM SHUTDOWN',
  'KILL QUERY WHERE 1',
  'USE system',
  'SELECT 1; DROP TABLE netflow',
  'SELECT 1 SETTINGS readonly = 0',
  'SELECT 1 AS settings, 2 SETTINGS max_threads = 2',
  'SELECT 1 SETTINGS `readonly` = 0',
  'SELECT 1 SETTINGS allow_introspection_functions',
  'SELECT * FROM (SELECT 1 SETTINGS allow_ddl, max_threads = 2)',
  'SELECT 1 FORMAT TSV',
  'SELECT * FROM netflow FORMAT TSV;',
  'FROM netflow INSERT INTO netflow SELECT *',
  `SELECT 1 INTO OUTFILE '${out}'`,
  `SELECT 1 INTO/**/OUTFILE '${out}'`,
  `INSERT INTO FUNCTION file('${out}', 'CSV', 'a UInt8') SELECT 1`,
];

const reaches = [
  `SELECT * FROM file('${secret}')`,
  `SELECT * FROM numbers(1), file('${secret}')`,
  `SELECT file('${secret}')`,
  `SELECT FILE ('${secret}')`,
  `SELECT \`file\`('${secret}')`,
  `SELECT "file"('${secret}')`,
  `SELECT \`fi\\x6ce\`('${secret}')`,
  `SELECT file/* */('${secret}')`,
  `SELECT file\u200b('${secret}')`,
  `SELECT \u201cfile\u201d('${secret}')`,
  `DESCRIBE file('${secret}')`,
  `DESCRIBE TABLE file('${secret}')`,
  `SELECT * FROM eval('SELECT 1')`,
  'SELECT table FROM nosuch(1)',
  `SELECT table IN (1) FROM file('${secret}')`,
  `SELECT table FROM format('LineAsString', 'a')`,
  `SELECT * FROM \`${secret}\``,
  `SELECT * FROM '${secret}'`,
  `DESCRIBE TABLE \`${secret}\``,
  "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
  "SELECT * FROM remote('127.0.0.1', system.one)",
  "SELECT * FROM s3('http://127.0.0.1:9/a/b')",
  "SELECT * FROM executable('id', 'TSV', 'a String')",
  "SELECT * FROM mysql('127.0.0.1:9', 'a', 'b', 'c', 'd')",
  "SELECT catboostEvaluate('/etc/passwd', 1)",
  `FROM file('${secret}') SELECT *`,
  'SELECT sleep(3)',
];

/** Refused for what they are. */
const words: readonly (readonly [string, RegExp])[] = [
  ["SELECT throwIf(1, 'a')", /throwif\(\) is not allowed: it is there to fail/],
  ['SELECT sleep(3)', /it takes time and finds out nothing/],
  ["SELECT getSetting('max_threads')", /it tells of the engine/],
  ["SELECT dictGet('a', 'b', 1)", /the store has no dictionaries/],
  ["SELECT * FROM generateRandom('a Int8')", /none of those that are allowed: numbers, /],
  [`SELECT * FROM url('http://127.0.0.1:9/')`, /it reaches beyond the store/],
  ['SELECT 1 FORMAT TSV', /FORMAT is chosen outside the query/],
];

for (const sql of allowed) {
  test(`allowed: ${sql.replaceAll('\n', ' ')}`, async () => {
    assert.equal(refusal(sql), undefined);
    await rowsOf(store, sql);
  });
}

for (const sql of [...writes, ...reaches]) {
  test(`refused: ${JSON.stringify(sql).replaceAll(dir.path, '')}`, async () => {
    const result = await collect(await store.query(sql, 'csv'));
    assert.ok(!Buffer.isBuffer(result), String(result));
    const reasons = ['refused', 'syntax', 'unknown_name'];
    assert.ok(reasons.includes(result.reason), `${result.reason}: ${result.message}`);
    assert.doesNotMatch(result.message, /hush/);
    assert.equal(existsSync(out), false);
  });
}

test('the guard itself knows a clause of settings', () => {
  for (const sql of writes.filter((text) => text.includes(' SETTINGS '))) {
    assert.match(refusal(sql)?.message ?? '', /SETTINGS is not allowed/, sql);
  }
});

for (const [sql, message] of words) {
  test(`refused in true words: ${sql}`, () => {
    assert.match(refusal(sql)?.message ?? '', message);
  });
}

test('an unknown table, column or function is no fault of syntax', async () => {
  for (const sql of ['SELECT 1 FROM nowhere', 'SELECT nothing FROM netflow', 'SELECT nil(1)']) {
    const result = await store.query(sql, 'csv');
    assert.equal(!result.ok && result.reason, 'unknown_name', sql);
  }
});

test('the store is as it was, and takes batches still', async () => {
  assert.equal((await store.insert(flowBatch(2, 10, Date.now()))).ok, true);
  assert.deepEqual(await rowsOf(store, 'SELECT count() AS n FROM netflow'), [{ n: 20 }]);
});

test('an error names its place in the text', async () => {
  const result = await store.query('SELECT 1,\n  2 FRM netflow WHERE', 'csv');
  assert.ok(!result.ok);
  assert.equal(result.reason, 'syntax');
  assert.deepEqual(result.position?.line, 2);
  const refused = await store.query('SELECT 1\nSETTINGS max_threads = 1', 'csv');
  assert.ok(!refused.ok);
  assert.deepEqual(refused.position, { offset: 9, line: 2, column: 1 });
});

test('limits end a query: time, memory, size', async () => {
  const cases = [
    ['time', 'SELECT sum(sipHash64(number)) FROM numbers(1000000000000)', { time_s: 1 }],
    ['memory', 'SELECT groupArray(number) FROM numbers(100000000)', { memory_bytes: 50_000_000 }],
    ['too_large', 'SELECT * FROM numbers(1000000)', { result_bytes: 100_000 }],
  ] as const;
  for (const [reason, sql, limits] of cases) {
    const result = await collect(await store.query(sql, 'csv', limits));
    assert.ok(!Buffer.isBuffer(result));
    assert.equal(result.reason, reason, result.message);
  }
});

test('slow queries do not hold up intake', async () => {
  const order: string[] = [];
  const sql = 'SELECT sum(sipHash64(number)) FROM numbers(1000000000000)';
  // More than there are places: the rest waits in line, the engine's threads are not all taken.
  const slow = [1, 2, 3, 4].map(async () => {
    await collect(await store.query(sql, 'csv', { time_s: 8 }));
    order.push('query');
  });
  const inserts = [3, 4, 5].map(async (seq) => {
    assert.equal((await store.insert(flowBatch(seq, 10, Date.now()))).ok, true);
    order.push('insert');
  });
  await Promise.all([...slow, ...inserts]);
  assert.deepEqual(order.slice(0, 3), ['insert', 'insert', 'insert']);
});

test('formats: table, json, csv and arrow', async () => {
  const sql = "SELECT 9007199254740991 AS big, 'a,b' AS text";
  const text = async (format: 'table' | 'json' | 'csv') =>
    String(await collect(await store.query(sql, format)));
  assert.match(await text('table'), /│ 9007199254740991 │ a,b {2}│/);
  assert.deepEqual(JSON.parse(await text('json')), [{ big: 9007199254740991, text: 'a,b' }]);
  assert.equal(await text('csv'), '"big","text"\n9007199254740991,"a,b"\n');
  const nulls = await collect(await store.query("SELECT NULL AS a, '' AS b, 1 AS c", 'csv'));
  assert.equal(String(nulls), '"a","b","c"\n,"",1\n');
  const arrow = await collect(await store.query('SELECT host FROM netflow LIMIT 2', 'arrow'));
  assert.ok(Buffer.isBuffer(arrow));
  const { tableFromIPC } = await import('apache-arrow');
  assert.deepEqual(tableFromIPC(arrow).getChild('host')?.toArray().length ?? 2, 2);
});

test('the end of a statement is taken off, with what follows it', () => {
  assert.equal(withoutEnd('SELECT 1; -- done'), 'SELECT 1');
  assert.equal(withoutEnd("SELECT ';'"), "SELECT ';'");
});
