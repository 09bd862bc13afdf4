import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ElfFile } from '../src/bpf/elf-file.ts';
import { returnsFrom } from './calls.ts';

const folder = mkdtempSync(join(tmpdir(), 'calls-'));
after(() => rmSync(folder, { recursive: true }));
const skip = spawnSync('objdump', ['--version']).status !== 0 && 'needs objdump and cc';

const PROGRAM = `
#define APART __attribute__((noinline, noipa))
APART int asked(int a) { __asm__ volatile(""); return a + 1; }
APART int one(int a) { return asked(a) + 1; }
APART int two(int a) { return asked(a) + asked(a + 7); }
APART int jumped(int a) { __asm__ volatile(""); return a + 2; }
__asm__(".pushsection .text; .space 256; .popsection");
APART int tail(int a) { return jumped(a * 3); }
int main(int n, char **v) { (void)v; return one(n) + two(n) + tail(n) + jumped(n); }
`;

test('calls are found where objdump finds them', { skip }, () => {
  const path = join(folder, 'calls');
  writeFileSync(`${path}.c`, PROGRAM);
  execFileSync('cc', ['-O2', '-fno-toplevel-reorder', '-o', path, `${path}.c`]);
  using file = ElfFile.open(path);
  const symbols = file.symbols(['asked', 'jumped', 'main']);
  const text = execFileSync('objdump', ['-d', '--no-show-raw-insn', path], { encoding: 'latin1' });
  const lines = text.split('\n');
  const start = Number.parseInt(lines.find((line) => line.endsWith('<asked>:'))!, 16);
  const truth = lines.flatMap((line, i) =>
    /\t(?:call|bl) .*<asked>/.test(line) ? [Number.parseInt(lines[i + 1]!, 16) - start] : [],
  );
  assert.equal(truth.length, 3);
  const asked = symbols.get('asked')!.offset;
  assert.deepEqual(
    returnsFrom(file, asked).map((at) => at - asked),
    truth,
  );
  assert.deepEqual(returnsFrom(file, symbols.get('jumped')!.offset), []);
  assert.deepEqual(returnsFrom(file, symbols.get('main')!.offset), []);
});
