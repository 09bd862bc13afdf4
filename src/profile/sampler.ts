// Samples the processors: loads the program of bpf/profile.bpf.c, has it run on each processor's ticks, and reads the stacks that it
// counted. Symbols are another matter: kernel_symbols.ts, user_symbols.ts.

import { readFileSync } from 'node:fs';
import { BpfError } from '../bpf/error.ts';
import { possibleCpus } from '../bpf/features.ts';
import { type BpfMap, MapBuffer } from '../bpf/map.ts';
import { BpfObject } from '../bpf/object.ts';

const OBJECT = new URL('../../build/profile.bpf.o', import.meta.url);
const U32 = 2 ** 32;
/** Kernel addresses are 64 bits, all ones above the 48 that say something: those fit in a number. */
const ADDRESS_HIGH = 0xffff;

/** `struct profile_key`. */
const KEY = { tgid: 0, kernel_stack: 4, user_stack: 8, comm: 12, comm_length: 16, SIZE: 28 };
const FRAMES = 127;

/** Why a stack has no frames: `enum profile_stack`. */
const NO_STACK: ReadonlyMap<number, string> = new Map([
  [-2, '[stack not kept: another has its place]'],
  [-3, '[stack not read]'],
]);

export interface Sample {
  readonly pid: number;
  readonly comm: string;
  /** Addresses, the innermost first; 48 bits each. */
  readonly kernel: readonly number[];
  readonly user: readonly number[];
  /** Why a stack is missing; '' where none is. */
  readonly missing: string;
  readonly count: number;
}

export interface Totals {
  /** Ticks that met a process. */
  readonly samples: number;
  /** Those that found no room, and are in no sample. */
  readonly lost: number;
}

export interface SamplerOptions {
  readonly frequency: number;
  /** 0: all processes. */
  readonly pid: number;
}

export class Sampler {
  readonly #object: BpfObject;
  readonly #counts: BpfMap;
  readonly #stacks: BpfMap;
  /** Processors that are sampled. */
  readonly cpus: number;

  /** @throws {BpfError} no rights, or no processor can be sampled */
  constructor({ frequency, pid }: SamplerOptions) {
    const object = BpfObject.open(readFileSync(OBJECT));
    this.#object = object;
    object.rodata({ profile_tgid: pid });
    object.load();
    this.#counts = object.map('profile_counts');
    this.#stacks = object.map('profile_stacks');
    this.cpus = attach(object, frequency);
  }

  /** Processes that were met so far. */
  pids(): ReadonlySet<number> {
    const { keys, count } = this.#read();
    const view = new DataView(keys.buffer);
    return new Set(
      Array.from({ length: count }, (_, i) => view.getUint32(i * KEY.SIZE + KEY.tgid, true)),
    );
  }

  samples(): readonly Sample[] {
    const { keys, values, count } = this.#read();
    const counts = new DataView(values.buffer);
    return Array.from({ length: count }, (_, i) => {
      const at = i * this.#counts.valueStride;
      const hits = counts.getUint32(at, true) + counts.getUint32(at + 4, true) * U32;
      return this.#sample(keys.subarray(i * KEY.SIZE, (i + 1) * KEY.SIZE), hits);
    });
  }

  totals(): Totals {
    const map = this.#object.map('profile_totals');
    const [samples, lost] = [0, 1].map((key) => Number(lookup64(map, key)));
    return { samples: samples ?? 0, lost: lost ?? 0 };
  }

  /** Ends the sampling; what was counted goes with it. */
  close(): void {
    this.#object.close();
  }

  #read(): MapBuffer {
    const buffer = new MapBuffer(this.#counts);
    buffer.read();
    return buffer;
  }

  #sample(key: Uint8Array, count: number): Sample {
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
    const stacks = [KEY.kernel_stack, KEY.user_stack].map((at) => view.getInt32(at, true));
    const [kernel, user] = stacks.map((id) => this.#frames(id));
    const name = Buffer.from(key.subarray(KEY.comm, KEY.comm + KEY.comm_length));
    const end = name.indexOf(0);
    return {
      pid: view.getUint32(KEY.tgid, true),
      comm: name.toString('utf8', 0, end < 0 ? name.length : end),
      kernel: kernel ?? [],
      user: user ?? [],
      missing: stacks.map((id) => NO_STACK.get(id) ?? '').find((why) => why !== '') ?? '',
      count,
    };
  }

  #frames(id: number): readonly number[] {
    if (id < 0) return [];
    const value = new Uint8Array(this.#stacks.valueStride);
    if (!this.#stacks.lookup(new Uint8Array(Int32Array.of(id).buffer), value)) return [];
    const view = new DataView(value.buffer);
    const frames: number[] = [];
    for (let i = 0; i < FRAMES; i += 1) {
      const low = view.getUint32(i * 8, true);
      const high = view.getUint32(i * 8 + 4, true);
      if (low === 0 && high === 0) break;
      frames.push((high & ADDRESS_HIGH) * U32 + low);
    }
    return frames;
  }
}

/**
 * On all processors that are on; how many those are. By a period of the processor's clock, not by a frequency: for that the kernel
 * feels its way from far too many samples.
 */
function attach(object: BpfObject, frequency: number): number {
  const program = object.program('profile_tick');
  let last: unknown;
  let cpus = 0;
  for (let cpu = 0; cpu < possibleCpus(); cpu += 1) {
    try {
      program.attachPerfEvent({ cpu, period: Math.round(1e9 / frequency) });
      cpus += 1;
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      last = error; // a processor that is off
    }
  }
  if (cpus === 0) throw last;
  return cpus;
}

function lookup64(map: BpfMap, key: number): bigint {
  const value = new BigUint64Array(1);
  map.lookup(new Uint8Array(Uint32Array.of(key).buffer), new Uint8Array(value.buffer));
  return value[0] ?? 0n;
}
