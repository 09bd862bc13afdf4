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
    ...['X-Functions-Key', SECRET, 'Ocp-Apim-Subscription-Key', SECRET, 'x_api_key', SECRET],
    ...['Sec-WebSocket-Protocol', `bearer, ${SECRET}`, 'Idempotency-Key', 'abc'],
    ...['Referer', `https://u:${SECRET}@h/p?a=1&token=${SECRET}`],
  ]);
  assert.ok(!JSON.stringify(pairs).includes(SECRET));
  const shown = pairs.filter(([, value]) => value !== '<redacted>');
  assert.deepEqual(shown, [
    ['Accept', 'text/html'],
    ['X-Card', 'no <redacted> here'],
    ['Idempotency-Key', 'abc'],
    ['Referer', 'https://<redacted>@h/p?a=1&token=<redacted>'],
  ]);
});

test('targets: the values of secret keys', () => {
  const redactor = new Redactor({ ...NONE, keys: ['iban'] });
  assert.equal(
    redactor.target(`/a?sig=${SECRET}&jwt=${SECRET}`),
    '/a?sig=<redacted>&jwt=<redacted>',
  );
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

/** What must hold nothing of the secret, by what is said about it. */
const LEAKS: readonly (readonly [string, string, string])[] = [
  ['cdata', 'text/xml', `<r><token><![CDATA[${SECRET}]]></token></r>`],
  ['attribute', 'text/xml', `<r a="1" password="${SECRET}"/>`],
  ['attribute in the other quotes', 'text/xml', `<r a="'" ns:password = '${SECRET}">'>x</r>`],
  ['attribute without quotes', 'text/html', `<r password=a<${SECRET}>x</r>`],
  ['attribute of the element', 'text/xml', `<password v="${SECRET}"/>`],
  ['attribute behind a bracket', 'text/xml', `<r a=">" b="<" password="${SECRET}"/>`],
  ['nested', 'text/xml', `<password><v>${SECRET}</v><v/>${SECRET}</password>`],
  ['nested in itself', 'text/xml', `<pin><pin>1</pin><pin/>${SECRET}</pin >`],
  ['behind a comment', 'text/xml', `<password>a<!-- </password> -->${SECRET}</password>`],
  ['behind an end in cdata', 'text/xml', `<pin><![CDATA[</pin>]]>${SECRET}</pin>`],
  ['within a comment', 'text/xml', `<a><!-- <password>${SECRET}</password> --></a>`],
  ['xml within cdata', 'text/xml', `<a><![CDATA[<password>${SECRET}</password>]]></a>`],
  ['element cut off', 'text/xml', `<a><password>${SECRET}`],
  ['attribute cut off', 'text/xml', `<a password="${SECRET}`],
  ['instruction', 'text/xml', `<?x password="${SECRET}"?><a/>`],
  ['named by an attribute', 'text/html', `<input value="${SECRET}" name="password">`],
  ['content named so', 'text/xml', `<p><entry key="password">${SECRET}</entry></p>`],
  ['xml without its type', 'text/plain', `\ufeff <a password="${SECRET}"/>`],
  ['broken quotes', 'text/xml', `<a x="><password>${SECRET}</password><b y="1"/></a>`],
  ['events', 'text/event-stream', `data: {"password":"${SECRET}"}\n\n`],
  ['json under the type of a form', 'application/x-www-form-urlencoded', `{"pin":"${SECRET}"}`],
  ['form with other separators', 'application/x-www-form-urlencoded', `pin=a;${SECRET}&a=1`],
  ['url in a form', 'application/x-www-form-urlencoded', `u=http://h/?pin=${SECRET}&a=1`],
  ['password of a url', 'text/plain', `at redis://u:${SECRET}@h:1/0 it is`],
  ['password with an at', 'text/plain', `redis://u:x@${SECRET}@h`],
  ['password with a slash', 'text/plain', `redis://u:x/${SECRET}@h`],
  ['url in json', 'application/json', `{"a":"http:\\/\\/u:${SECRET}@h\\/"}`],
  ['url in xml', 'text/xml', `<a href="ftp://u:${SECRET}@h/">ftp://:${SECRET}@h</a>`],
  ['named in json', 'application/json', `[{"name":"DB_PASSWORD","value":"${SECRET}"}]`],
  ['named behind it', 'application/json', `[{"value":{"a":["${SECRET}"]},"name":"pin"}]`],
  ['its name cut off', 'application/json', `[{"value":"${SECRET}","na`],
  ['pairs', 'application/json', `{"headers":[["Authorization","Bearer ${SECRET}"]]}`],
  ['pairs cut off', 'application/json', `[["Cookie" , "a", ["${SECRET}`],
  ['keys in the plural', 'application/json', `{"tokens":["${SECRET}"],"passwords":"${SECRET}"}`],
  ['cookies', 'application/json', `{"cookie":"${SECRET}","set-cookie":["${SECRET}"]}`],
  ['short names', 'application/json', `{"jwt":"${SECRET}","bearer":"${SECRET}","sig":"${SECRET}"}`],
  ['script in place of json', 'application/json', `{password:"${SECRET}",'pin':'${SECRET}'}`],
  ['element of a void name', 'text/xml', `<param name="password">${SECRET}</param>`],
  ['element that names the next', 'text/xml', `<key>pin</key> <string>${SECRET}</string>`],
  ['latin-1 with a wrong type', 'image/png', `{"a":"\xe9","password":"${SECRET}"}`],
  ['url encoded', 'application/x-www-form-urlencoded', `a=x%3A%2F%2Fu%3A${SECRET}%40h%2F`],
];

for (const [name, type, text] of LEAKS) {
  test(`nothing of the secret stays: ${name}`, () => {
    const bytes = Buffer.from(text, text.includes('\xe9') ? 'latin1' : 'utf8');
    const is = body(bytes, type);
    const shown =
      is.encoding === 'utf8' ? is.text : Buffer.from(is.text, 'base64').toString('latin1');
    assert.ok(!shown.includes(SECRET), shown);
    assert.ok(shown.includes('<redacted>'));
    const plain = body(bytes, type, {}, [], true).text;
    assert.equal(plain, is.text);
  });
}

test('markup: what is no secret stays', () => {
  const is = (text: string): string => body(text, 'text/html').text;
  assert.equal(
    is(`<a b="1"><password x="2">s</password><pin/><c>t &lt; u</c></a>`),
    '<a b="1"><password x="<redacted>"><redacted></password><pin/><c>t &lt; u</c></a>',
  );
  for (const text of [
    '<!DOCTYPE html><p class=x>a < b & c > d</p><!-- note --><br><img src="a.png" alt=\'"\'>',
    '<script>for (i=0;i<n;i++){s="http://h:80/@x"}</script><a href="//h/@x">y</a>',
    '<a><![CDATA[x]]></a><b>1</b> <',
  ]) {
    assert.equal(is(text), text);
  }
});

const FIELD = 'Content-Disposition: form-data; ';
for (const [name, head] of [
  ['plain', `${FIELD}name=password`],
  ['extended', `${FIELD}name*=UTF-8''pass%77ord`],
  ['behind the name of a file', `${FIELD}filename="a.txt"; name="password"`],
  ['in pieces', `${FIELD}name*0="pass"; name*1="word"`],
] as const) {
  for (const end of ['\n', '\r\n']) {
    test(`parts: ${name}, line ends of ${end.length}`, () => {
      const parts = ['before', '--B', head, '', `x--B ${SECRET}`, '--B', `${FIELD}name=n`, '', '1'];
      const text = [...parts, '--B--', ''].join(end);
      const is = body(text, 'multipart/form-data; boundary="B"').text;
      assert.equal(is, text.replace(`x--B ${SECRET}`, '<redacted>'));
    });
  }
}

test('parts within parts, and of other types', () => {
  const inner = ['--I', `${FIELD}name=pin`, '', SECRET, '--I--'].join('\r\n');
  const type = 'Content-Type: multipart/mixed; boundary=I';
  const xml = `<a><pin>${SECRET}</pin></a>`;
  const text = ['--B', type, '', inner, '--B', FIELD, '', xml, '--B--', ''].join('\r\n');
  const is = body(text, 'multipart/form-data; boundary=B').text;
  assert.equal(is, text.replaceAll(SECRET, '<redacted>'));
});

test('headers: URLs and parameters in any of them', () => {
  const is = (value: string): string => new Redactor(NONE).headers(['X-Any', value])[0]![1];
  const cases = [
    [`/a?b=1&token=${SECRET}&c=2`, '/a?b=1&token=<redacted>&c=2'],
    [`http://u:${SECRET}@h/a;x=1`, 'http://<redacted>@h/a;x=1'],
    [
      `<http://u:${SECRET}@h/?pin=${SECRET}>; rel=next`,
      '<http://<redacted>@h/?pin=<redacted>>; rel=next',
    ],
    [`/a;jsessionid=${SECRET}/b?c=1`, '/a;jsessionid=<redacted>/b?c=1'],
    [`/a?PHPSESSID=a/${SECRET}`, '/a?PHPSESSID=<redacted>'],
    [`for=h;token="a ${SECRET}";by=x`, 'for=h;token=<redacted>;by=x'],
    ['text/html; charset=utf-8, q=0.5', 'text/html; charset=utf-8, q=0.5'],
    ['http://h:80/@a?b=c', 'http://h:80/@a?b=c'],
  ] as const;
  for (const [value, wanted] of cases) assert.equal(is(value), wanted);
  const target = new Redactor(NONE).target(`/a;jsessionid=${SECRET}?b=1`);
  assert.equal(target, '/a;jsessionid=<redacted>?b=1');
});

/** Each would take minutes where a scan begins anew for each of its pieces. */
test('hostile text: time in proportion to it', () => {
  const pieces = [
    '<',
    '<!--',
    '<![CDATA[',
    '<a b="',
    '<a b=\'"',
    '<a b="<a b=\'<',
    '</pin',
    '<pin>',
  ];
  pieces.push(
    '<pin ',
    '<a pin',
    '=',
    'a://',
    'a://u:x/',
    '%3a%2f%2f',
    '{"',
    '\n--B\r\n\r\n',
    ';pin=',
    '{"value":',
    '{"value":"x"',
    '{"value":a',
    '{"name":"a","value":"x"',
    '"pin":a',
    '[["pin",',
    ' {pin:x,',
    "\\'pin=x\n",
    'pin="\n',
    ' pin:\n',
    'value: \'"\n',
    '- name: pin\n',
    '<key>pin</key><a>',
    '<input name=pin>',
  );
  for (const piece of pieces) {
    const text = piece.repeat((1 << 20) / piece.length);
    for (const type of ['text/xml', 'text/plain', 'multipart/mixed; boundary=B']) body(text, type);
    new Redactor(NONE).target(text);
  }
});

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

test('noise is no text: it stays byte by byte', () => {
  let state = 7;
  const noise = (length: number): Buffer => {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i += 1) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      bytes[i] = state >>> 24;
    }
    return bytes;
  };
  const type = 'multipart/form-data; boundary=B';
  for (let i = 0; i < 40; i += 1) {
    // as a form begins, as markup does, and with a mark that a form ends its keys with
    const bytes = Buffer.concat([Buffer.from(['', 'a=', '<', '"'][i % 4]!), noise(200_000)]);
    const is = body(bytes, i % 2 === 0 ? 'image/png' : 'application/vnd.openxmlformats-x');
    assert.ok(Buffer.from(is.text, 'base64').equals(bytes), `run ${i}`);
    const part = `--B\r\n${FIELD}name="f"\r\nContent-Type: image/png\r\n\r\n`;
    const parts = Buffer.concat([Buffer.from(part), bytes, Buffer.from('\r\n--B--\r\n')]);
    assert.ok(Buffer.from(body(parts, type).text, 'base64').equals(parts), `run ${i}`);
  }
  const around = Buffer.concat([noise(9000), Buffer.from(`{"password":"${SECRET}"}`)]);
  const url = Buffer.concat([noise(9000), Buffer.from(`amqp://u:${SECRET}@h`)]);
  for (const bytes of [around, url]) {
    const text = Buffer.from(body(bytes, 'image/png').text, 'base64').toString('latin1');
    assert.ok(!text.includes(SECRET) && text.includes('<redacted>'));
  }
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
      '<!--',
      '-->',
      '<![CDATA[',
      '/',
      '://',
      '@',
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
