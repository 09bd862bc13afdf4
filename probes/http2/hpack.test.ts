import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { HpackDecoder } from './hpack.ts';
import { huffmanCodes, huffmanDecode } from './huffman.ts';

const CORPUS =
  process.env.SONDE_HPACK_CORPUS ?? join(import.meta.dirname, '../../../shared/corpora/hpack');
const NO_CORPUS = !existsSync(CORPUS) && `no HPACK stories at ${CORPUS} (SONDE_HPACK_CORPUS)`;
const SEED = { seed: 20260729, numRuns: 2000 };

type Field = readonly [string | undefined, string | undefined];

function fieldsOf(decoder: HpackDecoder): Field[] {
  return decoder.names.map((name, i): Field => [name, decoder.values[i]]);
}

function decode(decoder: HpackDecoder, hex: string): Field[] {
  assert.ok(decoder.decode(Buffer.from(hex.replaceAll(' ', ''), 'hex')), decoder.error);
  return fieldsOf(decoder);
}

const REQUESTS: readonly (readonly [string, string, readonly Field[]])[] = [
  [
    '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
    ],
  ],
  [
    '8286 84be 5808 6e6f 2d63 6163 6865',
    '8286 84be 5886 a8eb 1064 9cbf',
    [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
      ['cache-control', 'no-cache'],
    ],
  ],
  [
    '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
    [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/index.html'],
      [':authority', 'www.example.com'],
      ['custom-key', 'custom-value'],
    ],
  ],
];

test('RFC 7541 C.3 and C.4: requests, plain and by Huffman', () => {
  const plain = new HpackDecoder(false);
  const coded = new HpackDecoder(false);
  for (const [plain_hex, coded_hex, fields] of REQUESTS) {
    assert.deepEqual(decode(plain, plain_hex), fields);
    assert.deepEqual(decode(coded, coded_hex), fields);
  }
  assert.equal(plain.known, 3);
});

const RESPONSES: readonly (readonly [string, number, readonly Field[]])[] = [
  [
    '4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d' +
      '29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
    4,
    [
      [':status', '302'],
      ['cache-control', 'private'],
      ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ['location', 'https://www.example.com'],
    ],
  ],
  [
    '4883 640e ffc1 c0bf',
    4,
    [
      [':status', '307'],
      ['cache-control', 'private'],
      ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ['location', 'https://www.example.com'],
    ],
  ],
  [
    '88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d' +
      'd7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106' +
      '3d50 07',
    3,
    [
      [':status', '200'],
      ['cache-control', 'private'],
      ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'],
      ['location', 'https://www.example.com'],
      ['content-encoding', 'gzip'],
      ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'],
    ],
  ],
];

test('RFC 7541 C.6: responses, with a table of 256 bytes that evicts', () => {
  const decoder = new HpackDecoder(false);
  assert.deepEqual(decode(decoder, '3fe101'), []);
  for (const [hex, known, fields] of RESPONSES) {
    assert.deepEqual(decode(decoder, hex), fields);
    assert.equal(decoder.known, known);
  }
});

test('the Huffman code: complete, and as the document has it', () => {
  const codes = huffmanCodes();
  assert.equal(
    codes.reduce((sum, { length }) => sum + 2 ** -length, 0),
    1,
  );
  const hex = (byte: number): string => codes[byte]!.code.toString(16);
  const some = [0, 10, 13, 22, 33, 48, 92, 97, 128, 153, 192, 199, 203, 208, 249, 254, 255, 256];
  assert.equal(
    some.map(hex).join(' '),
    '1ff8 3ffffffc 3ffffffd 3ffffffe 3f8 0 7fff0 3 fffe6 1fffdc 3ffffe0 1ffffec 7ffffde 7fff2 ' +
      'ffffffe 7fffff0 3ffffee 3fffffff',
  );
});

function huffmanEncode(bytes: Uint8Array): Buffer {
  const codes = huffmanCodes();
  const bits = [...bytes]
    .map((byte) => codes[byte]!)
    .map(({ code, length }) => code.toString(2).padStart(length, '0'))
    .join('');
  const whole = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1');
  return Buffer.from((whole.match(/.{8}/g) ?? []).map((one) => Number.parseInt(one, 2)));
}

test('Huffman: every string comes back; wrong padding and the end mark are refused', () => {
  const out = Buffer.alloc(64);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const coded = huffmanEncode(bytes);
      assert.equal(huffmanDecode(coded, 0, coded.length, out), bytes.length);
      assert.deepEqual([...out.subarray(0, bytes.length)], [...bytes]);
    }),
    { ...SEED, numRuns: 500 },
  );
  for (const hex of ['00', '1c', 'ff', '1fff', 'ffffffff']) {
    const bytes = Buffer.from(hex, 'hex');
    assert.equal(huffmanDecode(bytes, 0, bytes.length, out), -1, hex);
  }
});

const WRONG: readonly (readonly [string, string, string])[] = [
  ['80', 'index 0', 'an index of 0'],
  ['be', 'index 62 is beyond the table', 'a table that is empty'],
  ['7e0161', 'index 62 is beyond the table', 'a name from there'],
  ['ffffffffffff00', 'an integer is too large', 'an index without end'],
  ['ff', 'an integer ends too soon', 'an index cut'],
  ['ff8080808080808000', 'an integer is too large', 'zeros without end'],
  ['40', 'a string is missing', 'no name'],
  ['400161', 'a string is missing', 'no value'],
  ['40056162', 'a string ends too soon', 'a name cut'],
  ['4001610562', 'a string ends too soon', 'a value cut'],
  ['418100', 'a Huffman code is wrong', 'padding of zeros'],
  ['41821fff', 'a Huffman code is wrong', 'padding of a whole byte'],
  ['8220', 'a table size update behind a field', 'an update too late'],
];

test('malformed blocks: refused by name, and the table is forgotten', () => {
  for (const [hex, error, name] of WRONG) {
    const decoder = new HpackDecoder(false);
    assert.equal(decoder.decode(Buffer.from(hex, 'hex')), false, name);
    assert.equal(decoder.error, error, name);
    decode(decoder, 'be');
    assert.equal(decoder.unknown, 1, 'from then on what was before is unknown');
  }
});

interface Story {
  readonly name: string;
  readonly blocks: readonly { readonly wire: Buffer; readonly fields: readonly Field[] }[];
}

interface StoryFile {
  readonly cases: readonly {
    readonly wire?: string;
    readonly headers: readonly Readonly<Record<string, string>>[];
  }[];
}

function stories(): Story[] {
  const names = readdirSync(CORPUS, { recursive: true, encoding: 'utf8' });
  return names
    .filter((name) => name.endsWith('.json') && !name.startsWith('raw-data')) // those have no bytes
    .map((name) => {
      const file: StoryFile = JSON.parse(readFileSync(join(CORPUS, name), 'utf8'));
      const blocks = file.cases.map(({ wire, headers }) => ({
        wire: Buffer.from(wire ?? '', 'hex'),
        fields: headers.flatMap((one) => Object.entries(one)),
      }));
      return { name, blocks };
    });
}

test('all stories of the corpus', { skip: NO_CORPUS }, (t) => {
  let blocks = 0;
  const all = stories();
  for (const story of all) {
    const decoder = new HpackDecoder(false);
    for (const { wire, fields } of story.blocks) {
      assert.ok(decoder.decode(wire), `${story.name}: ${decoder.error}`);
      assert.deepEqual(fieldsOf(decoder), fields, story.name);
      assert.equal(decoder.unknown + decoder.cut, 0);
      blocks += 1;
    }
  }
  assert.ok(all.length >= 20 && blocks > 100);
  t.diagnostic(`${blocks} blocks of ${all.length} stories`);
});

test('joined at any block of any story: unknown, or right', { skip: NO_CORPUS }, (t) => {
  let unknown = 0;
  let known = 0;
  for (const { name, blocks } of stories()) {
    for (let from = 1; from < blocks.length; from += 1 + (from >> 2)) {
      const decoder = new HpackDecoder(true);
      for (const { wire, fields } of blocks.slice(from)) {
        assert.ok(decoder.decode(wire), `${name} from ${from}: ${decoder.error}`);
        assert.equal(decoder.names.length, fields.length);
        let here = 0;
        for (const [i, [field, value]] of fields.entries()) {
          const is = decoder.names[i];
          if (is === undefined || decoder.values[i] === undefined) here += 1;
          if (is !== undefined) assert.equal(is, field, `${name} from ${from}`);
          if (decoder.values[i] !== undefined) assert.equal(decoder.values[i], value);
        }
        assert.equal(decoder.unknown, here, 'each unknown field is counted once');
        unknown += here;
        known += fields.length - here;
      }
    }
  }
  assert.ok(unknown > 0 && known > unknown);
  t.diagnostic(`${known} fields known, ${unknown} unknown, none wrong`);
});

test('a block missed in the middle: unknown, or right', { skip: NO_CORPUS }, () => {
  for (const { name, blocks } of stories()) {
    const decoder = new HpackDecoder(false);
    for (const [n, { wire, fields }] of blocks.entries()) {
      if (n % 5 === 3) {
        decoder.forget();
        continue;
      }
      assert.ok(decoder.decode(wire), `${name}: ${decoder.error}`);
      for (const [i, [field, value]] of fields.entries()) {
        assert.ok([field, undefined].includes(decoder.names[i]), name);
        assert.ok([value, undefined].includes(decoder.values[i]), name);
      }
    }
  }
});

test('a table that the peers keep larger than the limit: the oldest are unknown', () => {
  const decoder = new HpackDecoder(false, { table_max: 100 });
  decode(decoder, '3fe1ff03 400161 0131 400162 0132 400163 0133 400164 0134');
  assert.equal(decoder.known, 2);
  assert.deepEqual(decode(decoder, 'bebfc0'), [
    ['d', '4'],
    ['c', '3'],
    [undefined, undefined],
  ]);
  assert.equal(decoder.unknown, 1);
});

test('limits of fields, of bytes and of strings are counted, and the table goes on', () => {
  const few = new HpackDecoder(false, { fields_max: 2 });
  assert.deepEqual(decode(few, '828684 400161 0131'), [
    [':method', 'GET'],
    [':scheme', 'http'],
  ]);
  assert.equal(few.cut, 2);
  assert.equal(few.known, 1);
  const short = new HpackDecoder(false, { string_max: 3 });
  assert.deepEqual(decode(short, '400161 0431323334'), [['a', undefined]]);
  assert.equal(short.cut, 1);
});

test('hostile blocks: no throw, bounded memory', () => {
  const decoder = new HpackDecoder(false, { table_max: 4096, string_max: 512 });
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc
      .constantFrom('8286', '400161', '3fe1ff03', '20', 'be', '41', '00', '0f', '7f')
      .map((hex) => Buffer.from(hex, 'hex')),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const bytes = Buffer.concat(pieces);
      const ok = decoder.decode(bytes);
      assert.equal(ok, decoder.error === '');
      assert.ok(decoder.known <= 4096 / 32);
      assert.ok(decoder.names.length <= 256);
    }),
    SEED,
  );
});
