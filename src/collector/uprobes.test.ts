// Which files have programs, and until when: a folder of processes that a test makes up, and programs that only count.

import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import type { BpfProgram } from '../bpf/program.ts';
import { Ledger } from '../table/ledger.ts';
import type { Probe, UprobeSource } from '../table/probe.ts';
import { Uprobes } from './uprobes.ts';

const MINUTE = 60_000;
const BUDGET_MS = 60_000;

interface Bench {
  readonly uprobes: Uprobes;
  /** What was done with placements: `prepare`, `start`, `close`. */
  readonly done: string[];
  /** A new executable; its path. */
  file(name: string): string;
  run(pid: number, path: string): void;
  end(pid: number): void;
  /** The names of the files in which programs stand. */
  placed(): readonly string[];
}

function bench(t: TestContext, places: UprobeSource['places']): Bench {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'sonde-uprobes-')));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const proc = join(folder, 'proc');
  mkdirSync(join(proc, '1/root'), { recursive: true });
  const done: string[] = [];
  const prepare = ({ offset }: { offset: number }) => {
    done.push(`prepare ${offset}`);
    return { offset, close: () => done.push(`close ${offset}`) };
  };
  const start = ({ offset }: { offset: number }) => done.push(`start ${offset}`);
  const program = { prepare, start } as unknown as BpfProgram; // of it nothing else is used
  const uprobes: UprobeSource[] = [{ name: 'tool', help: '', executables: /^tool/, places }];
  const probe = { name: 'tools', uprobes } as unknown as Probe; // as well
  return {
    uprobes: new Uprobes({
      probes: [probe],
      programs: [{ name: 'p', program }],
      proc,
      ledger: new Ledger(),
      on_user: () => undefined,
    }),
    done,
    file(name) {
      const path = join(folder, name);
      copyFileSync('/bin/true', path);
      return path;
    },
    run(pid, path) {
      mkdirSync(join(proc, String(pid)));
      symlinkSync(path, join(proc, String(pid), 'exe'));
      writeFileSync(join(proc, String(pid), 'maps'), '');
    },
    end: (pid) => rmSync(join(proc, String(pid)), { recursive: true }),
    placed() {
      return this.uprobes.placed.map((path) => basename(path)).sort();
    },
  };
}

const PLACES = [
  { program: 'p', offset: 1 },
  { program: 'p', offset: 2, ret: true },
];

test('programs start when all of a file stand', (t) => {
  const one = bench(t, () => PLACES);
  one.run(10, one.file('tool'));
  one.uprobes.turn(MINUTE, BUDGET_MS);
  assert.deepEqual(one.done, ['prepare 1', 'prepare 2', 'start 1', 'start 2']);
});

test('programs stay for 75 seconds after the last user, in a file that is still there', (t) => {
  const one = bench(t, () => PLACES);
  const paths = ['tool1', 'tool2', 'tool3'].map((name) => one.file(name));
  for (const [i, path] of paths.entries()) one.run(10 + i, path);
  one.uprobes.turn(MINUTE, BUDGET_MS);
  assert.deepEqual(one.placed(), ['tool1', 'tool2', 'tool3']);
  one.end(10);
  one.end(11);
  one.uprobes.turn(MINUTE + 35_000, BUDGET_MS);
  assert.deepEqual(one.placed(), ['tool1', 'tool2', 'tool3']);
  rmSync(paths[0]!);
  one.file('tool1'); // another file by this name
  one.uprobes.turn(MINUTE + 70_000, BUDGET_MS);
  assert.deepEqual(one.placed(), ['tool2', 'tool3']);
  one.run(13, paths[1]!);
  one.uprobes.announce(13, MINUTE + 72_000);
  one.uprobes.turn(MINUTE + 72_000, BUDGET_MS);
  one.end(13);
  one.uprobes.turn(MINUTE + 137_000, BUDGET_MS);
  assert.deepEqual(one.placed(), ['tool2', 'tool3']);
  one.uprobes.turn(MINUTE + 170_000, BUDGET_MS);
  assert.deepEqual(one.placed(), ['tool3']);
  assert.equal(one.done.filter((what) => what.startsWith('prepare')).length, 6, 'placed once');
  one.uprobes.close();
  assert.deepEqual(one.placed(), []);
});

test('of the files that nobody runs, the 64 of the last users keep their programs', (t) => {
  const one = bench(t, () => PLACES);
  for (let i = 0; i < 70; i += 1) {
    one.run(100 + i, one.file(`tool${i}`));
    one.uprobes.announce(100 + i, MINUTE + i);
    one.uprobes.turn(MINUTE + i, BUDGET_MS);
  }
  for (let i = 0; i < 70; i += 1) one.end(100 + i);
  one.uprobes.turn(MINUTE + 40_000, BUDGET_MS);
  const placed = one.placed();
  assert.equal(placed.length, 64);
  assert.ok(!placed.includes('tool5') && placed.includes('tool6'));
});

test('a file that cannot be probed is named in the report', (t) => {
  const one = bench(t, () => 'no such function');
  const path = one.file('tool');
  one.run(10, path);
  one.uprobes.turn(MINUTE, BUDGET_MS);
  const [line] = one.uprobes.report();
  assert.deepEqual([line?.state, line?.reason], ['failed', `${path}: no such function`]);
});
