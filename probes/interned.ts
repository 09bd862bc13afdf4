// What decoders need of a fold: addresses, owners and words as its numbers, each made once an interval.

import type { Fold } from '../src/table/fold.ts';
import type { Owner } from '../src/table/probe.ts';
import { ipv4Text, ipv4Type, ipv6Text, ipv6Type } from './address.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const IPPROTO_TCP = 6;
/** What the column `family` says; of none: the end of a connection whose socket was gone before anybody could look. */
export const FAMILIES: ReadonlyMap<number, string> = new Map([
  [AF_INET, 'IPv4'],
  [AF_INET6, 'IPv6'],
]);
const ADDRESSES_MAX = 100_000;
const WORDS_MAX = 100_000;
const OWNERS_MAX = 4096;

/** An address in the columns of a table: numbers of `text` and of its kind. */
export interface Address {
  readonly ip: string;
  readonly text: number;
  readonly type: number;
}

const NO_ADDRESS: Address = { ip: '', text: 0, type: 0 };

/** Numbers of an owner's four texts. */
export interface OwnerWords {
  readonly process_name: number;
  readonly process_executable_path: number;
  readonly cgroup_path: number;
  readonly container_id: number;
}

/** Strings of one fold; `renew` before each record, since a fold gives new numbers after each interval. */
export class Interned {
  readonly #fold: Fold;
  readonly #words = new Map<string, number>();
  readonly #addresses4 = new Map<number, Address>();
  readonly #addresses6 = new Map<string, Address>();
  readonly #owners = new Map<Owner, OwnerWords>();
  readonly #has_paths: boolean;
  #epoch = -1;

  /** `has_paths`: the table has a column for the paths of owners' executables. */
  constructor(fold: Fold, has_paths = true) {
    this.#fold = fold;
    this.#has_paths = has_paths;
  }

  /** True: the numbers so far have lost their meaning. */
  renew(): boolean {
    if (this.#fold.epoch === this.#epoch) return false;
    this.#epoch = this.#fold.epoch;
    this.#words.clear();
    this.#addresses4.clear();
    this.#addresses6.clear();
    this.#owners.clear();
    return true;
  }

  word(text: string): number {
    const known = this.#words.get(text);
    if (known !== undefined) return known;
    if (this.#words.size >= WORDS_MAX) this.#words.clear();
    const id = this.#fold.intern(text);
    this.#words.set(text, id);
    return id;
  }

  owner(owner: Owner): OwnerWords {
    const known = this.#owners.get(owner);
    if (known !== undefined) return known;
    if (this.#owners.size >= OWNERS_MAX) this.#owners.clear();
    const fresh = {
      process_name: this.#fold.intern(owner.process_name),
      process_executable_path: this.#has_paths
        ? this.#fold.intern(owner.process_executable_path)
        : 0,
      cgroup_path: this.#fold.intern(owner.cgroup_path),
      container_id: this.#fold.intern(owner.container_id),
    };
    this.#owners.set(owner, fresh);
    return fresh;
  }

  /** The address in these bytes, IPv4 in the first four; of no family: empty. */
  address(bytes: Buffer, at: number, family: number): Address {
    if (family === AF_INET) return this.#address4(bytes, at);
    return family === AF_INET6 ? this.#address6(bytes, at) : NO_ADDRESS;
  }

  #address4(bytes: Buffer, at: number): Address {
    const key =
      ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
    const known = this.#addresses4.get(key);
    if (known !== undefined) return known;
    if (this.#addresses4.size >= ADDRESSES_MAX) this.#addresses4.clear();
    const ip = ipv4Text(bytes, at);
    const fresh = { ip, text: this.#fold.intern(ip), type: this.word(ipv4Type(bytes, at)) };
    this.#addresses4.set(key, fresh);
    return fresh;
  }

  #address6(bytes: Buffer, at: number): Address {
    const key = bytes.toString('latin1', at, at + 16);
    const known = this.#addresses6.get(key);
    if (known !== undefined) return known;
    if (this.#addresses6.size >= ADDRESSES_MAX) this.#addresses6.clear();
    const ip = ipv6Text(bytes, at);
    const fresh = { ip, text: this.#fold.intern(ip), type: this.word(ipv6Type(bytes, at)) };
    this.#addresses6.set(key, fresh);
    return fresh;
  }
}

/** Of a record, who it is about. */
interface OwnedView {
  readonly owner_tgid: number;
  readonly owner_uid: number;
  readonly owner_cgroup_id: number;
}

/** The columns of a socket's owner (`socketOwnerColumns`) but its network namespace; `at`: of `positions`. */
export function fillOwner(
  dims: Float64Array,
  at: Readonly<Record<string, number>>,
  view: OwnedView,
  words: OwnerWords,
): void {
  dims[at.pid] = view.owner_tgid;
  dims[at.uid] = view.owner_uid;
  const { owner_cgroup_id } = view; // beyond 2^53 it is garbage: no kernel counts that far
  dims[at.cgroup_id] = Number.isSafeInteger(owner_cgroup_id) ? owner_cgroup_id : 0;
  dims[at.process_name] = words.process_name;
  dims[at.process_executable_path] = words.process_executable_path;
  dims[at.cgroup_path] = words.cgroup_path;
  dims[at.container_id] = words.container_id;
}

/** Column name → position. A wrong name is caught by the type. */
export function positions<Name extends string>(
  columns: readonly { readonly name: string }[],
): Record<Name, number> {
  const places: Record<string, number> = {};
  columns.forEach((column, i) => {
    places[column.name] = i;
  });
  return places as Record<Name, number>; // every name stands in the definition: flow.test.ts
}
