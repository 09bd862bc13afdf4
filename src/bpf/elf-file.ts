// An ELF64 file of machine code on disk, read piece by piece: a few headers, and what of the symbol tables is asked for. Files
// come from containers and may be anything: every number is held against the file's size, every loop has an end.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { BpfError } from './error.ts';

const HEADER_BYTES = 64;
const SECTION_BYTES = 64;
const SEGMENT_BYTES = 56;
const SYMBOL_BYTES = 24;
const SECTIONS_MAX = 4096;
const SEGMENTS_MAX = 256;
const NAMES_BYTES_MAX = 1 << 20;
/** Of one symbol table, or of its names; more than any program has that was seen. */
const TABLE_BYTES_MAX = 256 << 20;
const CHUNK_BYTES = SYMBOL_BYTES << 15;
/** The names end alike in so many entries at most (`SSL_read` within `my_SSL_read`). */
const MATCHES_MAX = 4096;
const SHT_SYMTAB = 2;
const SHT_DYNSYM = 11;
const STT_FUNC = 2;
const PT_LOAD = 1;
const PF_X = 1;
const MACHINES: ReadonlyMap<number, Machine> = new Map([
  [62, 'x64'],
  [183, 'arm64'],
]);

export type Machine = 'x64' | 'arm64' | 'other';

export interface FileSymbol {
  /** Into the file, of the function's first byte. */
  readonly offset: number;
  /** Bytes; 0 where the table does not say. */
  readonly size: number;
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

interface Segment {
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

export class ElfFile {
  readonly machine: Machine;
  readonly #fd: number;
  readonly #size: number;
  readonly #sections: readonly Section[];
  readonly #segments: readonly Segment[];

  /** @throws {BpfError} `EFORMAT`: it is no little-endian ELF64 file; or what opening it threw */
  static open(path: string): ElfFile {
    // A pipe would block, and may stand wherever a container can write.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      if (!fstatSync(fd).isFile()) throw malformed('it is no regular file');
      return new ElfFile(fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  private constructor(fd: number) {
    this.#fd = fd;
    this.#size = fstatSync(fd).size;
    const head = this.read(0, HEADER_BYTES);
    if (head.length < HEADER_BYTES || head.readUInt32BE(0) !== 0x7f454c46) {
      throw malformed('it does not begin with an ELF header');
    }
    if (head[4] !== 2 || head[5] !== 1) throw malformed('it is not little-endian ELF64');
    this.machine = MACHINES.get(head.readUInt16LE(18)) ?? 'other';
    this.#segments = this.#readSegments(u64(head, 32), head.readUInt16LE(56));
    this.#sections = this.#readSections(
      u64(head, 40),
      head.readUInt16LE(60),
      head.readUInt16LE(62),
    );
  }

  /** Leads to this very file while it is open, whatever became of the path that it was opened by. */
  get held_path(): string {
    return `/proc/self/fd/${this.#fd}`;
  }

  /** Segments that are mapped to be executed, as they lie in the file. */
  get code(): readonly FileSymbol[] {
    return this.#segments;
  }

  /** Where the section of this name is; undefined: there is none. */
  section(name: string): FileSymbol | undefined {
    const section = this.#sections.find((one) => one.name === name);
    return section && { offset: section.offset, size: section.size };
  }

  /** Functions of these names that are defined here, from both symbol tables. */
  symbols(names: readonly string[]): ReadonlyMap<string, FileSymbol> {
    const found = new Map<string, FileSymbol>();
    for (const type of [SHT_DYNSYM, SHT_SYMTAB]) {
      const table = this.#sections.find((section) => section.type === type);
      const texts = table && this.#sections[table.link];
      const missing = names.filter((name) => !found.has(name));
      if (table && texts && missing.length > 0) this.#search(table, texts, missing, found);
    }
    return found;
  }

  /** Bytes of the file; fewer at its end. */
  read(offset: number, length: number): Buffer {
    const room = Math.max(0, Math.min(length, this.#size - offset));
    const bytes = Buffer.alloc(room);
    return bytes.subarray(0, room === 0 ? 0 : readSync(this.#fd, bytes, 0, room, offset));
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #readSegments(at: number, count: number): readonly Segment[] {
    if (count > SEGMENTS_MAX) throw malformed('it has too many segments');
    const bytes = this.read(at, count * SEGMENT_BYTES);
    const segments: Segment[] = [];
    for (let i = 0; i + SEGMENT_BYTES <= bytes.length; i += SEGMENT_BYTES) {
      const executable = (bytes.readUInt32LE(i + 4) & PF_X) !== 0;
      if (bytes.readUInt32LE(i) !== PT_LOAD || !executable) continue;
      const [offset, address, size] = [u64(bytes, i + 8), u64(bytes, i + 16), u64(bytes, i + 32)];
      segments.push({ offset, address, size });
    }
    return segments;
  }

  #readSections(at: number, count: number, names_at: number): readonly Section[] {
    if (count > SECTIONS_MAX) throw malformed('it has too many sections');
    const bytes = this.read(at, count * SECTION_BYTES);
    const raw = Array.from({ length: Math.floor(bytes.length / SECTION_BYTES) }, (_, index) => {
      const i = index * SECTION_BYTES;
      return {
        name_at: bytes.readUInt32LE(i),
        type: bytes.readUInt32LE(i + 4),
        offset: u64(bytes, i + 24),
        size: u64(bytes, i + 32),
        link: bytes.readUInt32LE(i + 40),
      };
    });
    const names = raw[names_at];
    const texts = this.read(names?.offset ?? 0, Math.min(names?.size ?? 0, NAMES_BYTES_MAX));
    return raw.map((section) => ({ ...section, name: textAt(texts, section.name_at) }));
  }

  #search(
    table: Section,
    texts: Section,
    names: readonly string[],
    found: Map<string, FileSymbol>,
  ): void {
    const wanted = this.#namePlaces(texts, names);
    if (wanted.size === 0) return;
    const end = table.offset + Math.min(table.size, TABLE_BYTES_MAX);
    for (let at = table.offset; at < end; at += CHUNK_BYTES) {
      const bytes = this.read(at, Math.min(CHUNK_BYTES, end - at));
      if (bytes.length === 0) return;
      for (let i = 0; i + SYMBOL_BYTES <= bytes.length; i += SYMBOL_BYTES) {
        const name = wanted.get(bytes.readUInt32LE(i));
        if (name === undefined || found.has(name)) continue;
        const symbol = this.#symbol(bytes, i);
        if (symbol !== undefined) found.set(name, symbol);
      }
    }
  }

  /** Where these names stand in a table of names. Linkers share ends: `SSL_read` may be the end of another name. */
  #namePlaces(texts: Section, names: readonly string[]): ReadonlyMap<number, string> {
    const places = new Map<number, string>();
    const needles = names.map((name) => ({ name, bytes: Buffer.from(`${name}\0`, 'latin1') }));
    const overlap = Math.max(...needles.map(({ bytes }) => bytes.length));
    const size = Math.min(texts.size, TABLE_BYTES_MAX);
    for (let at = 0; at < size; at += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES + overlap, size - at);
      const chunk = this.read(texts.offset + at, length);
      for (const { name, bytes } of needles) {
        for (let i = chunk.indexOf(bytes); i >= 0; i = chunk.indexOf(bytes, i + 1)) {
          if (places.size >= MATCHES_MAX) return places;
          places.set(at + i, name);
        }
      }
    }
    return places;
  }

  #symbol(bytes: Buffer, at: number): FileSymbol | undefined {
    const type = bytes[at + 4]! & 15;
    if (type !== STT_FUNC || bytes.readUInt16LE(at + 6) === 0) return undefined;
    const address = u64(bytes, at + 8);
    const segment = this.#segments.find(
      (one) => address >= one.address && address < one.address + one.size,
    );
    if (segment === undefined) return undefined;
    const offset = address - segment.address + segment.offset;
    return offset < this.#size ? { offset, size: u64(bytes, at + 16) } : undefined;
  }
}

/** Above 2^53 it loses digits, and is beyond any file. */
function u64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 4294967296;
}

function textAt(bytes: Buffer, at: number): string {
  const end = bytes.indexOf(0, at);
  return at < bytes.length && end >= 0 ? bytes.toString('latin1', at, end) : '';
}

function malformed(why: string): BpfError {
  return new BpfError(`Cannot read the program, ${why}`, { code: 'EFORMAT' });
}
