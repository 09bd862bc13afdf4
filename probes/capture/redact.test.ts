// What must not leave: secrets in every place that is looked at, in every spelling; and what is no secret stays as it was.

import assert from 'node:assert/strict';
import test from 'node:test';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { secretSpans } from './json_scan.ts';
import { linearPattern } from './patterns.ts';
import { type RedactedBody, type RedactOptions, Redactor } from './redact.ts';

const SEED = { seed: 20_261_126, numRuns: 300 };
const NONE: RedactOptions = { headers: [], keys: [], patterns: [], body_max: 1 << 20 };
const SECRET = 'xyzzy-S3CRET';

function body(
  text: string | Uint8Array,
  type: string,
  options: Partial<RedactOptions> = {},
  more: readonly string[] = [],
  cut = false,
): RedactedBody {
  const redactor = new Redactor({ ...NONE, ...options });
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  return redactor.body(['Content-Type', type, ...more], bytes, cut);
}

test('headers: credentials go, the others stay as they are', () => {
  const redactor = new Redactor({ ...NONE, headers: ['X-Tenant'], patterns: ['[0-9]{16}'] });
  const pairs = redactor.headers([
    ...['Authorization', `Bearer ${SECRET}`, 'Cookie', `a=${SECRET}`, 'SET-COOKIE', SECRET],
    ...['Proxy-Authorization', SECRET, 'X-API-Key', SECRET, 'x-auth-token', SECRET],
    ...['X-Tenant', SECRET, 'Accept', 'text/html', 'X-Card', 'no 4111111111111111 here'],
    ...['Referer', `https://u:${SECRET}@h/p?a=1&token=${SECRET}`],
  ]);
  assert.ok(!JSON.stringify(pairs).includes(SECRET));
  assert.deepEqual(pairs.slice(7), [
    ['Accept', 'text/html'],
    ['X-Card', 'no <redacted> here'],
    ['Referer', 'https://<redacted>@h/p?a=1&token=<redacted>'],
  ]);
});

test('targets: the values of secret keys', () => {
  const redactor = new Redactor({ ...NONE, keys: ['iban'] });
  assert.equal(
    redactor.target(`/a/b?x=1&pass%77ord=${SECRET}&IBAN=${SECRET}&author=me#password=${SECRET}`),
    '/a/b?x=1&pass%77ord=<redacted>&IBAN=<redacted>&author=me#password=<redacted>',
  );
});

const BODIES: readonly (readonly [string, string, string])[] = [
  ['application/json', `{"a" : 1, "password" :\n"${SECRET}", "b":[]}`, 'json'],
  ['application/json', `{"user":{"Pass\\u0077ord":{"deep":["${SECRET}","}"]}},"n":1}`, 'escaped'],
  ['application/json', `{"token":"a\\"${SECRET}","x":"token"}`, 'quote within'],
  ['application/json', `{"x":1,"client_secret":"${SECRET}`, 'cut within'],
  ['text/plain', `[{"api-key":"${SECRET}"}]`, 'json without its type'],
  ['application/x-www-form-urlencoded', `user=me&passwd=${SECRET}&z=1`, 'form'],
  ['text/plain', `user=me&passwd=${SECRET}&z=1`, 'form without its type'],
  ['text/xml', `<a><ns:password type="x">${SECRET}</ns:password><b>1</b></a>`, 'xml'],
  [
    'multipart/form-data; boundary=B',
    [
      ...['--B', 'Content-Disposition: form-data; name="password"', '', SECRET],
      ...['--B', 'Content-Disposition: form-data; name="n"', '', '1', '--B--', ''],
    ].join('\r\n'),
    'multipart',
  ],
];

for (const [type, text, name] of BODIES) {
  test(`bodies: ${name}`, () => {
    const is = body(text, type);
    assert.ok(!is.text.includes(SECRET), is.text);
    assert.ok(is.text.includes('<redacted>'));
    const plain = text.replaceAll(SECRET, 'harmless').replaceAll(/pass\w*|Pass[\\\w]*/g, 'x');
    const harmless = plain.replaceAll(/token|client_secret|api-key/g, 'y');
    assert.equal(body(harmless, type).text, harmless);
  });
}

test('bodies that are encoded are read, or withheld', () => {
  const text = `{"password":"${SECRET}","a":1}`;
  for (const [coding, bytes] of [
    ['gzip', gzipSync(text)],
    ['deflate', deflateSync(text)],
    ['br', brotliCompressSync(text)],
    ['zstd', zstdCompressSync(text)],
  ] as const) {
    const is = body(bytes, 'application/json', {}, ['Content-Encoding', coding]);
    assert.deepEqual(
      [is.text, is.decoded, is.withheld],
      ['{"password":"<redacted>","a":1}', coding, ''],
    );
  }
  const bomb = gzipSync(Buffer.alloc(8 << 20));
  const cases: [Uint8Array, string][] = [
    [bomb, 'gzip'],
    [Buffer.from('no gzip'), 'gzip'],
    [Buffer.from('x'), 'rot13'],
  ];
  for (const [bytes, coding] of cases) {
    const is = body(bytes, 'application/json', {}, ['Content-Encoding', coding]);
    assert.deepEqual([is.text, is.withheld], ['', `content-encoding ${coding}`]);
  }
});

test('bytes that are no text keep their values', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  const is = body(bytes, 'application/octet-stream');
  assert.equal(is.encoding, 'base64');
  assert.deepEqual(Buffer.from(is.text, 'base64'), Buffer.from(bytes));
  const cut = body(Buffer.from('grün').subarray(0, 3), 'text/plain', {}, [], true);
  assert.deepEqual([cut.text, cut.encoding], ['gr', 'utf8']);
});

test('patterns take time in proportion to the text, or are refused', () => {
  const is = body('a'.repeat(1 << 20), 'text/plain', { patterns: ['(a+)+b'] });
  assert.equal(is.text.length, 1 << 20);
  for (const source of ['(?=a)b', '(a)\\1', '(', 'a'.repeat(2000)]) {
    assert.throws(() => linearPattern(source), Error);
  }
  assert.throws(() => new Redactor({ ...NONE, patterns: new Array(100).fill('a') }), /too many/);
});

test('secrets do not leave JSON of any shape', () => {
  const keys = fc.constantFrom('password', 'accessToken', 'CLIENT-SECRET', 'a', 'b.c', 'x"y\\');
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      fc.string(),
      fc.integer(),
      fc.constant(null),
      fc.array(tie('any'), { maxLength: 3 }),
      fc.array(fc.tuple(keys, tie('any')), { maxLength: 4 }).map(Object.fromEntries),
    ),
  })).any;
  const redactor = new Redactor(NONE);
  const hide = (one: unknown): unknown => {
    if (Array.isArray(one)) return one.map(hide);
    if (one === null || typeof one !== 'object') return one;
    return Object.fromEntries(
      Object.entries(one).map(([key, inner]) => [
        key,
        redactor.isSecretKey(key) ? '<redacted>' : hide(inner),
      ]),
    );
  };
  fc.assert(
    fc.property(value, fc.nat(2), (one, indent) => {
      const is = body(JSON.stringify(one, null, indent), 'application/json');
      assert.deepEqual(JSON.parse(is.text), hide(one));
    }),
    SEED,
  );
});

test('hostile bytes: no throw, and no more than there was', () => {
  const types = ['application/json', 'text/xml', 'application/x-www-form-urlencoded', ''];
  const mixed = fc.array(
    fc.constantFrom(
      '"',
      '\\',
      '{',
      '}',
      '[',
      ':',
      '<',
      '>',
      '=',
      '&',
      'password',
      '%',
      '\r\n',
      'é',
    ),
    { maxLength: 200 },
  );
  fc.assert(
    fc.property(fc.constantFrom(...types), mixed, fc.uint8Array(), (type, words, bytes) => {
      const text = Buffer.concat([Buffer.from(words.join('')), bytes]);
      body(text, type, { patterns: ['[a-z]+="'] }, [], true);
      const spans = secretSpans(text.toString('latin1'), (key) => key === 'password');
      spans.forEach(({ from, to }, i) => {
        assert.ok(from < to && to <= text.length && from >= (spans[i - 1]?.to ?? 0));
      });
    }),
    SEED,
  );
});
