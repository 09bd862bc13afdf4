// What is said to PostgreSQL and by it → statements, however it is cut, and whatever it is.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { TalkSink } from '../db/talk.ts';
import { hear, type Said } from '../db/testing.ts';
import { keywordOf } from './messages.ts';
import { PostgresqlTalk } from './talk.ts';
import { bytesOf, message, query, startup } from './testing.ts';

const SEED = 20_260_212;
const make = (sink: TalkSink): PostgresqlTalk => new PostgresqlTalk(sink);

const ready = message('Z', 'I');
const tag = (text: string): string => message('C', `${text}\0`);
const failed = (code: string): string =>
  message('E', `SERROR\0VERROR\0C${code}\0Mtext, C12345\0\0`);
const fatal = message('E', 'SFATAL\0VFATAL\0C57P01\0Mtext\0\0');
const notice = message('N', 'SNOTICE\0C00000\0Mtold\0\0');
const row = message('D', '\0\u0001\0\0\0\u0001x');
const parse = (sql: string, name = ''): string => message('P', `${name}\0${sql}\0\0\0`);
const bind = (name = ''): string => message('B', `\0${name}\0\0\0\0\0\0\0`);
const describe = message('D', 'P\0');
const execute = message('E', '\0\0\0\0\0');
const sync = message('S', '');
const run = (sql: string): string => parse(sql) + bind() + describe + execute;
const ran = (text: string): string =>
  message('1', '') + message('2', '') + message('T', '\0\0') + row + tag(text);

const BEGIN: Said = [
  ['>', bytesOf(8, 80_877_104)],
  ['<', 'N'],
  ['>', bytesOf(8, 80_877_103)],
  ['<', 'N'],
  ['>', startup('someone')],
  ['<', message('R', `${bytesOf(5)}salt`)],
  ['>', message('p', 'secret\0')],
  ['<', message('R', bytesOf(0)) + message('S', 'a\0b\0') + message('K', bytesOf(1, 2)) + ready],
];

const SAID: Said = [
  ...BEGIN,
  ['>', query('select 1')],
  ['<', message('T', '\0\0') + row + notice + tag('SELECT 1') + ready],
  ['>', query('BEGIN; INSERT 1; SELEC')],
  ['<', tag('BEGIN') + tag('INSERT 0 1') + failed('42601') + ready],
  ['>', query('/* one /* two */ */ -- three\n (UPDATE t')],
  ['<', failed('42P01') + ready],
  ['>', query(';')],
  ['<', message('I', '') + ready],
  ['>', run('SELECT 1') + run('DELETE') + sync + run('SHOW a') + sync],
  ['<', ran('SELECT 1') + ran('DELETE 0') + ready + ran('SHOW') + ready],
  ['>', parse('MERGE', 's') + message('D', 'Ss\0') + sync],
  ['<', message('1', '') + message('t', '\0\0') + message('n', '') + ready],
  ['>', bind('s') + execute + bind('s') + execute + sync],
  ['<', message('2', '') + tag('MERGE 1') + message('2', '') + failed('23505') + ready],
  ['>', run('SELECT 1') + run('SELECT 1/0') + run('SELECT 3') + sync + query('VALUES (1)')],
  ['<', ran('SELECT 1') + message('1', '') + failed('22012') + ready + tag('SELECT 1') + ready],
  ['>', parse('SELECT nothing') + message('H', '')],
  ['<', failed('42703')],
  ['>', bind() + execute + sync],
  ['<', ready],
  ['>', bind('s') + message('E', `\0${bytesOf(1)}`) + message('C', 'P\0') + sync],
  ['<', message('2', '') + row + message('s', '') + message('3', '') + ready],
  ['>', query('COPY t FROM STDIN')],
  ['<', message('G', '\0\0\0')],
  ['>', message('d', 'a row') + message('c', '')],
  ['<', tag('COPY 1') + ready],
  ['>', run('COPY t FROM STDIN') + sync],
  ['<', message('1', '') + message('2', '') + message('n', '') + message('G', '\0\0\0')],
  ['>', message('d', 'a row') + message('c', '') + sync],
  ['<', tag('COPY 1') + ready],
  ['>', query('COPY t TO STDOUT')],
  ['<', message('H', '\0\0\0') + message('d', 'a') + message('c', '') + tag('COPY 1') + ready],
  ['>', message('F', bytesOf(1))],
  ['<', message('V', bytesOf(-1 >>> 0)) + ready],
  ['<', message('A', bytesOf(1)) + failed('57P01')],
];
const COMMANDS = [
  ...['SELECT', 'BEGIN', 'INSERT', '42601', 'UPDATE 42P01', '', 'SELECT', 'DELETE', 'SHOW'],
  ...['MERGE', 'MERGE 23505', 'SELECT', 'SELECT 22012', 'SELECT', 'SELECT 42703', 'MERGE'],
  ...['COPY', 'COPY', 'COPY', 'FUNCTION_CALL'],
];

test('statements and their answers, cut after every number of bytes', () => {
  for (let piece = 1; piece < 200; piece += 1) {
    const heard = hear(make, SAID, piece);
    assert.deepEqual(heard.commands, COMMANDS, `pieces of ${piece}`);
    assert.deepEqual([heard.understood, heard.settled], ['ok', true]);
    assert.deepEqual(heard.notes, { db_commands_skipped: 2, db_errors_unasked: 1 });
  }
});

test('bytes and times are each statement’s own, with all that goes with it', () => {
  const asked = run('SELECT 1') + sync;
  const { whole } = hear(make, [
    ...BEGIN,
    ['>', asked],
    ['<', message('1', '')],
    ['<', message('2', '') + message('T', '\0\0') + row + tag('SELECT 1') + ready],
  ]);
  const [one] = whole;
  assert.ok(one);
  const after = BEGIN.length;
  assert.deepEqual(
    [one.begin_ns, one.first_ns, one.last_ns],
    [1, 2, 3].map((n) => n + after),
  );
  assert.equal(one.bytes_request, asked.length);
  assert.equal(whole.length, 1);
});

test('a FATAL error counts its statement once and at once, though nothing follows it', () => {
  const ends: readonly (readonly [Said, readonly string[]])[] = [
    [[['>', query('SELECT 1')]], ['SELECT 57P01']],
    [
      [
        ['>', query('BEGIN; SELECT 1')],
        ['<', tag('BEGIN')],
      ],
      ['BEGIN', '57P01'],
    ],
    [[['>', message('F', bytesOf(1))]], ['FUNCTION_CALL 57P01']],
    [[['>', run('SELECT 1') + sync]], ['SELECT 57P01']],
    [
      [
        ['>', run('SELECT 1') + sync],
        ['<', ran('SELECT 1')],
      ],
      ['SELECT 57P01'],
    ],
  ];
  for (const [said, commands] of ends) {
    const heard = hear(make, [...BEGIN, ...said, ['<', fatal]]);
    assert.deepEqual(heard.commands, commands);
    assert.deepEqual([heard.waiting, heard.settled, heard.notes], [[], true, {}]);
  }
});

test('an error ends a simple query, and what is said behind it is no statement’s', () => {
  const one: Said = [...BEGIN, ['>', query('SELECT 1')], ['<', failed('22012')]];
  assert.deepEqual(
    hear(make, one).waiting.map(({ operation }) => operation),
    ['SELECT'],
  );
  const heard = hear(make, [...one, ['<', fatal]]);
  assert.deepEqual([heard.commands, heard.waiting], [['SELECT 22012'], []]);
  assert.deepEqual(heard.notes, { db_errors_unasked: 1 });
  assert.equal(hear(make, [...one, ['<', tag('SELECT 1')]]).understood, 'lost');
});

test('what is encrypted, copied to a replica or of another version is not read', () => {
  const ends: readonly (readonly [Said, string])[] = [
    [
      [
        ['>', bytesOf(8, 80_877_103)],
        ['<', 'S'],
      ],
      'over',
    ],
    [[['>', '\u0016\u0003\u0001\u0002\0\u0001']], 'over'],
    [[['>', bytesOf(16, 80_877_102, 1, 2)]], 'over'],
    [[['>', bytesOf(8, 2 << 16)]], 'over'],
    [[...BEGIN, ['>', query('START_REPLICATION')], ['<', message('W', '\0\0\0')]], 'over'],
    [[...BEGIN, ['>', 'x']], 'lost'],
    [[...BEGIN, ['>', `Q${bytesOf(3)}`]], 'lost'],
    [[...BEGIN, ['>', `Q${bytesOf(0x7fffffff)}`]], 'lost'],
    [[...BEGIN, ['<', tag('SELECT 1')]], 'lost'],
    [[...BEGIN, ['>', query('SELECT 1')], ['<', message('1', '')]], 'lost'],
    [[...BEGIN, ['>', parse('SELECT 1')], ['<', message('2', '')]], 'lost'],
  ];
  for (const [said, understood] of ends) {
    assert.equal(hear(make, said).understood, understood, JSON.stringify(said.at(-1)));
  }
});

test('a statement that nobody answered waits, once', () => {
  const said: Said = [...BEGIN, ['>', run('SELECT 1') + sync + query('UPDATE t')]];
  const { waiting } = hear(make, said);
  assert.deepEqual(
    waiting.map(({ operation }) => operation),
    ['SELECT', 'UPDATE'],
  );
});

test('the first word of a statement', () => {
  const words = new Map([
    ['select', 'SELECT'],
    ['  \n(with x', 'WITH'],
    ['-- a\n--b\r\ncreate table', 'CREATE'],
    ['/* a', ''],
    ['SELECT1', ''],
    ['"quoted"', ''],
    [`/*${'*/ /*'.repeat(200)}*/ x`, 'X'],
  ]);
  for (const [sql, word] of words) assert.equal(keywordOf(Buffer.from(sql), 0), word, sql);
});

test(`any bytes, cut anywhere: nothing is thrown (seed ${SEED})`, () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary-ascii', maxLength: 40 }),
    fc.constantFrom(...SAID.map(([, each]) => each), ready, sync, 'Q', '\0\0\0\u0005'),
  );
  const side = fc.constantFrom<'>' | '<'>('>', '<');
  const any = fc.array(fc.tuple(side, text), { maxLength: 30 });
  fc.assert(
    fc.property(fc.boolean(), any, fc.nat(20), (begun, said, piece) => {
      const { whole, waiting } = hear(make, begun ? [...BEGIN, ...said] : said, piece + 1);
      for (const one of [...whole, ...waiting]) assert.ok(one.operation.length <= 24);
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('the inside of a message may be missing behind its beginning, and no more', () => {
  const insert = query(`INSERT INTO t VALUES ('${'v'.repeat(9000)}')`);
  const value = message('D', `\0\u0001\0\0#(${'v'.repeat(9000)}`);
  const rows = message('T', '\0\0');
  const heard = hear(make, [
    ...BEGIN,
    ['>', insert.slice(0, 60), insert.length - 60],
    ['<', tag('INSERT 0 1') + ready],
    ['>', query('SELECT 1')],
    ['<', rows + value.slice(0, 7), value.length - 10],
    ['<', value.slice(-3) + tag('SELECT 1') + ready],
  ]);
  assert.deepEqual([heard.commands, heard.settled], [['INSERT', 'SELECT'], true]);
  const [first, second] = heard.whole;
  const bytes = rows.length + value.length + tag('SELECT 1').length + ready.length;
  assert.deepEqual([first?.bytes_request, second?.bytes_response], [insert.length, bytes]);
  const more: Said = [...BEGIN, ['>', insert.slice(0, 60), insert.length - 59]];
  const head: Said = [...BEGIN, ['>', insert.slice(0, 9), 100]];
  for (const said of [more, head]) assert.equal(hear(make, said).understood, 'lost');
});
