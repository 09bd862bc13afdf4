import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ElfFile } from '../../src/bpf/elf-file.ts';
import type { CodeFile, CodeSymbol } from '../../src/table/probe.ts';
import { placesInGo } from './go_places.ts';
import { placesInGnuTls, placesInOpenSsl } from './places.ts';
import { isEmulated } from './x86.ts';

const [LIBSSL] = globSync(['/usr/lib/*/libssl.so.3', '/usr/lib64/libssl.so.3']);
const no_libssl = LIBSSL === undefined && 'needs libssl.so.3';
const no_x64 = process.arch !== 'x64' && 'of x86-64';

test('in libssl every program stands on an instruction that the kernel emulates', {
  skip: no_libssl || no_x64,
}, () => {
  using file = ElfFile.open(LIBSSL!);
  const places = placesInOpenSsl(file);
  assert.ok(typeof places !== 'string');
  const programs = places.map(({ program }) => program).sort();
  assert.ok(['tls_read', 'tls_write', 'tls_sendfile'].every((name) => programs.includes(name)));
  const once = file.symbols(['SSL_sendfile', 'SSL_do_handshake']); // not for each read and write
  const isOften = (at: number) =>
    [...once.values()].every(({ offset, size }) => at < offset || at >= offset + size);
  const often = places.filter(({ offset }) => isOften(offset));
  const dear = often.filter(({ offset }) => !isEmulated(file.read(offset, 16), 0));
  // From 3.3 on the two forms of a write share no function; where they begin with a landing pad too, these are dear.
  const are_apart = often.filter(({ program }) => program === 'tls_write').length > 1;
  assert.deepEqual(
    dear.map(({ program }) => program),
    are_apart ? ['tls_return', 'tls_write', 'tls_return_ex'] : [],
  );
});

/** A file of these functions alone, one behind the other. */
function fileOf(
  functions: Readonly<Record<string, string>>,
  machine: CodeFile['machine'] = 'x64',
  sections: readonly string[] = [],
): CodeFile {
  const symbols = new Map<string, CodeSymbol>();
  const parts: Buffer[] = [];
  let offset = 0;
  for (const [name, hex] of Object.entries(functions)) {
    const code = Buffer.from(hex.replaceAll(' ', ''), 'hex');
    symbols.set(name, { offset, size: code.length });
    parts.push(code);
    offset += code.length;
  }
  const bytes = Buffer.concat(parts);
  return {
    machine,
    code: [{ offset: 0, size: bytes.length }],
    symbols: (names) => new Map([...symbols].filter(([name]) => names.includes(name))),
    section: (name) => (sections.includes(name) ? { offset: 0, size: bytes.length } : undefined),
    read: (at, length) => bytes.subarray(at, at + length),
  };
}

const PLAIN = '4883ec08 4889f2 4883c408 c3';

test('without a common function the programs stand on each of the names', () => {
  const names = { SSL_read: PLAIN, SSL_write: PLAIN, SSL_read_ex: PLAIN };
  assert.deepEqual(placesInOpenSsl(fileOf(names)), [
    { program: 'tls_read', offset: 0 },
    { program: 'tls_return', offset: 0, ret: true },
    { program: 'tls_read', offset: 24 },
    { program: 'tls_return_ex', offset: 24, ret: true },
    { program: 'tls_write', offset: 12 },
    { program: 'tls_return', offset: 12, ret: true },
  ]);
  assert.deepEqual(placesInOpenSsl(fileOf({ SSL_read: PLAIN })), []);
  assert.deepEqual(placesInGnuTls(fileOf(names)), []);
});

test('behind the landing pad of a common function', () => {
  const names = {
    SSL_read: 'e813000000 c3',
    SSL_read_ex: 'e80d000000 c3',
    SSL_write: PLAIN,
    inner: 'f30f1efa 55 5d c3',
  };
  assert.deepEqual(placesInOpenSsl(fileOf(names)).slice(0, 2), [
    { program: 'tls_read', offset: 28 },
    { program: 'tls_return_ex', offset: 28, ret: true },
  ]);
});

test('in a Go program they stand behind the check of the stack, and at the copy', () => {
  const check = '493b6610 0f8600000000 55';
  const functions = {
    'crypto/tls.(*Conn).Write': `${check} c3`,
    'crypto/tls.(*Conn).Read': `${check} 90 e8 01000000 c3`,
    'runtime.memmove': 'c3',
  };
  assert.deepEqual(placesInGo(fileOf(functions, 'x64', ['.go.buildinfo'])), [
    { program: 'tls_go_write', offset: 10 },
    { program: 'tls_go_read', offset: 22 },
    { program: 'tls_go_copy', offset: 24 },
  ]);
  assert.deepEqual(placesInGo(fileOf(functions)), [], 'no Go program');
  const go = ['.go.buildinfo'];
  assert.match(String(placesInGo(fileOf({}, 'x64', go))), /without symbols/);
  assert.match(String(placesInGo(fileOf(functions, 'arm64', go))), /x86-64/);
  const strange = { ...functions, 'crypto/tls.(*Conn).Read': `${check} c3` };
  assert.match(String(placesInGo(fileOf(strange, 'x64', go))), /does not call memmove/);
});

const no_go = spawnSync('go', ['version']).status !== 0 && 'needs go';
const no_cc = spawnSync('cc', ['--version']).status !== 0 && 'needs cc';

test('in a Go program without symbols they stand where they do with them', {
  skip: no_go || no_x64,
}, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-go-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const source = join(import.meta.dirname, 'peer.go');
  const outside = no_cc === false ? ['-linkmode=external'] : []; // C's code comes first
  for (const [mode, link] of [
    ['exe', []],
    ['pie', []],
    ['exe', outside],
    ['pie', outside],
  ] as const) {
    const [whole, bare] = [[], ['-s', '-w']].map((strip, i) => {
      const path = join(folder, `${i}`);
      const words = [`-buildmode=${mode}`, `-ldflags=${[...link, ...strip].join(' ')}`];
      execFileSync('go', ['build', ...words, '-o', path, source]);
      return ElfFile.open(path);
    });
    const places = placesInGo(whole!);
    assert.equal(bare!.symbols(['runtime.memmove']).size, 0);
    assert.ok(typeof places !== 'string' && places.length > 2, String(places));
    assert.deepEqual(placesInGo(bare!), places, `${mode} ${link}`);
    for (const broken of brokenTables(bare!)) placesInGo(broken); // what it says is chance
    for (const file of [whole!, bare!]) file.close();
  }
});

/** The same file, its table of functions cut, and with bytes that are not as they should be. */
function* brokenTables(file: ElfFile): Iterable<CodeFile> {
  const own = file.section('.gopclntab') ?? file.section('.data.rel.ro.gopclntab');
  const table = own ?? file.section('.data.rel.ro')!; // the table is somewhere in it
  for (const place of [4, 7, 8, 9, 15, 32, 38, 40, 47, 64, 66, 71]) {
    const read = (at: number, length: number): Uint8Array => {
      const bytes = file.read(at, length);
      const hit = table.offset + place - at;
      if (hit >= 0 && hit < bytes.length) bytes[hit] = bytes[hit]! ^ 0xff;
      return bytes;
    };
    yield changed(file, { read });
  }
  for (const size of [0, 7, 71, 72, 4096]) {
    const section = (name: string) =>
      name.endsWith('.gopclntab') ? { ...table, size } : file.section(name);
    yield changed(file, { section });
  }
}

const changed = (file: ElfFile, what: Partial<CodeFile>): CodeFile => ({
  machine: file.machine,
  code: file.code,
  symbols: (names) => file.symbols(names),
  section: (name) => file.section(name),
  read: (at, length) => file.read(at, length),
  ...what,
});
