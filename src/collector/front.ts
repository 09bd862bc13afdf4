// What programs have counted in the slots of their CPUs (bpf/front.bpf.h), as further entries of the map behind them.

import type { BpfMap } from '../bpf/map.ts';
import type { Front, MapEntries } from '../table/probe.ts';

const KEY_BYTES = 8;

type SlotMap = Pick<BpfMap, 'valueStride' | 'lookup' | 'update'>;

export class FrontReader {
  readonly #map: SlotMap;
  readonly #front: Front;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #zeros: Uint8Array;
  readonly #turn = new Uint8Array(4);

  /** The slots of all CPUs stand one after the other: their bytes are whole words. */
  constructor(map: SlotMap, front: Front) {
    this.#map = map;
    this.#front = front;
    this.#bytes = new Uint8Array(map.valueStride);
    this.#view = new DataView(this.#bytes.buffer);
    this.#zeros = new Uint8Array(map.valueStride);
  }

  /** Reads the slots of a turn that no program uses; 0 or 1. */
  read(turn: number): void {
    this.#turn[0] = turn;
    this.#map.lookup(this.#turn, this.#bytes);
  }

  /** Empties what was read. Before the entries behind are taken, so that no slot is ever without its entry. */
  clear(): void {
    if (this.#bytes.some((byte) => byte !== 0)) this.#map.update(this.#turn, this.#zeros);
  }

  /** The entries, and after them what was read: with all that stands before the sums in the entry of the same key. */
  joined(behind: MapEntries): MapEntries {
    const used = this.#used();
    if (used.length === 0) return behind;
    const { slot_bytes, sums: begin_of_sums, first } = this.#front;
    const { key_size, value_stride } = behind;
    const count = behind.count + used.length;
    const keys = new Uint8Array(count * key_size);
    const values = new Uint8Array(count * value_stride);
    keys.set(behind.keys.subarray(0, behind.count * key_size));
    values.set(behind.values.subarray(0, behind.count * value_stride));
    const places = placesOf(behind);
    used.forEach((at, i) => {
      const to = behind.count + i;
      const place = places.get(this.#view.getBigUint64(at, true));
      keys.set(this.#bytes.subarray(at, at + key_size), to * key_size);
      if (place !== undefined) {
        const begin = place * value_stride;
        values.set(behind.values.subarray(begin, begin + first), to * value_stride);
      }
      const sums = this.#bytes.subarray(at + begin_of_sums, at + slot_bytes);
      values.set(sums, to * value_stride + first);
    });
    return { count, keys, values, key_size, value_stride };
  }

  /** Where slots begin to which something was added. */
  #used(): readonly number[] {
    const { slot_bytes, sums: begin_of_sums } = this.#front;
    const used: number[] = [];
    for (let at = 0; at < this.#bytes.length; at += slot_bytes) {
      const sums = this.#bytes.subarray(at + begin_of_sums, at + slot_bytes);
      if (sums.some((byte) => byte !== 0)) used.push(at);
    }
    return used;
  }
}

/** Which entry has a key. */
function placesOf({ count, keys, key_size }: MapEntries): ReadonlyMap<bigint, number> {
  const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
  const places = new Map<bigint, number>();
  for (let i = 0; i < count; i += 1) {
    const at = i * key_size;
    const whole = key_size === KEY_BYTES;
    places.set(whole ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true)), i);
  }
  return places;
}
