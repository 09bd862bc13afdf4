// The columns that say which process a row is about, the same in every table of what processes spend.

import type { Dimension } from '../src/table/definition.ts';
import type { Fold } from '../src/table/fold.ts';
import type { DecodeContext, Owner } from '../src/table/probe.ts';
import { placeColumns } from './columns.ts';

const OWNERS_MAX = 4096;
const U32 = 2 ** 32;

export const processDimensions: readonly Dimension[] = [
  { name: 'pid', type: 'u32', help: 'process, as the host numbers it; 0: beyond a limit, folded' },
  { name: 'process_name', type: 'string', help: 'file name of the executable; empty: unknown' },
  ...placeColumns,
];

const WIDTH = processDimensions.length;

/** Byte offsets of the parts of a `struct owner` (bpf/identity.bpf.h). */
export interface OwnerOffsets {
  readonly start_ns: number;
  readonly cgroup_id: number;
  readonly tgid: number;
}

/** Fills the first dimensions of a table, those above, from a `struct owner`. */
export class ProcessColumns {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #owners = new Map<Owner, Float64Array>();
  readonly #words = new Map<string, number>();
  #epoch = -1;

  constructor(context: DecodeContext, fold: Fold) {
    this.#context = context;
    this.#fold = fold;
  }

  /** `at`: where the owner stands in the bytes of `view`. */
  fill(dims: Float64Array, view: DataView, at: number, owner: OwnerOffsets): void {
    const start_ns = u64(view, at + owner.start_ns);
    const cgroup_id = u64(view, at + owner.cgroup_id);
    const pid = view.getUint32(at + owner.tgid, true);
    const ids = this.#ids(this.#context.owner(pid, start_ns, cgroup_id));
    dims[0] = pid;
    for (let i = 1; i < WIDTH; i += 1) dims[i] = ids[i - 1]!;
  }

  /** Of totals whose process is not known, since a limit was reached. */
  fillOther(dims: Float64Array): void {
    dims[0] = 0;
    dims.fill(this.word('<other>'), 1, WIDTH);
  }

  /** The number of a string in the fold, remembered for the interval. For sets that are small. */
  word(text: string): number {
    this.#renew();
    const known = this.#words.get(text);
    if (known !== undefined) return known;
    const id = this.#fold.intern(text);
    this.#words.set(text, id);
    return id;
  }

  #ids(owner: Owner): Float64Array {
    this.#renew();
    const known = this.#owners.get(owner);
    if (known !== undefined) return known;
    if (this.#owners.size >= OWNERS_MAX) this.#owners.clear();
    const ids = Float64Array.of(
      this.#fold.intern(owner.process_name),
      this.#fold.intern(owner.cgroup_path),
      this.#fold.intern(owner.container_id),
    );
    this.#owners.set(owner, ids);
    return ids;
  }

  /** The fold has given its strings new numbers. */
  #renew(): void {
    if (this.#fold.epoch === this.#epoch) return;
    this.#epoch = this.#fold.epoch;
    this.#owners.clear();
    this.#words.clear();
  }
}

/** A u64 of the kernel, which stays below 2^53. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * U32;
}

/** A view of the bytes of a map's entries. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
