// Entries of the cgroup maps → rows of `cgroup_packets`. What is kept between intervals: the paths of cgroups that the
// kernel has told of and not let go of yet.

import type { Fold } from '../../src/table/fold.ts';
import type { DecodeContext, MapDecoder, MapEntries, MapSource } from '../../src/table/probe.ts';
import { front } from '../kernel_maps.ts';
import { CgroupNameView, cgroup_slot, cgroup_traffic, cgroup_traffic_slot } from '../layout.gen.ts';
import { containerId, podUid } from './path.ts';
import { cgroup_packets } from './table.ts';

/** Names held; the oldest go, and their cgroups are looked for in the tree. */
const NAMES_MAX = 16_384;
const U32 = 2 ** 32;

/** `map` with an id for each cgroup, and what it counted. */
export const cgroupTraffic: MapSource = {
  map: 'cgroup_traffic',
  read: 'turns',
  front: front('cgroup_traffic', cgroup_traffic_slot, cgroup_traffic.packets),
  open: (context) => ({ rows: (entries) => rowsOf(context).traffic(entries, true) }),
};

/** One entry, for all cgroups that found no room. */
export const cgroupRest: MapSource = {
  map: 'cgroup_rest',
  read: 'turns',
  open: (context) => ({ rows: (entries) => rowsOf(context).traffic(entries, false) }),
};

export const cgroupMade: MapSource = {
  map: 'cgroup_made',
  read: 'drain',
  open: (context) => ({ rows: (entries) => rowsOf(context).made(entries) }),
};

export const cgroupGone: MapSource = {
  map: 'cgroup_gone',
  read: 'drain',
  open: (context): MapDecoder => ({ rows: (entries) => rowsOf(context).gone(entries) }),
};

const shared = new WeakMap<DecodeContext, CgroupRows>();

/** The four sources of one collector share what they know. */
export function rowsOf(context: DecodeContext): CgroupRows {
  const known = shared.get(context) ?? new CgroupRows(context);
  shared.set(context, known);
  return known;
}

interface Place {
  readonly path: string;
  readonly container_id: string;
}

const UNKNOWN: Place = { path: '', container_id: '' };
const OTHER: Place = { path: '<other>', container_id: '<other>' };

export class CgroupRows {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #made = new Map<number, Place>();
  /** Gone, perhaps with packets that are not read yet. */
  #leaving: number[] = [];
  readonly #dims = new Float64Array(cgroup_packets.dimensions.length);
  readonly #measures = new Float64Array(cgroup_packets.measures.length);
  readonly #name = new CgroupNameView(new Uint8Array(0));

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(cgroup_packets);
  }

  /** Paths that are held now. */
  get names(): number {
    return this.#made.size;
  }

  made({ count, keys, values, key_size, value_stride }: MapEntries): void {
    const view = viewOf(keys);
    for (let i = 0; i < count; i += 1) {
      const path = this.#name.over(values).move(i * value_stride).path;
      this.#keep(u64(view, i * key_size), { path, container_id: containerId(path) });
    }
  }

  gone({ count, keys, key_size }: MapEntries): void {
    const view = viewOf(keys);
    for (let i = 0; i < count; i += 1) this.#leaving.push(u64(view, i * key_size));
  }

  /** `named`: the key is an id; else these are the packets of cgroups that found no room. */
  traffic({ count, keys, values, key_size, value_stride }: MapEntries, named: boolean): void {
    const ids = viewOf(keys);
    const view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      const id = named ? u64(ids, i * key_size) : 0;
      this.#decodePlace(id, named ? this.#place(id) : OTHER);
      this.#decodeCounts(view, i * value_stride);
    }
    if (named) this.#forget();
  }

  /** Those that were gone when the last interval ended: this one had the last of their packets. */
  #forget(): void {
    for (const id of this.#leaving) this.#made.delete(id);
    this.#leaving = [];
  }

  #keep(id: number, place: Place): void {
    this.#made.set(id, place);
    if (this.#made.size <= NAMES_MAX) return;
    const [oldest] = this.#made.keys();
    if (oldest !== undefined) this.#made.delete(oldest);
  }

  #place(id: number): Place {
    const place = this.#made.get(id) ?? this.#context.cgroup?.(id);
    if (place === undefined) this.#context.note('cgroup_path_unknown', 1);
    return place ?? UNKNOWN;
  }

  #decodePlace(id: number, { path, container_id }: Place): void {
    const dims = this.#dims;
    dims[2] = id;
    dims[3] = this.#fold.intern(path);
    dims[4] = this.#fold.intern(container_id);
    dims[5] = this.#fold.intern(path === OTHER.path ? path : podUid(path));
  }

  #decodeCounts(view: DataView, at: number): void {
    const dims = this.#dims;
    const measures = this.#measures;
    for (let slot = 0; slot < cgroup_slot.CGROUP_SLOTS; slot += 1) {
      const packets = u64(view, at + cgroup_traffic.packets + slot * 8);
      if (packets === 0) continue;
      const egress = (slot & cgroup_slot.CGROUP_EGRESS) !== 0;
      dims[0] = this.#fold.intern(egress ? 'egress' : 'ingress');
      dims[1] = this.#fold.intern((slot & cgroup_slot.CGROUP_IPV6) !== 0 ? 'IPv6' : 'IPv4');
      measures[0] = packets;
      measures[1] = u64(view, at + cgroup_traffic.bytes + slot * 8);
      measures[2] = packets + u64(view, at + cgroup_traffic.joined + slot * 8);
      this.#fold.add(dims, measures);
    }
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Beyond 2^53 it is garbage, which no kernel counts up to: held at 0. */
function u64(view: DataView, at: number): number {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * U32;
  return Number.isSafeInteger(value) ? value : 0;
}
