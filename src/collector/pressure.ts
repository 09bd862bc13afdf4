// Pressure (PSI) of control groups: no program tells it, the kernel writes it into files of each group. Read at the end of an
// interval, as what it grew by. Part of the source `memory`.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pressureTable } from '../../probes/memory/memory_table.ts';
import type { Batch } from '../table/columns.ts';
import { Fold } from '../table/fold.ts';
import { containerId } from './proc.ts';

const RESOURCES = ['memory', 'cpu', 'io'] as const;
/** Each takes three small reads, some 60 us. */
const CGROUPS_MAX = 1024;

interface Total {
  some: number;
  full: number;
}

export class Pressure {
  readonly #root: string;
  readonly #fold = new Fold(pressureTable);
  /** By file: what it said when it was last read. */
  #totals = new Map<string, Total>();

  /** What stands in the files at this moment came before us. `root`: of the cgroup v2 hierarchy. */
  constructor(root: string) {
    this.#root = root;
    this.#walk(false);
  }

  /** What the totals grew by since the last call; groups beyond the limit are left out. */
  batches(now_ms: number): readonly Batch[] {
    this.#walk(true);
    const batch = this.#fold.close(now_ms);
    return batch === undefined ? [] : [batch];
  }

  /** Groups nearer to the root come first. */
  #walk(report: boolean): void {
    const totals = new Map<string, Total>();
    const paths = [''];
    for (let i = 0; i < paths.length && i < CGROUPS_MAX; i += 1) {
      const path = paths[i]!;
      for (const resource of RESOURCES) this.#read(path, resource, totals, report);
      for (const name of this.#children(path)) {
        if (paths.length < CGROUPS_MAX) paths.push(`${path}/${name}`);
      }
    }
    this.#totals = totals; // without those of groups that are gone
  }

  #read(path: string, resource: string, totals: Map<string, Total>, report: boolean): void {
    const file = join(this.#root, path, `${resource}.pressure`);
    const now = readTotal(file);
    if (now === undefined) return;
    totals.set(file, now);
    const before = this.#totals.get(file) ?? { some: 0, full: 0 };
    const some = Math.max(0, now.some - before.some);
    const full = Math.max(0, now.full - before.full);
    if (!report || (some === 0 && full === 0)) return;
    const cgroup = path === '' ? '/' : path;
    const texts = [cgroup, containerId(cgroup), resource];
    const dims = Float64Array.from(texts, (text) => this.#fold.intern(text));
    this.#fold.add(dims, Float64Array.of(some, full));
  }

  #children(path: string): readonly string[] {
    try {
      return readdirSync(join(this.#root, path), { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name);
    } catch {
      return []; // removed while we looked
    }
  }
}

/** Undefined: no such file, or the kernel keeps no pressure (the boot parameter psi=1 turns it on). */
function readTotal(file: string): Total | undefined {
  try {
    const text = readFileSync(file, 'utf8');
    const of = (line: string): number =>
      Number(new RegExp(`^${line} .*total=(\\d+)`, 'm').exec(text)?.[1] ?? 0);
    return { some: of('some'), full: of('full') };
  } catch {
    return undefined;
  }
}
