// Sections and symbols of a little-endian ELF64 file: what a reader of .bpf.o needs, and no more. Every
// number in the file is held against the file's size before it is used.
import { BpfError } from './error.ts';

const HEADER_BYTES = 64;
const SECTION_BYTES = 64;
const SYMBOL_BYTES = 24;
const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const STT_FUNC = 2;
const SECTIONS_MAX = 4096;
const SYMBOLS_MAX = 1 << 20;
const NAME_BYTES_MAX = 1024;

export interface ElfSection {
  readonly name: string;
  readonly type: number;
  readonly size: number;
  /** Empty for .bss. */
  readonly bytes: Uint8Array;
  readonly link: number;
}

export interface ElfSymbol {
  readonly name: string;
  readonly value: number;
  readonly size: number;
  /** Index of its section; 0 and above 0xff00 for none. */
  readonly section: number;
  readonly is_function: boolean;
}

export class Elf {
  readonly sections: readonly ElfSection[];

  private constructor(sections: readonly ElfSection[]) {
    this.sections = sections;
  }

  /** @throws {BpfError} `EFORMAT` */
  static parse(bytes: Uint8Array): Elf {
    const view = viewOf(bytes);
    if (bytes.length < HEADER_BYTES || view.getUint32(0) !== 0x7f454c46) {
      throw malformed('it does not begin with an ELF header');
    }
    if (view.getUint8(4) !== 2 || view.getUint8(5) !== 1) {
      throw malformed('it is not little-endian ELF64');
    }
    const at = u64(view, 40);
    const count = view.getUint16(60, true);
    const names = view.getUint16(62, true);
    if (view.getUint16(58, true) !== SECTION_BYTES || count > SECTIONS_MAX) {
      throw malformed('its section table is not one');
    }
    requireRange(bytes, at, count * SECTION_BYTES, 'section table');
    const raw = Array.from({ length: count }, (_, index) =>
      readSection(bytes, view, at + index * SECTION_BYTES),
    );
    const strings = raw[names]?.bytes ?? new Uint8Array(0);
    return new Elf(raw.map((section) => ({ ...section, name: textAt(strings, section.nameAt) })));
  }

  section(name: string): ElfSection | undefined {
    return this.sections.find((section) => section.name === name);
  }

  symbols(): ElfSymbol[] {
    const table = this.sections.find((section) => section.type === SHT_SYMTAB);
    if (!table) return [];
    const strings = this.sections[table.link]?.bytes ?? new Uint8Array(0);
    const view = viewOf(table.bytes);
    const count = Math.floor(table.bytes.length / SYMBOL_BYTES);
    if (count > SYMBOLS_MAX) throw malformed('it has too many symbols');
    return Array.from({ length: count }, (_, index) => {
      const at = index * SYMBOL_BYTES;
      return {
        name: textAt(strings, view.getUint32(at, true)),
        section: view.getUint16(at + 6, true),
        is_function: (view.getUint8(at + 4) & 15) === STT_FUNC,
        value: u64(view, at + 8),
        size: u64(view, at + 16),
      };
    });
  }
}

function readSection(bytes: Uint8Array, view: DataView, at: number) {
  const type = view.getUint32(at + 4, true);
  const offset = u64(view, at + 24);
  const size = u64(view, at + 32);
  const present = type !== SHT_NOBITS && type !== 0;
  if (present) requireRange(bytes, offset, size, 'section');
  return {
    nameAt: view.getUint32(at, true),
    type,
    size,
    link: view.getUint32(at + 40, true),
    bytes: present ? bytes.subarray(offset, offset + size) : new Uint8Array(0),
  };
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Above 2^53 it loses digits, and is beyond any file. */
function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 4294967296;
}

function requireRange(bytes: Uint8Array, at: number, size: number, what: string): void {
  if (at + size > bytes.length) throw malformed(`its ${what} lies outside of the file`);
}

/** The NUL-terminated text at `at`; empty outside of the bytes. */
export function textAt(bytes: Uint8Array, at: number): string {
  if (at >= bytes.length) return '';
  const end = bytes.indexOf(0, at);
  const stop = Math.min(end < 0 ? bytes.length : end, at + NAME_BYTES_MAX);
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, stop - at).toString('latin1');
}

export function malformed(why: string): BpfError {
  return new BpfError(`Cannot read the object, ${why}`, { code: 'EFORMAT' });
}
