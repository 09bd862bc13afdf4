import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ElfFile } from './elf-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'elf-file-'));
after(() => rmSync(folder, { recursive: true }));

const PROGRAM = `
int seen_first(int a) { return a + 1; }
static __attribute__((noinline, used)) int my_seen_first(int a) { return a * 3; }
int seen_last(int a) { return my_seen_first(a) - seen_first(a); }
int main(int n, char **v) { (void)v; return seen_last(n); }
`;

function compiled(name: string, ...flags: readonly string[]): string {
  const path = join(folder, name);
  writeFileSync(`${path}.c`, PROGRAM);
  execFileSync('cc', ['-O1', '-o', path, `${path}.c`, ...flags]);
  return path;
}

/** What nm says, by name: addresses. */
function nm(path: string): ReadonlyMap<string, number> {
  const lines = execFileSync('nm', [path], { encoding: 'utf8' }).split('\n');
  return new Map(lines.map((line) => [line.split(' ')[2] ?? '', Number.parseInt(line, 16)]));
}

const skip = spawnSync('nm', ['--version']).status !== 0 && 'needs nm and cc';

test('functions are found where nm and objdump find them', { skip }, () => {
  for (const [name, flags] of [
    ['pie', []],
    ['static-addresses', ['-no-pie']],
    ['stripped', ['-rdynamic', '-s']],
  ] as const) {
    const path = compiled(name, ...flags);
    const truth = nm(compiled(`${name}-truth`, ...flags.filter((flag) => flag !== '-s')));
    using file = ElfFile.open(path);
    const names = ['seen_first', 'my_seen_first', 'seen_last', 'printf', 'main'];
    const found = file.symbols(names);
    const locals = name === 'stripped' ? [] : ['my_seen_first'];
    assert.deepEqual([...found.keys()].sort(), ['main', ...locals, 'seen_first', 'seen_last']);
    const distance = truth.get('seen_last')! - truth.get('seen_first')!;
    const at = found.get('seen_first')!;
    assert.equal(found.get('seen_last')!.offset - at.offset, distance);
    assert.ok(at.size > 0 && at.size < 64);
    const code = execFileSync('objdump', ['-d', '--disassemble=seen_first', path], {
      encoding: 'latin1',
    });
    const first = /^\s+[0-9a-f]+:\t((?:[0-9a-f]{2} )+)/m.exec(code)?.[1]?.trim();
    if (first !== undefined) {
      const bytes = file.read(at.offset, first.split(' ').length);
      assert.equal([...bytes].map((one) => one.toString(16).padStart(2, '0')).join(' '), first);
    }
    assert.ok(file.section('.text')!.size > 0);
    assert.equal(file.section('.go.buildinfo'), undefined);
  }
});

test('no bytes make it throw anything but its own error, or run long', { skip }, () => {
  const whole = readFileSync(compiled('hostile'));
  const path = join(folder, 'mutant');
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    return seed % below;
  };
  const tables = whole.readUInt32LE(40);
  for (let round = 0; round < 400; round += 1) {
    const bytes = Buffer.from(
      whole.subarray(0, round % 7 === 0 ? random(whole.length) : undefined),
    );
    for (let i = 0; i < 1 + random(6); i += 1) {
      const base = random(2) === 0 ? random(64) : tables + random(whole.length - tables);
      if (base < bytes.length) bytes[base] = random(256);
    }
    writeFileSync(path, bytes);
    try {
      using file = ElfFile.open(path);
      for (const { offset } of file.symbols(['seen_first', 'main', 'nothing']).values()) {
        assert.ok(offset >= 0 && offset < bytes.length);
        file.read(offset, 64);
      }
    } catch (error) {
      assert.equal(error instanceof Error && 'code' in error && error.code, 'EFORMAT', `${round}`);
    }
  }
  assert.throws(() => ElfFile.open('/dev/null'), { code: 'EFORMAT' });
  assert.throws(() => ElfFile.open(join(folder, 'none')), { code: 'ENOENT' });
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  assert.throws(() => ElfFile.open(join(folder, 'pipe')), { code: 'EFORMAT' });
});

test('an open file is reached when its path is gone', { skip }, () => {
  const path = compiled('gone');
  const bytes = readFileSync(path);
  using file = ElfFile.open(path);
  rmSync(path);
  assert.deepEqual(readFileSync(file.held_path), bytes);
});
