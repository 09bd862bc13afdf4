// Functions of a program or library on disk, by their place in the file. Files may be anything: every number is held against the
// file's size.

import { SymbolTable } from './symbol_table.ts';

const HEADER_BYTES = 64;
const SECTION_BYTES = 64;
const SEGMENT_BYTES = 56;
const SYMBOL_BYTES = 24;
const SHT_SYMTAB = 2;
const SHT_DYNSYM = 11;
const STT_FUNC = 2;
const STT_GNU_IFUNC = 10;
const PT_LOAD = 1;
const NAME_MAX = 1024;

interface Segment {
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

/** From `.symtab`, or `.dynsym` where the file is stripped; empty for what is no ELF64 file. */
export function elfFunctions(bytes: Buffer): SymbolTable {
  const table = new SymbolTable();
  if (bytes.length < HEADER_BYTES || bytes.readUInt32BE(0) !== 0x7f454c46) return table;
  if (bytes[4] !== 2 || bytes[5] !== 1) return table; // 64 bits, little-endian
  const segments = readSegments(bytes);
  const sections = u64(bytes, 40);
  const count = bytes.readUInt16LE(60);
  for (const wanted of [SHT_SYMTAB, SHT_DYNSYM]) {
    for (let i = 0; i < count && table.size === 0; i += 1) {
      const at = sections + i * SECTION_BYTES;
      if (at + SECTION_BYTES > bytes.length) break;
      if (bytes.readUInt32LE(at + 4) === wanted) readTable(bytes, at, sections, segments, table);
    }
  }
  return table;
}

function readSegments(bytes: Buffer): readonly Segment[] {
  const begin = u64(bytes, 32);
  const segments: Segment[] = [];
  for (let i = 0; i < bytes.readUInt16LE(56); i += 1) {
    const at = begin + i * SEGMENT_BYTES;
    if (at + SEGMENT_BYTES > bytes.length) break;
    if (bytes.readUInt32LE(at) !== PT_LOAD) continue;
    const [offset, address] = [u64(bytes, at + 8), u64(bytes, at + 16)];
    segments.push({ offset, address, size: u64(bytes, at + 32) });
  }
  return segments;
}

function readTable(
  bytes: Buffer,
  section: number,
  sections: number,
  segments: readonly Segment[],
  table: SymbolTable,
): void {
  const names_at = sections + bytes.readUInt32LE(section + 40) * SECTION_BYTES;
  if (names_at + SECTION_BYTES > bytes.length) return;
  const names = u64(bytes, names_at + 24);
  const begin = u64(bytes, section + 24);
  const end = Math.min(begin + u64(bytes, section + 32), bytes.length);
  for (let at = begin; at + SYMBOL_BYTES <= end; at += SYMBOL_BYTES) {
    const type = bytes[at + 4]! & 15;
    if ((type !== STT_FUNC && type !== STT_GNU_IFUNC) || bytes.readUInt16LE(at + 6) === 0) continue;
    const address = u64(bytes, at + 8);
    const home = segments.find((one) => address >= one.address && address < one.address + one.size);
    if (home === undefined) continue;
    const name = textAt(bytes, names + bytes.readUInt32LE(at));
    if (name !== '') table.add(address - home.address + home.offset, u64(bytes, at + 16), name);
  }
}

/** Above 2^53 it loses digits, and is beyond any file. */
function u64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

function textAt(bytes: Buffer, at: number): string {
  if (at >= bytes.length) return '';
  const end = bytes.indexOf(0, at);
  return bytes.toString('utf8', at, Math.min(end < 0 ? bytes.length : end, at + NAME_MAX));
}
