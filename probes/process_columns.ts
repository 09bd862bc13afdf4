// The columns that say which process a row is about, the same in every table of what processes spend.

import type { Dimension } from '../src/table/definition.ts';
import type { Fold } from '../src/table/fold.ts';
import type { DecodeContext } from '../src/table/probe.ts';
import { placeColumns } from './columns.ts';
import { Interned, positions } from './interned.ts';

const U32 = 2 ** 32;

export const processDimensions: readonly Dimension[] = [
  { name: 'pid', type: 'u32', help: 'process, as the host numbers it; 0: beyond a limit, folded' },
  { name: 'process_name', type: 'string', help: 'file name of the executable; empty: unknown' },
  ...placeColumns,
];

type Column = 'pid' | 'process_name' | 'cgroup_path' | 'container_id';
const P = positions<Column>(processDimensions);

/** Byte offsets of the parts of a `struct owner` (bpf/identity.bpf.h). */
export interface OwnerOffsets {
  readonly start_ns: number;
  readonly cgroup_id: number;
  readonly tgid: number;
}

/** Fills the first dimensions of a table, those above, from a `struct owner`. */
export class ProcessColumns {
  readonly #context: DecodeContext;
  readonly #interned: Interned;

  constructor(context: DecodeContext, fold: Fold) {
    this.#context = context;
    this.#interned = new Interned(fold, false);
  }

  /** `at`: where the owner stands in the bytes of `view`. */
  fill(dims: Float64Array, view: DataView, at: number, owner: OwnerOffsets): void {
    const start_ns = u64(view, at + owner.start_ns);
    const cgroup_id = u64(view, at + owner.cgroup_id);
    const pid = view.getUint32(at + owner.tgid, true);
    this.#interned.renew();
    const words = this.#interned.owner(this.#context.owner(pid, start_ns, cgroup_id));
    dims[P.pid] = pid;
    dims[P.process_name] = words.process_name;
    dims[P.cgroup_path] = words.cgroup_path;
    dims[P.container_id] = words.container_id;
  }

  /** Of totals whose process is not known, since a limit was reached. */
  fillOther(dims: Float64Array): void {
    dims[P.pid] = 0;
    dims.fill(this.word('<other>'), 1, processDimensions.length);
  }

  /** The number of a string in the fold, remembered for the interval. For sets that are small. */
  word(text: string): number {
    this.#interned.renew();
    return this.#interned.word(text);
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
