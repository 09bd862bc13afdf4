import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { extractVmlinux, payloadOf } from './vmlinux.ts';

/** A boot header of 2 sectors after the first, then `before` bytes of real-mode code, then the payload. */
function bzImage(payload: Buffer, before = 40): Buffer {
  const image = Buffer.alloc(3 * 512 + before + payload.length);
  image[0x1f1] = 2;
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt32LE(before, 0x248);
  image.writeUInt32LE(payload.length, 0x24c);
  payload.copy(image, 3 * 512 + before);
  return image;
}

const elf = Buffer.from('\x7fELF and the rest of a kernel', 'latin1');
const noTools = { xz: ['false'], lz4: ['false'], zstd: ['false'] };

test('the payload is found, and its packing', () => {
  for (const [packing, signature] of [
    ['gzip', '1f8b0800'],
    ['xz', 'fd377a585a00'],
    ['zstd', '28b52ffd'],
    ['lz4', '02214c18'],
  ] as const) {
    const bytes = Buffer.from(`${signature}0102030405060708`, 'hex');
    assert.deepEqual(payloadOf(bzImage(bytes)), { packing, bytes });
  }
});

test('what is no kernel is refused with the reason', () => {
  assert.throws(() => payloadOf(Buffer.alloc(4096)), /no Linux boot header/);
  const whole = bzImage(Buffer.from('28b52ffd00000000', 'hex'));
  assert.throws(() => payloadOf(whole.subarray(0, -1)), /ends before its payload of 8 bytes/);
  assert.throws(
    () => payloadOf(bzImage(Buffer.from('0102030405060708', 'hex'))),
    /0102030405060708/,
  );
});

test('the kernel comes out although its length stands behind the packed bytes', async () => {
  const length = Buffer.from([1, 2, 3, 4]);
  const image = bzImage(Buffer.concat([gzipSync(elf), length]));
  assert.deepEqual(await extractVmlinux(image, noTools), elf);
});

test('what unpacks to something else than a kernel is refused', async () => {
  const image = bzImage(gzipSync(Buffer.from('no kernel')));
  await assert.rejects(extractVmlinux(image, noTools), /gzip gave no ELF file/);
});
