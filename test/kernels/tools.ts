// The programs of the matrix: QEMU 10, virtiofsd, busybox and the decompressors, unpacked from Debian packages with
// their own C library, so that they run beside whatever the host has.

import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Apt, unpackWithDependencies } from './debian.ts';

/**
 * Where the tools come from. QEMU 7.2, of the release before, crashed 4 of 20 boots of kernel 6.12 under TCG; 10 none
 * of 250. No suite of the kernels may be in the same lists: apt would take libraries from there.
 */
export const toolSuites = ['trixie'] as const;

const packages = ['qemu-system-x86', 'virtiofsd', 'busybox-static', 'xz-utils', 'lz4', 'zstd'];

export interface Tools {
  /** The command line that starts an unpacked program, without its arguments. */
  readonly qemu: readonly string[];
  readonly virtiofsd: readonly string[];
  readonly xz: readonly string[];
  readonly lz4: readonly string[];
  readonly zstd: readonly string[];
  /** A static binary: it runs on the host as it does in a guest. */
  readonly busybox: string;
}

export function toolsAt(folder: string): Tools {
  const root = join(folder, 'root');
  const library = join(root, 'usr/lib/x86_64-linux-gnu');
  // one package still puts its library there
  const paths = [library, join(root, 'lib/x86_64-linux-gnu')].join(':');
  const program = (path: string) => [
    ...[join(library, 'ld-linux-x86-64.so.2'), '--library-path', paths],
    join(root, path),
  ];
  return {
    qemu: [
      ...program('usr/bin/qemu-system-x86_64'),
      ...['usr/share/qemu', 'usr/share/seabios'].flatMap((name) => ['-L', join(root, name)]),
    ],
    virtiofsd: program('usr/libexec/virtiofsd'),
    xz: program('usr/bin/xz'),
    lz4: program('usr/bin/lz4'),
    zstd: program('usr/bin/zstd'),
    busybox: join(root, 'usr/bin/busybox'),
  };
}

export function toolsReady(folder: string): boolean {
  return existsSync(join(folder, 'ready'));
}

/** Downloads and unpacks the tools (about 40 MB) into `folder`. */
export async function installTools(apt: Apt, folder: string): Promise<number> {
  await rm(folder, { recursive: true, force: true });
  const count = await unpackWithDependencies(apt, packages, join(folder, 'root'));
  await writeFile(join(folder, 'ready'), '');
  return count;
}
