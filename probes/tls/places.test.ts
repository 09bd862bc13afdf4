import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
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
  assert.ok(programs.includes('tls_read') && programs.includes('tls_write'), `${programs}`);
  const dear = places.filter(({ offset }) => !isEmulated(file.read(offset, 16), 0));
  // From 3.3 on the two forms of a write share no function; where they begin with a landing pad too, these are dear.
  const own_return = places.some(({ program }) => program === 'tls_return');
  assert.deepEqual(
    dear.map(({ program }) => program),
    own_return ? ['tls_return', 'tls_write', 'tls_return_ex'] : [],
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
    hasSection: (name) => sections.includes(name),
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
