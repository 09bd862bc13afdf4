// Samples with names, in the two forms that other tools read: folded lines (flame graphs) and pprof.

import { gzipSync } from 'node:zlib';
import { ProtoWriter } from '../wire/protobuf.ts';

export interface NamedSample {
  readonly pid: number;
  readonly comm: string;
  /** The outermost first. */
  readonly frames: readonly string[];
  readonly count: number;
}

/** One line a stack, most samples first: `comm;outermost;…;innermost count`. */
export function folded(samples: readonly NamedSample[]): string {
  const lines = new Map<string, number>();
  for (const { comm, frames, count } of samples) {
    const line = [comm, ...frames].map(clean).join(';');
    lines.set(line, (lines.get(line) ?? 0) + count);
  }
  const sorted = [...lines].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return sorted.map(([line, count]) => `${line} ${count}\n`).join('');
}

/** A frame may hold neither what separates frames nor the end of the line. */
function clean(frame: string): string {
  return frame.replaceAll(';', ':').replaceAll(/\s/g, ' ');
}

export interface PprofOptions {
  readonly frequency: number;
  readonly began_ms: number;
  readonly duration_ms: number;
}

/** A gzipped `profile.proto` (perftools.profiles.Profile). */
export function pprof(samples: readonly NamedSample[], options: PprofOptions): Buffer {
  const builder = new PprofBuilder();
  const period_ns = Math.round(1e9 / options.frequency);
  for (const sample of samples) builder.add(sample, period_ns);
  return gzipSync(builder.finish(options, period_ns));
}

class PprofBuilder {
  readonly #profile = new ProtoWriter();
  readonly #strings = new Map<string, number>([['', 0]]);
  /** Function and location have the same number: a name each. */
  readonly #frames = new Map<string, number>();

  constructor() {
    for (const [type, unit] of [
      ['samples', 'count'],
      ['cpu', 'nanoseconds'],
    ] as const) {
      this.#profile.message(1, this.#valueType(type, unit));
    }
  }

  add({ pid, comm, frames, count }: NamedSample, period_ns: number): void {
    const sample = new ProtoWriter();
    for (const frame of frames.toReversed()) sample.integer(1, this.#frame(frame));
    sample.integer(2, count).integer(2, count * period_ns);
    sample.message(3, this.#label('comm').integer(2, this.#string(comm)).finish());
    sample.message(3, this.#label('pid').integer(3, pid).finish());
    this.#profile.message(2, sample.finish());
  }

  finish({ began_ms, duration_ms }: PprofOptions, period_ns: number): Buffer {
    const profile = this.#profile;
    for (const [name, id] of this.#frames) {
      const line = new ProtoWriter().integer(1, id).finish();
      profile.message(4, new ProtoWriter().integer(1, id).message(4, line).finish());
      const text = this.#string(name);
      profile.message(5, new ProtoWriter().integer(1, id).integer(2, text).finish());
    }
    const period = this.#valueType('cpu', 'nanoseconds');
    for (const text of this.#strings.keys()) profile.message(6, Buffer.from(text, 'utf8'));
    profile.integer(9, began_ms * 1_000_000).integer(10, Math.round(duration_ms * 1e6));
    return profile.message(11, period).integer(12, period_ns).finish();
  }

  #valueType(type: string, unit: string): Buffer {
    return new ProtoWriter().integer(1, this.#string(type)).integer(2, this.#string(unit)).finish();
  }

  #label(key: string): ProtoWriter {
    return new ProtoWriter().integer(1, this.#string(key));
  }

  #frame(name: string): number {
    const known = this.#frames.get(name);
    if (known !== undefined) return known;
    const id = this.#frames.size + 1;
    this.#frames.set(name, id);
    return id;
  }

  #string(text: string): number {
    const known = this.#strings.get(text);
    if (known !== undefined) return known;
    const id = this.#strings.size;
    this.#strings.set(text, id);
    return id;
  }
}
