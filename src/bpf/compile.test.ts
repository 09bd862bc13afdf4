import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { compileBpf } from './compile.ts';
import { Elf } from './elf.ts';
import { BpfError } from './error.ts';

const folder = mkdtempSync(join(tmpdir(), 'bpf-compile-'));
after(() => rmSync(folder, { recursive: true }));
const source = join(folder, 'x.bpf.c');
const output = join(folder, 'out/x.bpf.o');

test('includes and defines reach the compiler, BTF stays, DWARF goes', async () => {
  writeFileSync(join(folder, 'own.h'), '#define OWN 4\n');
  writeFileSync(
    source,
    `#include <linux/types.h>\n#include <own.h>
#if !defined(__TARGET_ARCH_arm64)
#error arch
#endif
     __u8 sized[OWN + EXTRA]; int flag = FLAG;`,
  );
  await compileBpf(source, output, {
    includes: [folder],
    defines: { EXTRA: 3, FLAG: true },
    arch: 'arm64',
  });
  const elf = Elf.parse(readFileSync(output));
  assert.equal(elf.symbols().find((symbol) => symbol.name === 'sized')?.size, 7);
  assert.ok(elf.section('.BTF'));
  assert.ok(!elf.sections.some((section) => section.name.startsWith('.debug')));
});

test('an error of the compiler is readable, and no output appears', async () => {
  rmSync(output, { force: true });
  writeFileSync(source, 'int broken(void) { return nothing; }');
  await assert.rejects(compileBpf(source, output), (error) => {
    assert.ok(error instanceof BpfError);
    assert.equal(error.code, 'ECOMPILE');
    assert.match(error.log, /x\.bpf\.c:1:27: error: use of undeclared identifier 'nothing'/);
    return true;
  });
  assert.equal(existsSync(output), false);
});

test('a missing compiler is told as such', async () => {
  writeFileSync(source, 'int fine;');
  await assert.rejects(compileBpf(source, output, { clang: 'no-such-clang' }), {
    code: 'ECOMPILE',
    message: "Cannot run 'no-such-clang', install clang and llvm",
  });
});
