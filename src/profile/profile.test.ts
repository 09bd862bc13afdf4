// Symbols and formats, on texts and bytes as the kernel and linkers write them, and on any.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { elfFunctions } from './elf_functions.ts';
import { folded, pprof } from './formats.ts';
import { kernelSymbols } from './kernel_symbols.ts';
import { SymbolTable } from './symbol_table.ts';
import { parseMaps } from './user_symbols.ts';

const SEED = 20_260_131;

test('an address has the name of the symbol that it lies in', () => {
  const table = new SymbolTable();
  table.add(0x200, 0, 'endless');
  table.add(0x100, 0x10, 'short');
  table.add(0x100, 0x10, 'alias');
  const names = [0xff, 0x100, 0x10f, 0x110, 0x1ff, 0x200, 2 ** 48].map((at) => table.find(at));
  const nothing = undefined;
  assert.deepEqual(names, [nothing, 'short', 'short', nothing, nothing, 'endless', 'endless']);
  assert.equal(new SymbolTable().find(0), undefined);
});

test('kallsyms: functions, those of modules too; nothing where addresses are hidden', () => {
  const symbols = kernelSymbols(
    [
      'ffffffff81000000 T _text',
      'ffffffff81000010 t do_thing',
      'ffffffff81000020 D some_data',
      'ffffffffc0001000 t helper\t[nf_tables]',
      '0000000000000000 T hidden',
      'garbage',
      '',
    ].join('\n'),
  );
  const at = (low: number) => symbols.find(0xffff_0000_0000 + low);
  assert.equal(symbols.size, 3);
  assert.deepEqual(
    [at(0x8100_0005), at(0x8100_0025), at(0xc000_1008)],
    ['_text', 'do_thing', 'helper [nf_tables]'],
  );
});

test('maps: what is executed, paths with blanks too', () => {
  const text = `55d0c0a00000-55d0c0a01000 r--p 00000000 fe:00 1234                       /bin/x
55d0c0a01000-55d0c0a02000 r-xp 00001000 fe:00 1234                       /bin/a b (deleted)
7fffdeadb000-7fffdeadd000 r-xp 00000000 00:00 0                          [vdso]
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
`;
  assert.deepEqual(
    parseMaps(text).map(({ begin, offset, file, path }) => [begin, offset, file, path]),
    [
      [0x55d0_c0a0_1000, 0x1000, 'fe:00 1234', '/bin/a b (deleted)'],
      [0x7fff_dead_b000, 0, '00:00 0', '[vdso]'],
      [0x7f00_0000_0000, 0, '00:00 0', ''],
    ],
  );
});

test('this Node has functions, at places within its file', () => {
  const bytes = readFileSync(process.execPath);
  const table = elfFunctions(bytes);
  assert.ok(table.size > 1000, `${table.size}`);
  const code = bytes.length - 1;
  assert.ok(typeof (table.find(code) ?? '') === 'string');
});

test(`any file is read without a throw, seed ${SEED}`, () => {
  const head = Buffer.from('7f454c460201010000000000000000000300', 'hex');
  const rest = fc.uint8Array({ minLength: 0, maxLength: 600 });
  const small = fc.array(fc.tuple(fc.integer({ min: 16, max: 400 }), fc.integer({ max: 9 })));
  fc.assert(
    fc.property(rest, small, (bytes, pokes) => {
      const file = Buffer.concat([head, bytes]);
      for (const [at, value] of pokes) if (at < file.length) file[at] = value & 0xff;
      assert.ok(elfFunctions(file).size >= 0);
      assert.ok(parseMaps(file.toString('latin1')).length >= 0);
      assert.ok(kernelSymbols(file.toString('latin1')).size >= 0);
    }),
    { seed: SEED, numRuns: 1000 },
  );
});

const SAMPLES = [
  { pid: 7, comm: 'a;b', frames: ['main', 'f', 'g h\n'], count: 3 },
  { pid: 8, comm: 'a;b', frames: ['main', 'f', 'g h\n'], count: 4 },
  { pid: 7, comm: 'x', frames: [], count: 9 },
];

test('folded: a line a stack, of all processes of a name; what separates is kept out', () => {
  assert.equal(folded(SAMPLES), 'x 9\na:b;main;f;g h  7\n');
  assert.equal(folded([]), '');
});

test('pprof: as the format has it, byte for byte', () => {
  const options = { frequency: 100, began_ms: 1000, duration_ms: 2 };
  const bytes = gunzipSync(pprof([{ pid: 5, comm: 'c', frames: ['m', 'f'], count: 2 }], options));
  const text = (value: string): string =>
    Buffer.concat([Buffer.from([0x32, value.length]), Buffer.from(value)]).toString('hex');
  const expected = [
    '0a0408011002', // samples, count
    '0a0408031004', // cpu, nanoseconds
    // location 1 (f), then 2 (m); 2 samples of 10 ms each; comm = c, pid = 5
    '121708010802100210' + '80dac409' + '1a0408051006' + '1a0408071805',
    '22060801220208' + '01' + '2a04' + '08011008',
    '22060802220208' + '02' + '2a04' + '08021009',
    ...['', 'samples', 'count', 'cpu', 'nanoseconds', 'comm', 'c', 'pid', 'f', 'm'].map(text),
    '48' + '8094ebdc03', // time
    '50' + '80897a', // duration
    '5a0408031004' + '60' + '80ade204', // period
  ].join('');
  assert.equal(bytes.toString('hex'), expected);
});
