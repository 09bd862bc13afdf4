// Decodes the header blocks of HTTP/2 (HPACK, RFC 7541), one decoder for each direction of a connection.
//
// A decoder that joins a connection late, or has missed a block, does not know what the table holds from before. A
// reference there gives `undefined`, and is counted: never a guess. What is inserted from then on is known, since
// references count back from the newest entry.

import { STATIC_TABLE } from './hpack_static.ts';
import { huffmanDecode } from './huffman.ts';

const ENTRY_OVERHEAD = 32;
const CAPACITY_DEFAULT = 4096;
const INTEGER_MAX = 2 ** 31 - 1;
const STATIC_COUNT = 61;

export interface HpackLimits {
  /** Bytes of table entries that are kept, whatever the peers agree upon; what is older is unknown. */
  readonly table_max: number;
  /** Bytes of a name or a value, 16 KB at most; a longer one is unknown. */
  readonly string_max: number;
  /** Fields and bytes that are kept of one block; the rest is decoded for the table's sake. */
  readonly fields_max: number;
  readonly list_max: number;
}

const STRING_MAX = 16 << 10;
const LIMITS: HpackLimits = {
  table_max: 64 << 10,
  string_max: STRING_MAX,
  fields_max: 256,
  list_max: 64 << 10,
};

interface Entry {
  readonly name: string | undefined;
  readonly value: string | undefined;
  /** As the peers count it; where the name or value is unknown, what is certain of it. */
  readonly size: number;
}

export class HpackDecoder {
  readonly #limits: HpackLimits;
  /** Oldest first; `#first` counts those before that have gone. */
  #entries: Entry[] = [];
  #first = 0;
  #size = 0;
  /** What the peers agreed upon; undefined: it was agreed before this decoder came. */
  #capacity: number | undefined;
  /** The table holds, or held, more than is known here. */
  #has_unknown: boolean;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #to = 0;
  #list_size = 0;
  /** Of the block decoded last; `undefined`: unknown. */
  readonly names: (string | undefined)[] = [];
  readonly values: (string | undefined)[] = [];
  /** References of the last block into what is not known. */
  unknown = 0;
  /** Fields and strings of the last block that were beyond a limit. */
  cut = 0;
  /** Why the last block could not be decoded; '': it could. */
  error = '';

  /** `joined`: the connection is older than this decoder. */
  constructor(joined: boolean, limits: Partial<HpackLimits> = {}) {
    const all = { ...LIMITS, ...limits };
    this.#limits = { ...all, string_max: Math.min(all.string_max, STRING_MAX) };
    this.#has_unknown = joined;
    this.#capacity = joined ? undefined : CAPACITY_DEFAULT;
  }

  /** A block was missed: nothing is known of the table any more. */
  forget(): void {
    this.#entries = [];
    this.#first = 0;
    this.#size = 0;
    this.#capacity = undefined;
    this.#has_unknown = true;
  }

  /** Entries of the table that are known. */
  get known(): number {
    return this.#entries.length - this.#first;
  }

  /**
   * Decodes one whole block into `names` and `values`. False: it is malformed, `error` says how; the table is then
   * forgotten, since the peers would end the connection.
   */
  decode(bytes: Uint8Array, from = 0, to = bytes.length): boolean {
    this.names.length = 0;
    this.values.length = 0;
    this.unknown = 0;
    this.cut = 0;
    this.error = '';
    this.#bytes = bytes;
    this.#at = from;
    this.#to = to;
    this.#list_size = 0;
    for (let fields = 0; this.#at < this.#to && this.error === ''; fields += 1) {
      const first = bytes[this.#at]!;
      if ((first & 0x80) !== 0) this.#indexed();
      else if ((first & 0xc0) === 0x40) this.#literal(6, true);
      else if ((first & 0xe0) === 0x20) {
        // Only at the begin of a block; it counts as no field.
        if (fields > 0) this.error = 'a table size update behind a field';
        this.#resize();
        fields -= 1;
      } else this.#literal(4, false);
    }
    this.#bytes = EMPTY;
    if (this.error !== '') this.forget();
    return this.error === '';
  }

  #indexed(): void {
    const index = this.#integer(7);
    if (this.error !== '') return;
    if (index === 0) this.error = 'index 0';
    else if (index <= STATIC_COUNT) this.#field(STATIC_TABLE[index - 1]!);
    else {
      const entry = this.#entry(index);
      if (entry === undefined) return;
      if (entry.name === undefined || entry.value === undefined) this.unknown += 1;
      this.#field(entry);
    }
  }

  #literal(prefix: number, insert: boolean): void {
    const index = this.#integer(prefix);
    let name: string | undefined;
    let size = 0;
    if (index === 0) {
      name = this.#string();
      size = this.#string_length;
    } else {
      const entry = index <= STATIC_COUNT ? STATIC_TABLE[index - 1]! : this.#entry(index);
      if (entry === undefined || this.error !== '') return;
      name = entry.name;
      if (name === undefined) this.unknown += 1;
      size = name?.length ?? 0;
    }
    const value = this.#string();
    if (this.error !== '') return;
    const field = { name, value, size: size + this.#string_length + ENTRY_OVERHEAD };
    this.#field(field);
    if (insert) this.#insert(field);
  }

  #field(entry: Entry): void {
    this.#list_size += entry.size;
    if (this.names.length >= this.#limits.fields_max || this.#list_size > this.#limits.list_max) {
      this.cut += 1;
      return;
    }
    this.names.push(entry.name);
    this.values.push(entry.value);
  }

  /** The entry of an index beyond the static table; UNKNOWN; or undefined, with an error. */
  #entry(index: number): Entry | undefined {
    const place = this.#entries.length - (index - STATIC_COUNT);
    if (place >= this.#first) return this.#entries[place];
    if (this.#has_unknown) return UNKNOWN;
    if (this.error === '') this.error = `index ${index} is beyond the table`;
    return undefined;
  }

  #resize(): void {
    const capacity = this.#integer(5);
    if (this.error !== '') return;
    this.#capacity = capacity;
    this.#evict(capacity);
    // An empty table is known entirely, whatever it held.
    if (capacity === 0) this.#has_unknown = false;
  }

  #insert(entry: Entry): void {
    const capacity = this.#capacity ?? Number.POSITIVE_INFINITY;
    if (entry.size > capacity) {
      this.#evict(0); // an entry that does not fit leaves the table empty, and so known
      this.#has_unknown = false;
      return;
    }
    this.#evict(capacity - entry.size);
    const { table_max } = this.#limits;
    if (this.#size + entry.size > table_max) {
      this.#has_unknown = true; // the peers keep more than we do
      this.#evict(table_max - entry.size);
    }
    this.#entries.push(entry);
    this.#size += entry.size;
  }

  /**
   * Drops the oldest until at most `room` bytes are left. Where sizes are not certain they are taken as small: an entry is
   * kept too long, to which nothing refers any more, and never dropped too soon.
   */
  #evict(room: number): void {
    while (this.#size > room && this.#first < this.#entries.length) {
      this.#size -= this.#entries[this.#first]!.size;
      this.#entries[this.#first] = UNKNOWN; // let go of its strings
      this.#first += 1;
    }
    if (this.#first < 64 || 2 * this.#first < this.#entries.length) return;
    this.#entries = this.#entries.slice(this.#first);
    this.#first = 0;
  }

  #integer(prefix: number): number {
    const mask = (1 << prefix) - 1;
    let value = this.#bytes[this.#at]! & mask;
    this.#at += 1;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (this.#at >= this.#to) return this.#fail('an integer ends too soon');
      const byte = this.#bytes[this.#at]!;
      this.#at += 1;
      value += (byte & 0x7f) * 2 ** shift;
      if (value > INTEGER_MAX || shift > 28) return this.#fail('an integer is too large');
      if ((byte & 0x80) === 0) return value;
    }
  }

  /** Of the string that was read last, as the peers count it. */
  #string_length = 0;

  #string(): string | undefined {
    this.#string_length = 0;
    if (this.error !== '') return undefined;
    if (this.#at >= this.#to) return this.#failString('a string is missing');
    const huffman = (this.#bytes[this.#at]! & 0x80) !== 0;
    const length = this.#integer(7);
    if (this.error !== '') return undefined;
    const from = this.#at;
    if (length > this.#to - from) return this.#failString('a string ends too soon');
    this.#at += length;
    if (!huffman) {
      this.#string_length = length;
      if (length > this.#limits.string_max) return this.#tooLong();
      const { buffer, byteOffset } = this.#bytes;
      return Buffer.from(buffer, byteOffset + from, length).toString('latin1');
    }
    const decoded = huffmanDecode(this.#bytes, from, from + length, SCRATCH);
    if (decoded < 0) return this.#failString('a Huffman code is wrong');
    this.#string_length = decoded;
    if (decoded > this.#limits.string_max) return this.#tooLong();
    return SCRATCH.toString('latin1', 0, decoded);
  }

  #tooLong(): undefined {
    this.cut += 1;
    return undefined;
  }

  #fail(error: string): number {
    if (this.error === '') this.error = error;
    return 0;
  }

  #failString(error: string): undefined {
    this.#fail(error);
    return undefined;
  }
}

/** Of all decoders, since each string is taken out at once. */
const SCRATCH = Buffer.alloc(STRING_MAX);
const EMPTY = new Uint8Array(0);
const UNKNOWN: Entry = { name: undefined, value: undefined, size: ENTRY_OVERHEAD };
