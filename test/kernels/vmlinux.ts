// Takes the plain kernel out of a bzImage: booted directly, it saves the guest the seconds of unpacking itself.
// Fields of the header: Documentation/arch/x86/boot.rst of Linux.

import { run } from './command.ts';
import type { Tools } from './tools.ts';

export type Packing = 'gzip' | 'xz' | 'zstd' | 'lz4';

const signatures: readonly (readonly [Packing, string])[] = [
  ['gzip', '1f8b'],
  ['xz', 'fd377a585a00'],
  ['zstd', '28b52ffd'],
  ['lz4', '02214c18'],
];

const sector = 512;
const field = { setup_sects: 0x1f1, magic: 0x202, payload_offset: 0x248, payload_length: 0x24c };

export interface Payload {
  readonly packing: Packing;
  readonly bytes: Buffer;
}

/** The packed kernel inside `image`. Throws if it is no bzImage or is packed in a way that is not known here. */
export function payloadOf(image: Buffer): Payload {
  if (image.toString('latin1', field.magic, field.magic + 4) !== 'HdrS') {
    throw new Error('Cannot read the kernel image: it has no Linux boot header');
  }
  // 0 stands for 4, as in the first kernels
  const setup_sects = image[field.setup_sects] || 4;
  const start = (setup_sects + 1) * sector + image.readUInt32LE(field.payload_offset);
  const length = image.readUInt32LE(field.payload_length);
  const bytes = image.subarray(start, start + length);
  if (length === 0 || bytes.length < length) {
    throw new Error(`Cannot read the kernel image: it ends before its payload of ${length} bytes`);
  }
  const head = bytes.toString('hex', 0, 8);
  const found = signatures.find(([, signature]) => head.startsWith(signature));
  if (!found) throw new Error(`Cannot unpack the kernel image: unknown packing ${head}`);
  return { packing: found[0], bytes };
}

/** The ELF kernel of `image`. */
export async function extractVmlinux(
  image: Buffer,
  tools: Pick<Tools, 'xz' | 'lz4' | 'zstd'>,
): Promise<Buffer> {
  const { packing, bytes } = payloadOf(image);
  const unpack = { ...tools, gzip: ['gzip'] }[packing];
  // the payload ends in its own unpacked length, which the programs report as rubbish after they unpacked the rest
  const { stdout } = await run([...unpack, '-dc'], {
    input: bytes,
    accept: (ran) => isElf(ran.stdout),
  });
  if (!isElf(stdout))
    throw new Error(`Cannot unpack the kernel image: ${packing} gave no ELF file`);
  return stdout;
}

function isElf(bytes: Buffer): boolean {
  return bytes.toString('hex', 0, 4) === '7f454c46';
}
