import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Btf } from './btf.ts';
import { compileBpf } from './compile.ts';
import { Elf } from './elf.ts';
import { generateLayout } from './layout-text.ts';
import { fixture } from './testdata/fixture.ts';

const probe = await fixture('probe');

async function compiled(source: string): Promise<Buffer> {
  const folder = mkdtempSync(join(tmpdir(), 'bpf-layout-'));
  try {
    writeFileSync(join(folder, 'x.bpf.c'), `typedef unsigned long long u64;\n${source}`);
    await compileBpf(join(folder, 'x.bpf.c'), join(folder, 'x.bpf.o'));
    return readFileSync(join(folder, 'x.bpf.o'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Compiles C and gives the layout of `names`. */
async function layoutOf(source: string, names: string[]): Promise<string> {
  return generateLayout(await compiled(source), names);
}

interface Generated {
  readonly event: Readonly<Record<string, number>>;
  readonly event_kind: Readonly<Record<string, number>>;
  readonly EventView: new (
    bytes: Uint8Array,
  ) => Record<string, unknown> & {
    at: number;
    move(offset: number): Record<string, unknown>;
    over(bytes: Uint8Array): Record<string, unknown>;
    slots(i: number): number;
  };
}

async function generated(): Promise<{ module: Generated; text: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'bpf-layout-'));
  const text = generateLayout(probe, ['event', 'task_row']);
  writeFileSync(join(folder, 'layout.gen.ts'), text);
  try {
    // The module is what the generator just wrote; its shape is what this test is about.
    const module = (await import(pathToFileURL(join(folder, 'layout.gen.ts')).href)) as Generated;
    return { module, text };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Every byte differs from its neighbour, so that a swapped field cannot pass. */
const golden = Uint8Array.from({ length: 8 + 96 + 8 }, (_, i) => (i * 37 + 11) & 0xff);
const view = new DataView(golden.buffer);

test('a view reads each field at its place, with its sign and width', async () => {
  const { module } = await generated();
  const at = 8;
  const event = new module.EventView(golden).move(at);
  assert.equal(event.stamp_lo, view.getUint32(at, true));
  assert.equal(event.stamp_hi, view.getUint32(at + 4, true));
  assert.equal(event.stamp, Number(view.getBigUint64(at, true)));
  assert.equal(event.delta, Number(view.getBigInt64(at + 8, true)));
  assert.equal(event.pid, view.getUint32(at + 16, true));
  assert.equal(event.kind, view.getUint32(at + 20, true));
  assert.deepEqual([...(event.from_bytes as Uint8Array)], [...golden.subarray(at + 24, at + 40)]);
  assert.equal(event.from_port, view.getUint16(at + 40, true));
  assert.equal(event.to_family, view.getUint16(at + 62, true));
  assert.equal(event.to_bytes_offset, at + 44);
  const row = new module.EventView(golden);
  row.move(at);
  for (const i of [0, 1, 2]) assert.equal(row.slots(i), view.getUint32(at + 80 + 4 * i, true));
  assert.equal(event.small, view.getUint16(at + 92, true));
  assert.equal(event.flag, true);
  assert.equal(event.tiny, view.getInt8(at + 95));
  assert.equal(module.event.SIZE, 96);
  assert.deepEqual(module.event_kind, { EVENT_FIRST: 1, EVENT_SECOND: 7 });
});

test('signed 64-bit numbers keep their sign, large ones their digits', async () => {
  const { module } = await generated();
  const bytes = new Uint8Array(96);
  const data = new DataView(bytes.buffer);
  const event = new module.EventView(bytes);
  data.setBigUint64(0, 2n ** 53n - 1n, true);
  for (const value of [-1n, -(2n ** 40n) - 7n, 2n ** 40n + 7n]) {
    data.setBigInt64(8, value, true);
    assert.equal(event.delta, Number(value));
  }
  assert.equal(event.stamp, 2 ** 53 - 1);
});

test('text ends at its first NUL, or at the end of its field', async () => {
  const { module } = await generated();
  const bytes = new Uint8Array(96).fill(0x41);
  const event = new module.EventView(bytes);
  assert.equal(event.comm, 'A'.repeat(16));
  bytes.set(Buffer.from('größe\0xyz'), 64);
  assert.equal(event.comm, 'größe');
  assert.equal(event.comm_offset, 64);
  bytes[64] = 0;
  assert.equal(event.comm, '');
  const other = new Uint8Array(96);
  other.set(Buffer.from('other'), 64);
  assert.equal(event.over(other).comm, 'other');
});

test('the view works on a part of a larger buffer', async () => {
  const { module } = await generated();
  const part = golden.subarray(8, 104);
  const event = new module.EventView(part);
  assert.equal(event.pid, view.getUint32(8 + 16, true));
  assert.equal((event.to_bytes as Uint8Array)[0], golden[8 + 44]);
});

test('what is written passes the strict compiler', async () => {
  const { text } = await generated();
  const forms = await layoutOf(
    `struct label { char text[8]; }; struct raw { unsigned char octets[8]; };
     struct pair { struct raw both[2]; }; struct list { u64 numbers[3]; };
     struct { struct label a; struct pair b; struct list c; } x;`,
    ['label', 'raw', 'pair', 'list'],
  );
  const root = fileURLToPath(new URL('../../', import.meta.url));
  // Inside of the project, so that the types of Node are found.
  const folder = mkdtempSync(join(root, 'build/layout-'));
  writeFileSync(join(folder, 'layout.gen.ts'), text);
  writeFileSync(join(folder, 'forms.gen.ts'), forms);
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: join(root, 'tsconfig.json'), include: ['*.ts'] }),
  );
  try {
    execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', folder], { stdio: 'pipe' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a hole without a name is refused, by struct and offset', async () => {
  assert.throws(() => generateLayout(probe, ['holed']), {
    code: 'ELAYOUT',
    message: "Cannot generate a layout, struct 'holed' has a hole of 3 bytes at offset 1, name it",
  });
  const tail = layoutOf('struct tail { u64 a; char b; } x;', ['tail']);
  await assert.rejects(tail, { message: /'tail' has a hole of 7 bytes at offset 9/ });
  const inner = layoutOf('struct in { short a; int b; }; struct out { u64 a; struct in b; } x;', [
    'out',
  ]);
  await assert.rejects(inner, { message: /'out' has a hole of 2 bytes at offset 10/ });
  const rows = layoutOf('struct in { char a; int b; }; struct out { struct in b[2]; } x;', ['out']);
  await assert.rejects(rows, { message: /'in' has a hole of 3 bytes at offset 1/ });
});

test('what has no clear form on a wire is refused', async () => {
  const refused: [string, RegExp][] = [
    ['struct s { void *p; } x;', /'p' of struct 's' is a pointer/],
    ['struct s { int a:3; int b:29; } x;', /'a' of struct 's' is a bit field/],
    ['struct s { struct { int a; } b; int b_a; } x;', /'b_a' of struct 's' is taken/],
    ['struct s { u64 a; u64 a_hi; } x;', /'a_hi' of struct 's' is taken/],
    ['struct s { int at; } x;', /'at' of struct 's' is taken/],
    ['enum e { ABOVE = 3000000000 }; struct s { enum e a; } x;', /'ABOVE' of 'e' is negative or/],
    ['struct other { int a; } x;', /no struct or enum 's'/],
    ['struct s { int a; char rest[]; } x;', /'rest' of struct 's' has no size/],
  ];
  for (const [source, message] of refused) {
    await assert.rejects(layoutOf(source, ['s']), { code: 'ELAYOUT', message }, source);
  }
});

test('a negative enumerator is refused, or is negative where clang says so', async () => {
  const source = 'enum e { BELOW = -3 }; struct s { enum e a; } x;';
  const layout = await layoutOf(source, ['s', 'e']).catch((error: unknown) => String(error));
  assert.match(layout, /BELOW' of 'e' is negative or above|BELOW\W+-3\b/);
});

test('a struct that holds itself, as damage may have it, is refused', async () => {
  const object = await compiled('struct in { u64 v[1]; }; struct out { struct in rows[1]; } x;');
  const { types } = Btf.ofObject(object);
  const inner = types.findIndex((type) => type.kind === 'struct' && type.name === 'in');
  const number = types.findIndex((type) => type.name === 'u64');
  // The array of `v`: element, index, length. It becomes one of the struct itself, which has the same size.
  const section = Elf.parse(object).section('.BTF');
  assert.ok(section && inner > 0 && number > 0);
  const words = new DataView(section.bytes.buffer, section.bytes.byteOffset, section.bytes.length);
  const at = Array.from({ length: section.size / 4 - 2 }, (_, i) => 4 * i).filter(
    (place) => words.getUint32(place, true) === number && words.getUint32(place + 8, true) === 1,
  );
  assert.equal(at.length, 1);
  words.setUint32(at[0], inner, true);
  assert.throws(() => generateLayout(object, ['out']), { code: 'ELAYOUT', message: /too deeply/ });
});

test('unions, typedefs, arrays of structs and enums have their form', async () => {
  const text = await layoutOf(
    `enum neg { LESS = 3, MORE = 2 };
     struct row { u64 a; u64 b; };
     typedef struct { union { unsigned v4; unsigned char v6[16]; }; enum neg neg; float f;
       double d; struct row rows[4]; volatile const u64 last; } record_t;
     record_t x; struct row z;`,
    ['record_t', 'row', 'neg'],
  );
  for (const line of [
    ...['export class RecordTView', '  v4: 0,', '  v6: 0,', '  v6_length: 16,', '  neg: 16,'],
    ...['  f: 20,', '  d: 24,', '  rows: 32,', '  rows_length: 4,', '  rows_stride: 16,'],
    ...['  last: 96,', '  SIZE: 104,', '  LESS: 3,', 'v.getUint32(this.at + 16, true)'],
    'rows_offset(i: number): number',
  ]) {
    assert.ok(text.includes(line), line);
  }
});
