// Plain text: where a value begins and ends, as the formats have it that such text is of.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Redactor } from './redact.ts';

const redactor = new Redactor({ headers: [], keys: [], patterns: [], body_max: 1 << 20 });

function is(text: string, type = 'text/plain'): string {
  return redactor.body(['Content-Type', type], Buffer.from(text), false).text;
}

const CASES: readonly (readonly [string, string])[] = [
  ['password: x y', 'password: <redacted>'],
  ['password:x', 'password:<redacted>'],
  ['a: 1\r\npassword = x y\r\nb: 2', 'a: 1\r\npassword = <redacted>\r\nb: 2'],
  ['export PASSWORD=x', 'export PASSWORD=<redacted>'],
  ['declare -x TOKEN="x y" # z', 'declare -x TOKEN="<redacted>" # z'],
  ['A=1\nDB_PASSWORD=x', 'A=1\nDB_PASSWORD=<redacted>'],
  ['Authorization: Bearer x\nHost: y', 'Authorization: <redacted>\nHost: y'],
  ['curl -H "Cookie: a=x; b" http://h', 'curl -H "Cookie: <redacted>" http://h'],
  ['mysql --password=x -u y', 'mysql --password=<redacted> -u y'],
  ['user=a password=x z=1', 'user=a password=<redacted> z=1'],
  ['see {user: a, pin: x, b: 1}', 'see {user: a, pin: <redacted>, b: 1}'],
  ['it says: your password: x y', 'it says: your password: <redacted>'],
  ["{'password': 'x', 'b': 'y'}", "{'password': '<redacted>', 'b': 'y'}"],
  ['a "b {"password":"x"}', 'a "b {"password":"<redacted>"}'],
  ['{"a":1}\nexport PASSWORD=x\n', '{"a":1}\nexport PASSWORD=<redacted>\n'],
];

for (const [text, wanted] of CASES) {
  test(`text: ${JSON.stringify(text)}`, () => assert.equal(is(text), wanted));
}

const YAML: readonly (readonly [string, string])[] = [
  ['db:\n  password: "x"\n  user: y\n', 'db:\n  password: "<redacted>"\n  user: y\n'],
  ['pin: |\n  x\n\n  y\nb: 1\n', 'pin: <redacted>\nb: 1\n'],
  ['a:\n  secret:\n    b: x\n  c: 1\n', 'a:\n  secret: <redacted>\n  c: 1\n'],
  ['tokens:\n- x\n- y\nb: 1\n', 'tokens:<redacted>\nb: 1\n'],
  [
    'env:\n  - name: DB_PASSWORD\n    value: x\n  - name: B\n    value: y\n',
    'env:\n  - name: DB_PASSWORD\n    value: <redacted>\n  - name: B\n    value: y\n',
  ],
  ['- value: x\n  name: "pin"\n', '- value: <redacted>\n  name: "pin"\n'],
];

for (const [text, wanted] of YAML) {
  test(`yaml: ${JSON.stringify(text)}`, () => {
    assert.equal(
      is(text, 'application/yaml').replaceAll(': <redacted>', ':<redacted>'),
      wanted.replaceAll(': <redacted>', ':<redacted>'),
    );
  });
}

test('what is no secret stays, and so do scripts', () => {
  for (const text of [
    'at 12:30 the token was fine: http://h:80/a?b=c\n  indented: yes\n',
    'name: a\nvalue: b\nkey: c\ncontent: d\n',
    '[\n  "a: b",\n  {\n    "name": "a",\n    "value": 1\n  }\n]',
    '{"max_tokens":100,"total_tokens":5,"value":{"a":[1]},"name":"x"}',
    '[["user","password"],["a","b"]]',
  ]) {
    assert.equal(is(text), text);
  }
  const script = 'switch(a){case"password":return"b"}token=c;d({e:1})';
  assert.equal(is(script, 'text/javascript'), script.replace('return"b"', '"<redacted>"'));
});
