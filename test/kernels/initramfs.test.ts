import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpio, loadOrder } from './initramfs.ts';

test('an archive has a header, name and data for each entry, each padded to 4 bytes', () => {
  const archive = cpio([
    { path: 'dev', mode: 0o040755 },
    { path: 'dev/console', mode: 0o020600, device: [5, 1] },
    { path: 'init', mode: 0o100755, data: Buffer.from('hello') },
  ]);
  const field = (value: number) => value.toString(16).padStart(8, '0');
  const head = (...fields: number[]) => `070701${fields.map(field).join('')}`;
  const golden = [
    `${head(1, 0o040755, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0)}dev\0\0\0`,
    `${head(2, 0o020600, 0, 0, 1, 0, 0, 0, 0, 5, 1, 12, 0)}dev/console\0\0\0`,
    `${head(3, 0o100755, 0, 0, 1, 0, 5, 0, 0, 0, 0, 5, 0)}init\0\0hello\0\0\0`,
    `${head(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0)}TRAILER!!!\0\0\0\0`,
  ].join('');
  assert.equal(archive.toString('latin1'), golden);
});

test('a module comes after all that it needs, once', () => {
  const dependencies = `
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/fs/over-lay.ko:
`;
  assert.deepEqual(loadOrder(dependencies, ['virtio_pci', 'built_in', 'over_lay', 'virtio']), [
    'kernel/drivers/virtio/virtio.ko',
    'kernel/drivers/virtio/virtio_ring.ko',
    'kernel/drivers/virtio/virtio_pci.ko',
    'kernel/fs/over-lay.ko',
  ]);
});
