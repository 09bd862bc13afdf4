import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SEED } from './testing.ts';
import { formatTable, safeLines, textWidth } from './text.ts';
import { formatValue } from './units.ts';

test('numbers stand right, texts left, units are humane, nothing is a dash', () => {
  const columns = [
    { name: 'process' },
    { name: 'pid' },
    { name: 'read', unit: 'By' },
    { name: 'rtt', unit: 'us' },
  ] as const;
  const rows = [
    ['nginx', 7, 1536, 250],
    ['ü', 12345, '9007199254740993', null],
    ['', 1, 0, Number.NaN],
  ];
  assert.equal(
    formatTable(columns, rows),
    [
      'process    pid      read     rtt',
      'nginx        7  1.50 KiB  250 µs',
      'ü        12345  8.00 PiB       -',
      '             1       0 B       -',
    ].join('\n'),
  );
});

test('a table without rows has its head, and a colour only if told', () => {
  assert.equal(formatTable([{ name: 'a' }, { name: 'b' }], []), 'a  b');
  const head = formatTable([{ name: 'a' }], [['x']], { color: true });
  assert.equal(head, '\u001b[1ma\u001b[0m\nx');
});

test('nothing that a terminal obeys gets through', () => {
  const text = formatTable([{ name: 'a\u001b' }], [['\u001b[2J\u0007\u009b\r\n\t\u202e\u200fx']]);
  assert.equal(text, `a\ufffd\n\ufffd[2J${'\ufffd'.repeat(7)}x`);
  assert.equal(safeLines('a\u001b[2J\nb\rc\u009b\u202e'), 'a\ufffd[2J\nb\ufffdc\ufffd\ufffd');
});

test(`no line is wider than the terminal (seed ${SEED})`, () => {
  const cell = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 40 }), fc.integer());
  const table = fc.array(fc.tuple(cell, cell, cell, cell), { maxLength: 8 });
  const property = fc.property(table, fc.integer({ min: 1, max: 100 }), (rows, width) => {
    const columns = ['one', 'two', 'three', 'four'].map((name) => ({ name }));
    const lines = formatTable(columns, rows, { width }).split('\n');
    assert.equal(lines.length, rows.length + 1);
    for (const line of lines) assert.ok(textWidth(line) <= width, `${line.length}: ${line}`);
  });
  fc.assert(property, { seed: SEED });
});

test('the widest text gives way first, numbers stay whole', () => {
  const columns = [{ name: 'path' }, { name: 'name' }, { name: 'count' }];
  const rows = [['/usr/lib/systemd/systemd', 'systemd', 1_234_567]];
  assert.equal(
    formatTable(columns, rows, { width: 32 }),
    'path            name       count\n/usr/lib/syst…  systemd  1234567',
  );
});

test('where there is too little room the lowest rank goes first, and an address keeps its port', () => {
  const columns = [
    { name: 'process' },
    { name: 'proto', rank: 1 },
    { name: 'peer', width_min: 15, cut: 'middle' },
    { name: 'opened', rank: 2 },
    { name: 'read', unit: 'By' },
  ] as const;
  const rows = [['postgres', 'tcp', '192.168.100.200:45678', 12, 1536]];
  const at = (width: number) => formatTable(columns, rows, { width });
  assert.deepEqual(
    [50, 46, 36, 28].map((width) => at(width).split('\n')),
    [
      [
        'process   proto  peer             opened      read',
        'postgres  tcp    192.168.…:45678      12  1.50 KiB',
      ],
      [
        'process   peer                opened      read',
        'postgres  192.168.100…:45678      12  1.50 KiB',
      ],
      ['process   peer                  read', 'postgres  192.168.1…:45678  1.50 KiB'],
      ['process   peer          read', 'postgres  1…:45678  1.50 KiB'],
    ],
  );
});

test('wide signs take two columns, marks none', () => {
  assert.equal(textWidth('日本'), 4);
  assert.equal(textWidth('😀'), 2);
  assert.equal(textWidth('e\u0301'), 1);
});

test('values choose their unit', () => {
  const cases = [
    [0, 'By', '0 B'],
    [1023, 'By', '1023 B'],
    [1024, 'By', '1.00 KiB'],
    [1024 * 1024 - 1, 'By', '1.00 MiB'],
    [10 * 1024, 'By', '10.0 KiB'],
    [2 ** 70, 'By', '1024 EiB'],
    [999, 'ns', '999 ns'],
    [1000, 'ns', '1.00 µs'],
    [999_999, 'us', '1.00 s'],
    [12_345, 'us', '12.3 ms'],
    [0.5, 'ns', '0.50 ns'],
    [90, 's', '1m 30s'],
    [7500, 's', '2h 05m'],
    [100_000_000, 'ms', '1d 03h'],
    [-2048, 'By', '-2.00 KiB'],
    [42, '1', '42'],
    [0.123, '1', '0.12'],
    [0.000123, '1', '1.2e-4'],
    [Number.NaN, 'By', '-'],
    [Number.POSITIVE_INFINITY, 's', '∞'],
  ] as const;
  for (const [value, unit, text] of cases) assert.equal(formatValue(value, unit), text);
});
