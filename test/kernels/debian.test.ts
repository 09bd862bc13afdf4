import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shellWord } from './command.ts';
import { parsePackage } from './debian.ts';

test('a package is read with what it depends on, and whether the mirror offers it', () => {
  const text = `Package: linux-image-7.2-cloud-amd64
Version: 7.2.13-1
Depends: dracut | initramfs-tools (>= 0.120), linux-binary-7.2-cloud-amd64 (= 7.2.13-1), kmod
Filename: pool/image.deb
`;
  assert.deepEqual(parsePackage(text, 'linux-image-7.2-cloud-amd64'), {
    name: 'linux-image-7.2-cloud-amd64',
    version: '7.2.13-1',
    depends: ['dracut', 'linux-binary-7.2-cloud-amd64', 'kmod'],
    offered: true,
  });
  const gone = parsePackage('Package: a\nVersion: 1\n', 'a');
  assert.deepEqual(gone, { name: 'a', version: '1', depends: [], offered: false });
  assert.equal(parsePackage('', 'a'), undefined);
});

test('a shell word means the text that it was made of', () => {
  assert.equal(shellWord('src/bpf/map.test.ts'), 'src/bpf/map.test.ts');
  assert.equal(shellWord(''), "''");
  assert.equal(shellWord("it's $HOME"), `'it'\\''s $HOME'`);
});
