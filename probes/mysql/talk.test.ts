// What is said to MySQL and by it → commands, however it is cut, and whatever it is.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { TalkSink } from '../db/talk.ts';
import { hear, type Said } from '../db/testing.ts';
import { keywordOf, PacketScanner } from './packets.ts';
import { MysqlTalk } from './talk.ts';
import {
  bytes,
  COMPRESS,
  command,
  DEPRECATE_EOF,
  execute,
  login,
  packet,
  packets,
  prepare,
  query,
  SSL,
} from './testing.ts';

const SEED = 20_260_214;
const make = (sink: TalkSink): MysqlTalk => new MysqlTalk(sink);
const [MORE, CURSOR] = [8, 64];
const LAST = 0xffff_ffff;

const ok = (status = 2): string => `\0\0\0${bytes(2, status)}\0\0`;
const end = (status = 2): string => `\xfe\0\0${bytes(2, status)}\0\0`;
const eof = (status = 2): string => `\xfe\0\0${bytes(2, status)}`;
const failed = (number: number): string => `\xff${bytes(2, number)}#42000text`;
const progress = `\xff\xff\xff\x01\x01\x02\0\0\0`;
const column = '\x03def\x01d\x01t\x01t\x01a\x01a\x0c?\0\x0b\0\0\0\x03\0\0\0\0\0';
const row = '\x011';
const prepared = (statement: number, columns: number, parameters: number): string =>
  `\0${bytes(4, statement)}${bytes(2, columns)}${bytes(2, parameters)}\0\0\0`;

function greeting(abilities: number): string {
  const [low, high] = [abilities & 0xffff, abilities >>> 16];
  const rest = `\0${bytes(2, low)}-\x02\0${bytes(2, high)}\x15${'\0'.repeat(10)}salt\0`;
  return packet(0, `\n5.5.5-10.11-MariaDB\0${bytes(4, 7)}saltsalt${rest}`);
}

const ALL = 0xffff_ffff & ~COMPRESS & ~(1 << 26);
function begin(abilities = 0, server = ALL): Said {
  return [
    ['<', greeting(server)],
    ['>', login('someone', abilities)],
    ['<', packet(2, '\xfecaching_sha2_password\0salt')],
    ['>', packet(3, 'secret')],
    ['<', packets(4, '\x01\x03', ok())],
  ];
}

const CLASSIC: Said = [
  ...begin(),
  ['>', query('select 1')],
  ['<', packets(1, '\x01', column, eof(), row, row, eof())],
  ['>', command(0x0e) + query('/* a */ UPDATE t') + query('SELEC')],
  ['<', packet(1, ok()) + packet(1, ok()) + packet(1, failed(1064))],
  ['>', query('CALL p()')],
  ['<', packets(1, '\x02', column, column, eof(), eof(MORE), '\x01', column, eof(), row)],
  ['<', packets(10, eof(MORE), ok())],
  ['>', query('SELECT a; SELECT b')],
  ['<', packets(1, '\x01', column, eof(), row, eof(MORE), failed(1146))],
  ['>', query('ALTER TABLE t')],
  ['<', packets(1, progress, progress, ok())],
  ['>', query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t")],
  ['<', packet(1, '\xfbf')],
  ['>', packets(2, 'some rows', 'some more', '')],
  ['<', packet(5, ok())],
  ['>', prepare('SELECT a FROM t WHERE a = ?')],
  ['<', packets(1, prepared(1, 1, 1), column, eof(), column, eof())],
  ['>', execute(1) + execute(2)],
  ['<', packets(1, '\x01', column, eof(), '\0\0\x01', eof()) + packet(1, failed(1243))],
  ['>', prepare('DELETE FROM t') + execute(LAST)],
  ['<', packet(1, prepared(2, 0, 0)) + packet(1, ok())],
  ['>', execute(1, 1)],
  ['<', packets(1, '\x01', column, eof(CURSOR))],
  ['>', command(0x1c, bytes(4, 1) + bytes(4, 9))],
  ['<', packets(1, '\0\0\x01', '\0\0\x01', eof(CURSOR))],
  ['>', command(0x18, `${bytes(4, 1)}\0\0long`) + command(0x19, bytes(4, 1)) + execute(1)],
  ['<', packet(1, failed(1243))],
  ['>', command(0x04, 't\0')],
  ['<', packets(1, column, column, eof())],
  ['>', command(0x09)],
  ['<', packet(1, 'Uptime: 1')],
  ['>', command(0x11, 'someone\0\0')],
  ['<', packet(1, '\xfecaching_sha2_password\0salt')],
  ['>', packet(2, 'secret')],
  ['<', packets(3, '\x01\x03', ok())],
  ['>', command(0x77)],
  ['<', packet(1, failed(1047))],
  ['>', command(0x02, 'd')],
  ['<', packet(1, ok())],
  ['<', packet(0, failed(4031))],
  ['>', command(0x01)],
];
const COMMANDS = [
  ...['SELECT', 'PING', 'UPDATE', 'SELEC 1064', 'CALL', 'SELECT 1146', 'ALTER', 'LOAD'],
  ...['STMT_PREPARE', 'SELECT', 'EXECUTE 1243', 'STMT_PREPARE', 'DELETE', 'SELECT', 'STMT_FETCH'],
  ...['STMT_SEND_LONG_DATA', 'STMT_CLOSE', 'EXECUTE 1243', 'FIELD_LIST', 'STATISTICS'],
  ...['CHANGE_USER', '<other> 1047', 'INIT_DB', 'QUIT'],
];

test('commands and their answers, cut after every number of bytes', () => {
  for (let piece = 1; piece < 200; piece += 1) {
    const heard = hear(make, CLASSIC, piece);
    assert.deepEqual(heard.commands, COMMANDS, `pieces of ${piece}`);
    assert.deepEqual([heard.understood, heard.settled], ['ok', true]);
    assert.deepEqual(heard.notes, { db_errors_unasked: 1 });
  }
});

test('without EOF, and where both ends know that definitions need not come', () => {
  const said: Said = [
    ...begin(DEPRECATE_EOF),
    ['>', query('SELECT 1')],
    ['<', packets(1, '\x01', column, end(MORE), '\x01\x01', column, row, end())],
    ['>', prepare('WITH x') + execute(LAST)],
    ['<', packets(1, prepared(1, 2, 1), column, column, column)],
    ['<', packets(1, '\xfc\x02\0\0', '\0\0\x01', end())],
    ['>', prepare('SHOW') + execute(1, 1)],
    ['<', packet(1, `${prepared(2, 2, 1)}\0`) + packets(1, '\x01', column, end(CURSOR))],
    ['>', query('\0\x01DO 1') + query('\x02\x01attributes')],
    ['<', packet(1, ok()) + packet(1, ok())],
  ];
  for (let piece = 1; piece < 60; piece += 1) {
    const { commands, settled } = hear(make, said, piece);
    assert.deepEqual(commands, [
      ...['SELECT', 'STMT_PREPARE', 'WITH', 'STMT_PREPARE', 'WITH', 'DO', ''],
    ]);
    assert.equal(settled, true);
  }
});

test('packets of the greatest length go on in the next', () => {
  const most = 0xff_ffff;
  const text = `INSERT ${'x'.repeat(most)}`;
  const whole = `\x03${text}`;
  const parts = packets(0, whole.slice(0, most), whole.slice(most));
  const value = `\xfe${bytes(8, most)}${'y'.repeat(most)}`; // begins like EOF
  const { commands, whole: done } = hear(
    make,
    [
      ...begin(),
      ['>', parts],
      ['<', packet(2, ok())],
      ['>', query('SELECT y')],
      ['<', packets(1, '\x01', column, eof(), value.slice(0, most), value.slice(most), eof())],
      ['>', packets(0, `\x03SHOW${' '.repeat(most - 5)}`, '')],
      ['<', packet(2, ok())],
    ],
    65_536,
  );
  assert.deepEqual(commands, ['INSERT', 'SELECT', 'SHOW']);
  const bytes_of = done.map(({ bytes_request, bytes_response }) => [bytes_request, bytes_response]);
  assert.deepEqual(bytes_of, [
    [parts.length, 11],
    [13, 5 + column.length + 4 + 9 + value.length + 8 + 9],
    [most + 8, 11],
  ]);
});

test('bytes and times of a pipeline are each command’s own; progress ends no latency', () => {
  const { whole } = hear(make, [
    ...begin(),
    ['>', query('ALTER')],
    ['>', command(0x0e)],
    ['<', packet(1, progress)],
    ['<', packet(2, ok()).slice(0, 3)],
    ['<', packet(2, ok()).slice(3) + packet(1, ok())],
  ]);
  const after = begin().length;
  assert.deepEqual(
    whole.map((one) => [one.begin_ns, one.first_ns, one.last_ns].map((ns) => ns - after)),
    [
      [1, 4, 5],
      [2, 5, 5],
    ],
  );
  const of = whole.map(({ bytes_request, bytes_response }) => [bytes_request, bytes_response]);
  assert.deepEqual(of, [
    [10, 4 + progress.length + 11],
    [5, 11],
  ]);
});

test('what is encrypted, compressed, a stream or older is not read; bytes that cannot be lose the place', () => {
  const tls = packet(1, login('', SSL).slice(4, 36));
  const ends: readonly (readonly [Said, string])[] = [
    [[...begin().slice(0, 1), ['>', tls]], 'over'],
    [begin(COMPRESS, COMPRESS | (1 << 9)), 'over'],
    [begin(COMPRESS), 'ok'], // the server cannot
    [[...begin().slice(0, 1), ['>', packet(1, '\x85\xa6\0\0\0root\0')]], 'over'],
    [[['<', packet(0, '\x093.23\0')]], 'over'],
    [[['<', packet(0, failed(1040))]], 'ok'],
    [[...begin().slice(0, 2), ['<', packet(2, failed(1045))]], 'ok'],
    [[...begin(), ['>', command(0x12, '\x04\0\0\0')]], 'over'],
    [[...begin(), ['>', packet(1, '\x0e')]], 'lost'],
    [[...begin(), ['>', packet(0, '')]], 'lost'],
    [[...begin(), ['<', packet(1, ok())]], 'lost'],
    [[...begin(), ['>', command(0x0e)], ['<', packet(2, ok())]], 'lost'],
    [[...begin(), ['>', query('SELECT 1')], ['<', packet(1, '')]], 'lost'],
    [[...begin(), ['>', query('SELECT 1')], ['<', packet(1, '\xfc\xff\xff')]], 'lost'],
    [[...begin(), ['>', query('SELECT 1')], ['<', packet(1, '\x01text')]], 'lost'],
    [[...begin(), ['>', query('SELECT 1')], ['<', packets(1, '\x01', '\xfe')]], 'lost'],
    [[...begin(), ['>', prepare('SELECT 1')], ['<', packet(1, '\0\0\0')]], 'lost'],
    [[...begin(), ['>', prepare('X')], ['<', packets(1, prepared(1, 2, 0), eof())]], 'lost'],
  ];
  for (const [said, understood] of ends) {
    const heard = hear(make, said);
    assert.equal(heard.understood, understood, JSON.stringify(said.at(-1)));
  }
});

/** A reader of a connection that is not new. */
function olderTalk(sink: TalkSink): MysqlTalk {
  const talk = new MysqlTalk(sink);
  talk.restart();
  return talk;
}

test('of an older connection, whether EOF ends definitions is found out', () => {
  const asked = prepare('SELECT 1') + execute(LAST);
  const rows = (last: string, ...behind: readonly string[]): string =>
    packets(1, '\x01', column, ...behind, '\0\0\x01', last);
  const first = packets(1, prepared(1, 1, 0), column);
  const classic: Said = [
    ['>', asked],
    ['<', first],
    ['<', packet(3, eof()) + rows(eof(), eof())],
  ];
  const [one] = hear(olderTalk, classic).whole;
  assert.equal(one?.bytes_response, first.length + 9);
  for (const said of [classic, [...classic.slice(0, 2), ['<', rows(end())] as const]]) {
    const heard = hear(olderTalk, said);
    assert.deepEqual([heard.commands, heard.settled], [['STMT_PREPARE', 'SELECT'], true]);
  }
  const { waiting, settled } = hear(olderTalk, classic.slice(0, 2));
  assert.deepEqual(
    [waiting.map(({ operation }) => operation), settled],
    [['STMT_PREPARE', 'SELECT'], false],
  );
});

test('which bytes may begin on a connection that is older', () => {
  const talk = new MysqlTalk({ done: () => undefined, note: () => undefined });
  const may = [command(0x0e), query('SELECT 1'), execute(1), prepare('x'), query('x').slice(0, 5)];
  const may_not = [
    ...[packet(1, '\x0e'), command(0x0e, 'x'), command(1), command(0x19, '\0\0\0\0'), ''],
    ...['\x17\x03\x03\0\x16aaaaaaaaaaaaaaaaaaaaaa', packet(0, ''), command(0x77), 'GET / HTTP'],
  ];
  for (const text of may) assert.equal(talk.mayBegin(Buffer.from(text, 'latin1')), true, text);
  for (const text of may_not) assert.equal(talk.mayBegin(Buffer.from(text, 'latin1')), false, text);
});

test('the first word of a statement', () => {
  const words = new Map([
    ['select', 'SELECT'],
    ['  \n(with x', 'WITH'],
    ['-- a\n#b\r\n--\ncreate table', 'CREATE'],
    ['--a', ''],
    ['/*!40101 SET NAMES x */', 'SET'],
    ['/*M!100100 SET x */', 'SET'],
    ['/*! */ (/* a\n */DO 1', 'DO'],
    ['/* a', ''],
    ['/*/ a */x', 'X'],
    ['SELECT1', ''],
    ['`quoted`', ''],
  ]);
  for (const [sql, word] of words) assert.equal(keywordOf(Buffer.from(sql), 0), word, sql);
});

test('the number of prepared statements has a limit', () => {
  const many = Array.from(
    { length: 1025 },
    (_, i): Said => [
      ['>', prepare('SELECT')],
      ['<', packet(1, prepared(i, 0, 0))],
    ],
  ).flat();
  const { notes, commands } = hear(make, [...begin(), ...many, ['>', execute(3) + execute(1024)]]);
  assert.equal(commands.length, 1025);
  assert.deepEqual(notes, { db_statements_forgotten: 1 });
});

test(`any bytes, cut anywhere: nothing is thrown (seed ${SEED})`, () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary-ascii', maxLength: 40 }),
    fc.constantFrom(...CLASSIC.map(([, each]) => each), packet(1, eof()), '\x01\0\0', '\xfe\xff'),
  );
  const side = fc.constantFrom<'>' | '<'>('>', '<');
  const any = fc.array(fc.tuple(side, text), { maxLength: 30 });
  fc.assert(
    fc.property(fc.boolean(), any, fc.nat(20), (begun, said, piece) => {
      const { whole, waiting } = hear(make, begun ? [...begin(), ...said] : said, piece + 1);
      for (const one of [...whole, ...waiting]) assert.ok(one.operation.length <= 24);
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test(`a byte that is changed anywhere: nothing is thrown (seed ${SEED})`, () => {
  const said = CLASSIC.slice(begin().length);
  const change = fc.tuple(fc.nat(said.length - 1), fc.nat(60), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const hostile = said.map(([who, each]): Said[number] => [who, each]);
      for (const [i, at, byte] of changes) {
        const [who, each] = hostile[i]!;
        const changed = Buffer.from(each, 'latin1');
        changed[at % changed.length] = byte;
        hostile[i] = [who, changed.toString('latin1')];
      }
      const { whole } = hear(make, [...begin(), ...hostile]);
      for (const one of whole) assert.ok(one.bytes_response >= 0 && one.bytes_request > 0);
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('a scanner keeps no more than it was told', () => {
  const scanner = new PacketScanner(4);
  const bytes_in = Buffer.from(packet(9, 'abcdefgh'), 'latin1');
  assert.equal(scanner.feed(bytes_in, 0), 12);
  assert.equal(scanner.body.toString(), 'abcd');
  assert.deepEqual([scanner.payload_length, scanner.length, scanner.sequence], [8, 12, 9]);
});

test('the inside of a packet may be missing behind its beginning, and no more', () => {
  const insert = `INSERT INTO t VALUES ('${'v'.repeat(40)}`;
  const asked = packet(0, `\x03${insert}${' '.repeat(9000)}`);
  const here = 5 + insert.length;
  const rows = packets(1, '\x01', column, eof());
  const row = packet(4, `\xfc\x28\x23${'v'.repeat(9000)}`);
  const heard = hear(make, [
    ...begin(),
    ['>', asked.slice(0, here), asked.length - here],
    ['<', packet(1, ok())],
    ['>', query('SELECT 1')],
    ['<', rows + row.slice(0, 50), row.length - 60],
    ['<', row.slice(-10) + packet(5, eof())],
  ]);
  assert.deepEqual([heard.commands, heard.settled], [['INSERT', 'SELECT'], true]);
  const [first, second] = heard.whole;
  assert.deepEqual(
    [first?.bytes_request, second?.bytes_response],
    [asked.length, rows.length + row.length + 9],
  );
  const more: Said = [...begin(), ['>', asked.slice(0, here), asked.length - here + 1]];
  const head: Said = [...begin(), ['>', asked.slice(0, 10), 100]];
  for (const said of [more, head]) assert.equal(hear(make, said).understood, 'lost');
});
