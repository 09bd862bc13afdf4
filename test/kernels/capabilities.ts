// Asks the running kernel, by trial, each of questions.ts: load, attach, make traffic, and see whether the answer came.
//   node test/kernels/capabilities.ts            this kernel
//   node test/kernels/index.ts -- node test/kernels/capabilities.ts    the kernels of the matrix
// In the matrix the status is 1 where a kernel differs from what questions.ts says of it.

import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { buildNative } from '../../src/bpf/build-native.ts';
import { compileBpf } from '../../src/bpf/compile.ts';
import { BpfError } from '../../src/bpf/error.ts';
import { findMount, raiseMemlock } from '../../src/bpf/features.ts';
import { BpfObject } from '../../src/bpf/object.ts';
import type { BpfProgram } from '../../src/bpf/program.ts';
import { type Question, questions } from './questions.ts';
import { makeTraffic, withOpenSocket } from './traffic.ts';

export interface Answer {
  readonly state: 'yes' | 'no' | 'silent';
  /** Runs of the program, and runs with a good answer; or the reason of a no. */
  readonly because: string;
}

const sources = join(import.meta.dirname, 'testdata');
const objects = resolve(import.meta.dirname, '../../build/kernels/fixtures');

async function compiled(file: Question['file']): Promise<string> {
  const source = join(sources, `${file}.bpf.c`);
  const output = join(objects, `${file}.bpf.o`);
  const changed = Math.max(
    ...[source, join(sources, 'kernel.bpf.h')].map((path) => statSync(path).mtimeMs),
  );
  if (!existsSync(output) || statSync(output).mtimeMs < changed) await compileBpf(source, output);
  return output;
}

async function ask(question: Question): Promise<Answer> {
  const object = BpfObject.open(await compiled(question.file), { name: 'capability' });
  try {
    const beside = question.beside ?? [];
    for (const program of object.programs.values()) {
      program.autoload = program.name === question.program || beside.includes(program.name);
    }
    object.rodata({ traffic_tgid: process.pid });
    object.load();
    for (const name of beside) await provoke(object, object.program(name));
    forget(object);
    await provoke(object, object.program(question.program), question.map);
    return judge(object);
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    const words = error.log.trim().split('\n').at(-1) || error.message;
    return { state: 'no', because: `${error.code}: ${words}` };
  } finally {
    object.close();
  }
}

/** Attaches a program and gives it something to see; its link stays until the object is closed. */
async function provoke(object: BpfObject, program: BpfProgram, map?: string): Promise<void> {
  if (program.section.startsWith('iter/')) {
    if (map === 'swept') fill(object);
    const target = map === undefined ? {} : { map: object.map(map) };
    await withOpenSocket(() => void program.iterate(target).drainText());
    return;
  }
  if (/^(cgroup|sockops)/.test(program.section)) program.attachCgroup(cgroupRoot());
  else program.attach();
  await makeTraffic();
}

function cgroupRoot(): string {
  const path = findMount('cgroup2');
  if (path === undefined) throw new Error('No cgroup2 is mounted: mount -t cgroup2 none /mnt');
  return path;
}

const findingBytes = 24;
const entryBytes = 16;

function fill(object: BpfObject): void {
  const key = Buffer.alloc(8);
  for (let at = 1; at <= 5; at++) {
    key.writeBigUInt64LE(BigInt(at));
    object.map('swept').update(key, Buffer.alloc(entryBytes));
  }
}

function forget(object: BpfObject): void {
  object.map('findings').update(Buffer.alloc(4), Buffer.alloc(findingBytes));
}

function judge(object: BpfObject): Answer {
  const finding = Buffer.alloc(findingBytes);
  object.map('findings').lookup(Buffer.alloc(4), finding);
  const runs = finding.readBigUInt64LE(0);
  const good = finding.readBigUInt64LE(8);
  return { state: good > 0n ? 'yes' : 'silent', because: `${good} of ${runs} runs` };
}

/** What differs from what is known of `series`, in words; undefined where nothing is known or all is as known. */
export function difference(
  question: Question,
  answer: Answer,
  series: string | undefined,
): string | undefined {
  if (series === undefined) return undefined;
  const known = question.absent?.includes(series) ? 'no' : 'yes';
  return answer.state === known ? undefined : `kernel ${series} is said to answer ${known}`;
}

async function main(): Promise<number> {
  await buildNative();
  raiseMemlock();
  let differences = 0;
  for (const question of questions) {
    const answer = await ask(question);
    const differs = difference(question, answer, process.env.SONDE_KERNEL);
    if (differs) differences++;
    const what = `${answer.state.padEnd(7)}${question.asks}`;
    process.stdout.write(`${what.padEnd(72)} ${answer.because}${differs ? `: ${differs}` : ''}\n`);
  }
  return differences === 0 ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
