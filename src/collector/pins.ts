// The collector's folder in bpffs. Maps are pinned in it by name; links and programs in a folder that is named after the
// build, so that a successor knows whether it can go on with them (same build) or has to clear them away (another).
//
// PIN_PATH/<map>               maps, shared by all that follows (bpffs takes no dot in a name)
// PIN_PATH/links_<build>/<program>
// PIN_PATH/programs_<build>/<program>
// PIN_PATH/uprobes_<build>/…            placements in files (uprobe_pins.ts)

import {
  existsSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  type StatsFs,
  statfsSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { OperatorError } from '../wire/error.ts';

const LINKS = 'links_';
const PROGRAMS = 'programs_';
const UPROBES = 'uprobes_';
/** linux/magic.h: BPF_FS_MAGIC. */
const BPF_FS_MAGIC = 0xcafe4a11;

/** Before anything is made there. @throws {OperatorError} `pins_elsewhere`: the kernel pins in bpffs alone. */
export function refuseElsewhere(pin_path: string): void {
  if (fileSystemOf(pin_path).type === BPF_FS_MAGIC) return;
  const cure = 'mount one (mount -t bpf bpf /sys/fs/bpf), or name a folder in one';
  const message = `collector.pin_path: ${pin_path} is in no BPF file system`;
  throw new OperatorError('pins_elsewhere', message, cure);
}

/** That of a path, or of the nearest folder above it that exists. */
function fileSystemOf(path: string): StatsFs {
  if (existsSync(path) || dirname(path) === path) return statfsSync(path);
  return fileSystemOf(dirname(path));
}

export class Pins {
  readonly root: string;
  readonly build: string;

  /** `build` names what is compatible: object, programs and map sizes. */
  constructor(root: string, build: string) {
    this.root = root;
    this.build = build;
  }

  map(name: string): string {
    return join(this.root, name);
  }

  link(program: string): string {
    return join(this.root, LINKS + this.build, program);
  }

  program(program: string): string {
    return join(this.root, PROGRAMS + this.build, program);
  }

  get uprobes(): string {
    return join(this.root, UPROBES + this.build);
  }

  /** @throws NodeJS.ErrnoException where bpffs is missing or may not be written. */
  create(): void {
    mkdirSync(join(this.root, LINKS + this.build), { recursive: true, mode: 0o700 });
    mkdirSync(join(this.root, PROGRAMS + this.build), { recursive: true, mode: 0o700 });
  }

  /** Programs of this build that a predecessor left attached. */
  links(): readonly string[] {
    return list(join(this.root, LINKS + this.build));
  }

  programs(): readonly string[] {
    return list(join(this.root, PROGRAMS + this.build));
  }

  /** Of a program that is no longer attached. */
  remove(program: string): void {
    unlinkSync(this.link(program));
    unlinkSync(this.program(program));
  }

  /** Anything of whatever build. */
  get any(): boolean {
    return list(this.root).length > 0;
  }

  /**
   * Removes everything: links first, so that nothing runs on maps that are going. What is pinned nowhere else and held by
   * no process is then detached by the kernel.
   */
  clear(): void {
    const names = list(this.root);
    const folders = [LINKS, UPROBES, PROGRAMS].flatMap((kind) =>
      names.filter((name) => name.startsWith(kind)),
    );
    for (const folder of folders) clearFolder(join(this.root, folder));
    for (const name of names) if (!folders.includes(name)) unlinkSync(join(this.root, name));
    if (existsSync(this.root)) removeOwn(this.root);
  }
}

/** A folder that was made for a user without rights in its parent stays, empty. */
function removeOwn(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code !== 'EACCES' && code !== 'EPERM') throw error;
  }
}

function clearFolder(path: string): void {
  for (const name of list(path)) unlinkSync(join(path, name));
  rmdirSync(path);
}

function list(path: string): readonly string[] {
  return existsSync(path) ? readdirSync(path) : [];
}
