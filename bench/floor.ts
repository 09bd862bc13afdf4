// The programs that do nothing (floor.bpf.c), compiled and loaded for one run; and on which hooks sonde's own are.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileBpf } from '../src/bpf/compile.ts';
import { findMount } from '../src/bpf/features.ts';
import type { BpfLink } from '../src/bpf/link.ts';
import { BpfObject } from '../src/bpf/object.ts';
import type { BpfProgram } from '../src/bpf/program.ts';
import { later } from './process.ts';

export const OBJECT = join(import.meta.dirname, '../build/sonde.bpf.o');
const SOURCE = join(import.meta.dirname, 'floor.bpf.c');
const INCLUDES = [join(import.meta.dirname, '../bpf')];

/** The hook of each program of sonde's object: its section. */
export function hooks(): ReadonlyMap<string, string> {
  const object = BpfObject.open(OBJECT);
  const sections = [...object.programs].map(([name, { section }]) => [name, section] as const);
  object.close();
  return new Map(sections);
}

/** To where its section says; those of control groups to the root. */
export function attach(program: BpfProgram): BpfLink {
  if (!program.section.startsWith('cgroup')) return program.attach();
  return program.attachCgroup(findMount('cgroup2')!);
}

/** One for each of these hooks (sections) that the kernel has; loaded, not attached. */
export async function loadFloor(sections: ReadonlySet<string>): Promise<readonly BpfProgram[]> {
  const folder = mkdtempSync(join(tmpdir(), 'sonde-floor-'));
  const path = join(folder, 'floor.bpf.o');
  try {
    await compileBpf(SOURCE, path, { includes: INCLUDES });
    const object = BpfObject.open(path, { name: 'floor' });
    later(() => object.close());
    for (const program of object.programs.values())
      program.autoload = sections.has(program.section);
    object.load();
    return [...object.programs.values()].filter(({ autoload }) => autoload);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
