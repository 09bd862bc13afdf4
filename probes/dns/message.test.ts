// The reader against messages written by hand, against another codec (dns-packet), and against bytes of all kinds.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { type Message, readMessage, typeName } from './message.ts';
import { joined, message, name, pointer, RESPONSE, record, TRUNCATED, u16 } from './testing.ts';

const SEED = 20_260_126;
const A = 1;
const CNAME = 5;
const TXT = 16;
const AAAA = 28;
const OPT = 41;
const QUESTION = 12;

const read = (bytes: Uint8Array): Message => {
  const found = readMessage(bytes, 0, bytes.length);
  assert.ok(found !== undefined);
  return found;
};

test('a query: its name in lower case', () => {
  const bytes = message({ id: 0xabcd, questions: [['WwW.Example.COM', AAAA]] });
  assert.deepEqual(read(bytes), {
    id: 0xabcd,
    response: false,
    opcode: 0,
    truncated: false,
    rcode: 0,
    edns: false,
    questions: [{ name: 'www.example.com', type: AAAA, class: 1 }],
    answers: [],
    fault: '',
  });
});

test('an answer: aliases, compression, both kinds of addresses, others walked over', () => {
  const own = pointer(QUESTION);
  const alias = joined([Uint8Array.of(3), Buffer.from('cdn'), pointer(QUESTION + 4)]);
  const bytes = message({
    flags: RESPONSE,
    questions: [['www.example.com', A]],
    answers: [
      record(own, CNAME, 300, alias),
      record(own, TXT, 5, Uint8Array.of(1, 65)),
      record(name('cdn.example.com'), A, 60, Uint8Array.of(192, 0, 2, 1)),
      record(alias, AAAA, 0x8000_0001, new Uint8Array(16).fill(0xfd)),
      record(own, A, 60, Uint8Array.of(192, 0, 2, 2), 3), // class CHAOS
    ],
  });
  const found = read(bytes);
  assert.equal(found.fault, '');
  assert.deepEqual(found.answers, [
    { name: 'www.example.com', type: CNAME, ttl: 300, value: 'cdn.example.com' },
    { name: 'cdn.example.com', type: A, ttl: 60, value: '192.0.2.1' },
    {
      name: 'cdn.example.com',
      type: AAAA,
      ttl: 0, // the highest bit is set
      value: 'fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd',
    },
  ]);
});

test('codes: of the header, with the upper bits of EDNS, and the flag of a cut answer', () => {
  const questions = [['x', A]] as const;
  const opt = record(name(''), OPT, 0x0100_0000, new Uint8Array(0), 1232);
  const flags = RESPONSE | TRUNCATED;
  const bad = read(message({ flags: flags | 6, questions, additional: [opt] }));
  assert.deepEqual([bad.rcode, bad.edns, bad.truncated], [22, true, true]);
  const plain = read(message({ flags: RESPONSE | 3, questions }));
  assert.deepEqual([plain.rcode, plain.edns, plain.truncated], [3, false, false]);
});

test('names of odd bytes, the root, many questions', () => {
  const questions = [
    ['\x00a b\\', A],
    ['', 2],
    ['_x._udp.h', 33],
  ] as const;
  const found = read(message({ questions }));
  assert.deepEqual(
    found.questions.map((one) => one.name),
    ['\\000a\\032b\\\\', '.', '_x._udp.h'],
  );
  const dotted = joined([Uint8Array.of(3), Buffer.from('a.b'), Uint8Array.of(0)]);
  const one = message({ counts: [1, 0, 0, 0] });
  assert.equal(read(joined([one, dotted, u16(1), u16(1)])).questions[0]?.name, 'a\\.b');
  assert.deepEqual([typeName(65), typeName(28), typeName(4711)], ['HTTPS', 'AAAA', 'TYPE4711']);
});

test('hostile bytes have a reason', () => {
  const head = (counts: readonly [number, number, number, number]) => message({ counts });
  const ask = (...bytes: Uint8Array[]) => read(joined([head([1, 0, 0, 0]), ...bytes]));
  const tail = joined([u16(1), u16(1)]);
  assert.equal(readMessage(new Uint8Array(11), 0, 11), undefined);
  assert.equal(ask(pointer(QUESTION), tail).fault, 'pointer'); // to itself
  assert.equal(ask(pointer(QUESTION + 2), tail).fault, 'pointer'); // forward
  assert.equal(ask(pointer(3), tail).fault, 'pointer'); // into the header
  assert.equal(ask(Uint8Array.of(0x80, 1), tail).fault, 'label');
  assert.equal(ask(Uint8Array.of(0x41, 1), tail).fault, 'label');
  assert.equal(ask(Uint8Array.of(5, 65)).fault, 'cut');
  assert.equal(ask(Uint8Array.of(1, 65, 0), u16(1)).fault, 'cut');
  const long = name(Array.from({ length: 130 }, () => 'a').join('.'));
  assert.equal(ask(long, tail).fault, 'name_length');
  const many = Array.from({ length: 20 }, () => ['a', A] as const);
  assert.equal(read(message({ questions: many })).fault, 'question_count');
  assert.equal(read(head([0, 0xffff, 0xffff, 0xffff])).fault, 'cut');
  const short = record(name('a'), A, 1, Uint8Array.of(1, 2, 3));
  assert.equal(read(message({ flags: RESPONSE, answers: [short] })).fault, 'data');
});

test('a chain of a thousand pointers, each backwards, ends', () => {
  const [text] = [name('a')];
  const before = joined([message({ flags: RESPONSE, counts: [0, 2, 0, 0] })]).length;
  const data_at = before + 1 + 10; // the record's owner is the root
  const links: Uint8Array[] = [text];
  for (let i = 0; i < 1000; i += 1) {
    links.push(pointer(i === 0 ? data_at : data_at + text.length + 2 * (i - 1)));
  }
  const last = data_at + text.length + 2 * 999;
  const answers = [
    record(name(''), TXT, 1, joined(links)),
    record(pointer(last), A, 1, Uint8Array.of(192, 0, 2, 9)),
  ];
  const found = read(message({ flags: RESPONSE, answers }));
  assert.deepEqual(found.answers, [{ name: 'a', type: A, ttl: 1, value: '192.0.2.9' }]);
});

/** What dns-packet gives, as far as it is compared. It has no types of its own. */
interface Oracle {
  encode(packet: object): Uint8Array;
  decode(bytes: Uint8Array): {
    readonly id: number;
    readonly type: string;
    readonly rcode: string;
    readonly flag_tc: boolean;
    readonly questions: readonly { readonly name: string; readonly type: string }[];
    readonly answers: readonly {
      readonly name: string;
      readonly type: string;
      readonly ttl: number;
      readonly data: unknown;
    }[];
  };
}

async function oracle(): Promise<Oracle | undefined> {
  try {
    const loaded: { default: Oracle } = await import('dns-packet' as string);
    return loaded.default;
  } catch {
    return undefined; // not installed here
  }
}

const codec = await oracle();
const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];
const labels = fc.array(fc.stringMatching(/^[a-z0-9_-]{1,20}$/), { minLength: 1, maxLength: 6 });
const names = labels.map((parts) => parts.join('.'));
const answers = fc.array(
  fc.oneof(
    fc.record({ type: fc.constant('A'), name: names, ttl: fc.nat(), data: fc.ipV4() }),
    fc.record({ type: fc.constant('CNAME'), name: names, ttl: fc.nat(), data: names }),
    fc.record({
      ...{ type: fc.constant('AAAA'), name: names, ttl: fc.nat() },
      data: fc.array(fc.integer({ min: 1, max: 0xffff }), { minLength: 8, maxLength: 8 }),
    }),
    fc.record({ type: fc.constant('TXT'), name: names, ttl: fc.nat(), data: names }),
  ),
  { maxLength: 12 },
);

const SKIP = codec === undefined && 'dns-packet is not installed';

test(`what dns-packet writes is read alike, seed ${SEED}`, { skip: SKIP }, () => {
  const messages = fc.record({
    id: fc.integer({ min: 0, max: 0xffff }),
    rcode: fc.nat({ max: RCODES.length - 1 }),
    truncated: fc.boolean(),
    question: names,
    answers,
  });
  fc.assert(
    fc.property(messages, (one) => {
      const bytes = codec!.encode({
        id: one.id,
        type: 'response',
        flags: one.rcode | (one.truncated ? 0x200 : 0),
        questions: [{ name: one.question, type: 'AAAA' }],
        answers: one.answers.map(({ data, ...rest }) => ({
          ...rest,
          data: Array.isArray(data) ? data.map((group) => group.toString(16)).join(':') : data,
        })),
      });
      const found = read(bytes);
      assert.equal(found.fault, '');
      const told = codec!.decode(Buffer.from(bytes));
      assert.deepEqual(
        [found.id, found.response, RCODES[found.rcode], found.truncated],
        [told.id, told.type === 'response', told.rcode, told.flag_tc],
      );
      assert.deepEqual(
        found.questions.map((q) => [q.name, typeName(q.type)]),
        told.questions.map((q) => [q.name, q.type]),
      );
      assert.deepEqual(
        found.answers.map((a) => [a.name, typeName(a.type), a.ttl, a.value]),
        told.answers
          .filter(({ type }) => type !== 'TXT')
          .map((a) => [a.name, a.type, a.ttl, a.data]),
      );
    }),
    { seed: SEED, numRuns: 1000 },
  );
});

/** A whole answer, of which any byte may be another and which may be cut anywhere. */
const SOUND = message({
  flags: RESPONSE,
  questions: [['www.example.com', A]],
  answers: [
    record(pointer(QUESTION), CNAME, 300, pointer(QUESTION + 4)),
    record(pointer(QUESTION + 4), A, 60, Uint8Array.of(192, 0, 2, 1)),
    record(pointer(QUESTION + 4), AAAA, 60, new Uint8Array(16).fill(9)),
  ],
  additional: [record(name(''), OPT, 0, Uint8Array.of(0, 10, 0, 2, 7, 7), 1232)],
});

test(`no bytes make it throw, seed ${SEED}`, () => {
  const changed = fc
    .tuple(
      fc.array(fc.tuple(fc.nat({ max: SOUND.length - 1 }), fc.nat({ max: 255 })), { maxLength: 6 }),
      fc.nat({ max: SOUND.length }),
    )
    .map(([changes, length]) => {
      const bytes = SOUND.slice(0, length);
      for (const [at, value] of changes) if (at < length) bytes[at] = value;
      return bytes;
    });
  const any = fc.uint8Array({ minLength: 0, maxLength: 600 });
  fc.assert(
    fc.property(fc.oneof(changed, any), (bytes) => {
      const found = readMessage(bytes, 0, bytes.length);
      if (found === undefined) return assert.ok(bytes.length < QUESTION);
      assert.ok(found.rcode >= 0 && found.rcode <= 4095);
      const texts = [...found.questions, ...found.answers].map((one) => one.name);
      for (const text of texts) assert.match(text, /^[\x21-\x7e]{1,1020}$/);
    }),
    { seed: SEED, numRuns: 20_000 },
  );
});

test(`what both accept they read alike, seed ${SEED}`, { skip: SKIP }, () => {
  const at = fc.integer({ min: QUESTION, max: SOUND.length - 1 });
  let compared = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(at, fc.nat({ max: 255 })), { maxLength: 2 }), (changes) => {
      const bytes = SOUND.slice();
      for (const [place, value] of changes) bytes[place] = value;
      const found = read(bytes);
      const told = attempt(() => codec!.decode(Buffer.from(bytes)));
      if (found.fault !== '' || told === undefined) return;
      const addresses = told.answers.filter(({ type }) => type === 'A');
      const plain = /^[a-z0-9.-]+$/;
      // Of the length of other types' data it makes its own sense.
      const known = told.answers.every(({ type }) => ['A', 'AAAA', 'CNAME'].includes(type));
      if (!known || !found.questions.every((one) => plain.test(one.name))) return;
      compared += 1;
      assert.deepEqual(
        found.questions.map((one) => one.name),
        told.questions.map((one) => one.name.toLowerCase()),
      );
      for (const { value } of found.answers.filter(({ type }) => type === A)) {
        assert.ok(addresses.some(({ data }) => data === value));
      }
    }),
    { seed: SEED, numRuns: 5000 },
  );
  assert.ok(compared > 1000, `only ${compared} were compared`);
});

function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined; // it refuses by throwing
  }
}
