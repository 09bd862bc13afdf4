// What is said to Redis and by it → commands, however it is cut, and whatever it is.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { TalkSink } from '../db/talk.ts';
import { hear, type Said } from '../db/testing.ts';
import { RedisTalk } from './talk.ts';

const SEED = 20_260_211;
const make = (sink: TalkSink): RedisTalk => new RedisTalk(sink);
const command = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`;
const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`;

const SAID: Said = [
  ['>', command('SET', 'k', 'a\r\n*1\r\n$4\r\nPING\r\n') + command('get', 'k')],
  ['<', `+OK\r\n${bulk('-ERR is in the value')}`],
  ['>', 'PING\r\n\r\nECHO "a b"\r\n*0\r\n'],
  ['<', `+PONG\r\n${bulk('a b')}`],
  ['>', command('LRANGE', 'l', '0', '-1') + command('GET', 'none') + command('NO.SUCH')],
  ['<', `*3\r\n:1\r\n*2\r\n$-1\r\n*-1\r\n${bulk('x')}$-1\r\n-ERR unknown command\r\n`],
  ['>', command('INCR', 's') + command('HELLO', '3')],
  [
    '<',
    `-WRONGTYPE Operation\r\n|1\r\n+ttl\r\n:3\r\n%2\r\n${bulk('server')}+redis\r\n+v\r\n(37\r\n`,
  ],
  ['<', `>2\r\n${bulk('invalidate')}*1\r\n${bulk('k')}`],
  ['>', command('SUBSCRIBE', 'a', 'b') + command('X') + command('Y')],
  ['<', `>3\r\n${bulk('subscribe')}+a\r\n:1\r\n>3\r\n${bulk('message')}+a\r\n+t\r\n`],
  ['<', `>3\r\n${bulk('subscribe')}+b\r\n:2\r\n!7\r\nNO give\r\n~2\r\n#t\r\n,1.5\r\n`],
];
const COMMANDS = [
  ...['SET', 'GET', 'PING', 'ECHO', 'LRANGE', 'GET', 'NO.SUCH ERR', 'INCR WRONGTYPE', 'HELLO'],
  ...['SUBSCRIBE', 'X NO', 'Y'],
];

test('commands and their answers, cut after every number of bytes', () => {
  for (let piece = 1; piece < 200; piece += 1) {
    const heard = hear(make, SAID, piece);
    assert.deepEqual(heard.commands, COMMANDS, `pieces of ${piece}`);
    assert.deepEqual([heard.understood, heard.settled, heard.notes], ['ok', true, {}]);
  }
});

test('bytes and times of a pipeline are each command’s own', () => {
  const one = command('GET', 'k');
  const { whole } = hear(make, [
    ['>', one],
    ['>', one + command('PING')],
    ['<', '$1\r\n'],
    ['<', 'v\r\n$-1\r\n+PONG\r\n'],
  ]);
  const of = whole.map((each) => [each.begin_ns, each.first_ns, each.last_ns]);
  assert.deepEqual(of, [
    [1, 3, 4],
    [2, 4, 4],
    [2, 4, 4],
  ]);
  const bytes = whole.map(({ bytes_request, bytes_response }) => [bytes_request, bytes_response]);
  assert.deepEqual(bytes, [
    [20, 7],
    [20, 5],
    [14, 7],
  ]);
});

test('channels of version 2: messages answer nothing', () => {
  const message = `*3\r\n${bulk('message')}${bulk('a')}${bulk('text')}`;
  const confirm = (kind: string, left: number): string =>
    `*3\r\n${bulk(kind)}${bulk('a')}:${left}\r\n`;
  const { commands, settled } = hear(make, [
    ['>', command('SUBSCRIBE', 'a', 'b')],
    ['<', confirm('subscribe', 1) + message + confirm('subscribe', 2) + message],
    ['>', command('PING')],
    ['<', `${message}*2\r\n${bulk('pong')}${bulk('')}`],
    ['>', command('UNSUBSCRIBE')],
    ['<', confirm('unsubscribe', 1) + confirm('unsubscribe', 0)],
    ['>', command('LRANGE', 'l', '0', '2')],
    ['<', message],
  ]);
  assert.deepEqual(commands, ['SUBSCRIBE', 'PING', 'UNSUBSCRIBE', 'LRANGE']);
  assert.equal(settled, true);
});

test('commands that are told to have no answer', () => {
  const { commands, settled, whole } = hear(make, [
    ['>', command('CLIENT', 'REPLY', 'off') + command('SET', 'k', 'v')],
    ['>', command('client', 'reply', 'on') + command('CLIENT', 'REPLY', 'SKIP')],
    ['>', command('SET', 'k', 'v') + command('GET', 'k')],
    ['<', `+OK\r\n${bulk('v')}`],
  ]);
  assert.deepEqual(commands, ['CLIENT', 'SET', 'CLIENT', 'SET', 'CLIENT', 'GET']);
  assert.equal(settled, true);
  assert.equal(whole.filter(({ first_ns }) => Number.isNaN(first_ns)).length, 4);
});

test('streams that are no commands end the reading; so do bytes that cannot be', () => {
  const ends: readonly (readonly [Said, string, readonly string[]])[] = [
    [
      [
        ['>', command('MONITOR')],
        ['<', '+OK\r\n+1.0 "GET"\r\n'],
      ],
      'over',
      ['MONITOR'],
    ],
    [[['>', command('PSYNC', '?', '-1')]], 'over', ['PSYNC']],
    [[['>', '\u0016\u0003\u0001\u0002']], 'lost', []],
    [[['>', '*1\r\n:4\r\n']], 'lost', []],
    [[['>', '*1\r\n$-4\r\n']], 'lost', []],
    [[['>', '*99999999999\r\n']], 'lost', []],
    [[['>', '*1\r\n$4\r\nPINGxx']], 'lost', []],
    [[['<', '+OK\r\n']], 'lost', []],
    [[['<', `${'*1\r\n'.repeat(65)}`]], 'lost', []],
    [[['<', '$99999999999\r\n']], 'lost', []],
    [[['<', `:${'1'.repeat(40)}`]], 'lost', []],
    [[['<', '-ERR max number of clients reached\r\n']], 'ok', []],
  ];
  for (const [said, understood, commands] of ends) {
    const heard = hear(make, said);
    assert.deepEqual([heard.understood, heard.commands], [understood, commands], said[0]![1]);
  }
});

test(`any bytes, cut anywhere: nothing is thrown (seed ${SEED})`, () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary-ascii', maxLength: 40 }),
    fc.constantFrom(...SAID.map(([, each]) => each), '*', '$', '\r\n', '>3\r\n', '-1\r\n', '%'),
  );
  const side = fc.constantFrom<'>' | '<'>('>', '<');
  fc.assert(
    fc.property(fc.array(fc.tuple(side, text), { maxLength: 30 }), fc.nat(20), (said, piece) => {
      const { whole, waiting } = hear(make, said, piece + 1);
      for (const one of [...whole, ...waiting]) assert.ok(one.operation.length <= 64);
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test(`what is cut and joined at random counts the same (seed ${SEED})`, () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (sizes) => {
      const cut = SAID.flatMap(([side, text]) => {
        const parts: ['>' | '<', string][] = [];
        for (let at = 0, i = 0; at < text.length; at += sizes[i % sizes.length]!, i += 1) {
          parts.push([side, text.slice(at, at + sizes[i % sizes.length]!)]);
        }
        return parts;
      });
      assert.deepEqual(hear(make, cut).commands, COMMANDS);
    }),
    { seed: SEED },
  );
});

test('the inside of a value may be missing, and no more', () => {
  const value = 'v'.repeat(40);
  const bytes = 100_000;
  const set = `*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${bytes}\r\n`;
  const get = command('GET', 'k');
  const heard = hear(make, [
    ['>', set, bytes],
    ['>', `\r\n${get}`],
    ['<', `+OK\r\n$${bytes}\r\n${value}`, bytes - 40 + 2],
    ['>', command('PING')],
    ['<', '+PONG\r\n'],
  ]);
  assert.deepEqual(heard.commands, ['SET', 'GET', 'PING']);
  const of = heard.whole.map(({ bytes_request, bytes_response }) => [
    bytes_request,
    bytes_response,
  ]);
  assert.deepEqual(of.slice(0, 2), [
    [set.length + bytes + 2, 5],
    [get.length, bytes + 11],
  ]);
  const lost: readonly Said[] = [
    [['>', set, bytes + 3]],
    [['>', '*1\r\n$4\r\n', 6]], // a name
    [['>', '*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\n', 5]],
    [['>', '*1\r\n$4', 2]],
    [
      ['>', get],
      ['<', '!50\r\n', 20], // an error
    ],
  ];
  for (const said of lost) assert.equal(hear(make, said).understood, 'lost', JSON.stringify(said));
});
