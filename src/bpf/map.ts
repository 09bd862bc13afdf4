// Maps: declared (settings before load) and live (operations by descriptor).
import { readFileSync } from 'node:fs';
import { BpfError } from './error.ts';
import { removePin } from './link.ts';
import {
  type MapHandle,
  type MapSetting,
  type NativeMapInfo,
  native,
  type ObjectHandle,
} from './native.ts';

/** Flags of `update`. */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;

/** The description of a map, before or after it exists. */
export interface MapDescription {
  readonly name: string;
  readonly type: number;
  /** `hash`, `percpu_array`, `ringbuf` …, as bpftool writes them. */
  readonly typeName: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

interface Declaration {
  readonly object: ObjectHandle;
  readonly index: number;
}

export class BpfMap {
  #description: MapDescription;
  #declaration: Declaration | undefined;
  #handle: MapHandle | undefined;
  #info: NativeMapInfo | undefined;
  readonly #pins = new Set<string>();

  private constructor(description: MapDescription) {
    this.#description = description;
  }

  /** A map of an opened object; `BpfObject` alone calls this. */
  static declared(description: MapDescription, object: ObjectHandle, index: number): BpfMap {
    const map = new BpfMap(description);
    map.#declaration = { object, index };
    return map;
  }

  static #fromHandle(handle: MapHandle): BpfMap {
    const info = native().mapInfo(handle);
    const map = new BpfMap(info);
    map.bind(handle);
    return map;
  }

  /** Opens a map by descriptor, which is duplicated: this is how a Worker takes over a map. */
  static fromFd(fd: number): BpfMap {
    return BpfMap.#fromHandle(native().mapFromFd(fd));
  }

  static openPinned(path: string): BpfMap {
    const map = BpfMap.#fromHandle(native().openPinned(path, 'map'));
    map.#pins.add(path);
    return map;
  }

  /** Takes the map that a load created; `BpfObject` alone calls this. */
  bind(handle: MapHandle): void {
    this.#handle = handle;
    this.#info = native().mapInfo(handle);
    this.#description = { ...this.#info, name: this.#description.name };
    this.#declaration = undefined;
  }

  get name(): string {
    return this.#description.name;
  }

  get type(): number {
    return this.#description.type;
  }

  get typeName(): string {
    return this.#description.typeName;
  }

  get keySize(): number {
    return this.#description.keySize;
  }

  /** Of one value; see `valueStride` for what one takes in a buffer. */
  get valueSize(): number {
    return this.#description.valueSize;
  }

  get flags(): number {
    return this.#description.flags;
  }

  get maxEntries(): number {
    return this.#description.maxEntries;
  }

  /** Before load only. */
  set maxEntries(entries: number) {
    this.#set('maxEntries', entries);
    this.#description = { ...this.#description, maxEntries: entries };
  }

  /** Before load only. */
  set flags(flags: number) {
    this.#set('flags', flags);
    this.#description = { ...this.#description, flags };
  }

  /** Before load only: whether the load creates the map at all. */
  set autocreate(flag: boolean) {
    this.#set('autocreate', flag ? 1 : 0);
  }

  /** Before load only: the map of this descriptor stands in for the declared one. */
  reuse(fd: number): void {
    const { object, index } = this.#declared();
    native().objectReuseMap(object, index, fd);
  }

  /** Before load only: the load pins the map there, or takes the compatible one that is pinned there. */
  setPinPath(path: string | null): void {
    const { object, index } = this.#declared();
    native().objectPinPath(object, index, path);
  }

  /** The map exists and is not closed. */
  get live(): boolean {
    return this.#handle !== undefined;
  }

  get fd(): number {
    return native().fd(this.#live());
  }

  get id(): number {
    return this.#known().id;
  }

  get perCpu(): boolean {
    return this.#known().perCpu;
  }

  /** Bytes of one value in a buffer: for per-CPU maps the 8-aligned size times the possible CPUs. */
  get valueStride(): number {
    return this.#known().valueStride;
  }

  /** Whether the key was there; its value is then in `out`, which must have `valueStride` bytes. */
  lookup(key: Uint8Array, out: Uint8Array): boolean {
    return native().mapLookup(this.#live(), key, out, 0);
  }

  update(key: Uint8Array, value: Uint8Array, flags: number = BPF_ANY): void {
    native().mapUpdate(this.#live(), key, value, flags);
  }

  /** Whether the key was there. */
  delete(key: Uint8Array): boolean {
    return native().mapDelete(this.#live(), key);
  }

  /** Look-up and delete in one step: queues and stacks (with an empty key), hashes since 5.14. */
  take(key: Uint8Array, out: Uint8Array): boolean {
    return native().mapTake(this.#live(), key, out);
  }

  /** The key after `key` (null: the first) into `out`; false at the end. */
  getNextKey(key: Uint8Array | null, out: Uint8Array): boolean {
    return native().mapNextKey(this.#live(), key, out);
  }

  /**
   * Copies all entries in batches; the number of them. Where the kernel has no batches for this type, key by key.
   *
   * @throws {BpfError} `ENOSPC` when the buffers hold fewer entries than the map: double them, or use `MapBuffer`.
   */
  readAll(keys: Uint8Array, values: Uint8Array, way: 'batch' | 'walk' = 'batch'): number {
    const count = native().mapBatch(this.#live(), keys, values, false, way === 'walk');
    if (count >= 0) return count;
    throw new BpfError(`Map '${this.name}' has more entries than the buffers hold`, {
      code: 'ENOSPC',
    });
  }

  /**
   * Takes entries out of the map, as many as the buffers hold; `more` when some are left.
   *
   * @throws {BpfError} `ENOSPC` when the buffers cannot hold even one bucket; nothing is lost then.
   */
  drain(
    keys: Uint8Array,
    values: Uint8Array,
    way: 'batch' | 'walk' = 'batch',
  ): { count: number; more: boolean } {
    const result = native().mapBatch(this.#live(), keys, values, true, way === 'walk');
    if (result >= 0) return { count: result, more: false };
    if (result < -1) return { count: -1 - result, more: true };
    throw new BpfError(`The buffers hold no bucket of map '${this.name}'`, { code: 'ENOSPC' });
  }

  /** Bytes of kernel memory that the map takes, as the kernel accounts them. */
  get memoryBytes(): number {
    const text = readFileSync(`/proc/self/fdinfo/${this.fd}`, 'utf8');
    return Number(/^memlock:\s*(\d+)/m.exec(text)?.[1] ?? 0);
  }

  pin(path: string): void {
    native().pin(this.#live(), path);
    this.#pins.add(path);
  }

  /** Removes the pins made or opened through this object. */
  unpin(): void {
    for (const path of this.#pins) removePin(path);
    this.#pins.clear();
  }

  close(): void {
    if (this.#handle) native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #set(what: MapSetting, value: number): void {
    const { object, index } = this.#declared();
    native().objectSetMap(object, index, what, value);
  }

  #declared(): Declaration {
    if (this.#declaration) return this.#declaration;
    throw new BpfError(`Map '${this.name}' is already created`, { code: 'ESTATE' });
  }

  #live(): MapHandle {
    if (this.#handle) return this.#handle;
    throw new BpfError(`Map '${this.name}' is not created yet`, { code: 'ESTATE' });
  }

  #known(): NativeMapInfo {
    if (this.#info) return this.#info;
    throw new BpfError(`Map '${this.name}' is not created yet`, { code: 'ESTATE' });
  }
}

/** Entries that a `MapBuffer` starts with. */
const BUFFER_ENTRIES = 256;

/** Buffers for the entries of one map, which grow to what it holds and are used again. */
export class MapBuffer {
  readonly #map: BpfMap;
  /** Entry `i` has its key at `i * map.keySize`. */
  keys: Uint8Array;
  /** Entry `i` has its value at `i * map.valueStride`. */
  values: Uint8Array;
  count = 0;

  constructor(map: BpfMap, entries: number = Math.min(BUFFER_ENTRIES, map.maxEntries)) {
    this.#map = map;
    this.keys = new Uint8Array(entries * map.keySize);
    this.values = new Uint8Array(entries * map.valueStride);
  }

  /** Reads all entries; the number of them. */
  read(): number {
    for (;;) {
      try {
        this.count = this.#map.readAll(this.keys, this.values);
        return this.count;
      } catch (error) {
        if (!(error instanceof BpfError) || error.code !== 'ENOSPC') throw error;
        this.#grow(error);
      }
    }
  }

  /** Takes all entries out of the map; the number of them. */
  drain(): number {
    this.count = 0;
    for (;;) {
      const keys = this.keys.subarray(this.count * this.#map.keySize);
      const values = this.values.subarray(this.count * this.#map.valueStride);
      try {
        const { count, more } = this.#map.drain(keys, values);
        this.count += count;
        if (!more || this.count >= this.#entries_max()) return this.count;
      } catch (error) {
        if (!(error instanceof BpfError) || error.code !== 'ENOSPC') throw error;
        this.#grow(error);
      }
    }
  }

  // A map can be refilled while it is walked, so there may be more than it holds at once; twice is enough.
  #entries_max(): number {
    return 2 * this.#map.maxEntries;
  }

  #grow(reason: BpfError): void {
    const entries = this.keys.length / this.#map.keySize;
    if (entries >= this.#entries_max()) throw reason;
    const wanted = Math.min(Math.max(8, 2 * entries), this.#entries_max());
    const keys = new Uint8Array(wanted * this.#map.keySize);
    const values = new Uint8Array(wanted * this.#map.valueStride);
    keys.set(this.keys);
    values.set(this.values);
    this.keys = keys;
    this.values = values;
  }
}
