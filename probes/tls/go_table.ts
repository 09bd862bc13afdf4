// Functions of a Go program by name, stripped or not: from the table that every Go program has for its own stack traces
// (`.gopclntab`; layout: src/runtime/symtab.go of Go 1.18 and later). Files come from anywhere: what is not as it should be is
// not found.

import type { CodeFile, CodeSymbol } from '../../src/table/probe.ts';

export interface GoFunction {
  /** Bytes behind the begin of Go's own code, which is where the linker put it: the table does not say. */
  readonly begin: number;
  readonly size: number;
}

/** The second in position-independent programs of linkers before 1.26. */
const SECTIONS = ['.gopclntab', '.data.rel.ro.gopclntab'];
/** Where the linker of C puts it among other things, then. */
const SHARED_SECTION = '.data.rel.ro';
/** From Go 1.18, and from 1.20; before, entries were addresses. */
const MAGICS: readonly number[] = [0xfffffff0, 0xfffffff1];
const HEAD_BYTES = 72;
const POINTER_BYTES = 8;
/** Of one part of the table; the largest programs that were seen have 30 MB in all. */
const PART_BYTES_MAX = 256 << 20;
const FUNCTIONS_MAX = 4_000_000;

export function goFunctions(
  file: CodeFile,
  names: readonly string[],
): ReadonlyMap<string, GoFunction> | undefined {
  const section = tableOf(file);
  if (section === undefined) return undefined;
  const head = bytesOf(file, section.offset, HEAD_BYTES);
  if (head.length < HEAD_BYTES || !MAGICS.includes(head.readUInt32LE(0))) return undefined;
  if (head[7] !== POINTER_BYTES) return undefined;
  const word = (index: number): number => Number(head.readBigUInt64LE(8 + index * 8));
  const [count, names_at, names_end, functions_at] = [word(0), word(3), word(4), word(7)];
  if (count > FUNCTIONS_MAX || names_end < names_at || functions_at > section.size)
    return undefined;
  const texts = bytesOf(file, section.offset + names_at, names_end - names_at);
  const places = new Map(names.map((name) => [placeOf(texts, name), name]));
  const functions = bytesOf(file, section.offset + functions_at, section.size - functions_at);
  return search(functions, count, places);
}

function tableOf(file: CodeFile): CodeSymbol | undefined {
  const own = SECTIONS.map((name) => file.section(name)).find((one) => one !== undefined);
  const shared = own === undefined ? file.section(SHARED_SECTION) : undefined;
  if (shared === undefined) return own;
  const bytes = bytesOf(file, shared.offset, shared.size);
  for (const magic of MAGICS) {
    const head = Buffer.from([magic & 0xff, 0xff, 0xff, 0xff, 0, 0, 1, POINTER_BYTES]);
    const at = bytes.indexOf(head);
    if (at >= 0) return { offset: shared.offset + at, size: shared.size - at };
  }
  return undefined;
}

/** -1: nowhere. */
function placeOf(texts: Buffer, name: string): number {
  const at = texts.indexOf(`\0${name}\0`, 0, 'latin1');
  return at < 0 ? -1 : at + 1;
}

/**
 * First come pairs of begin and place, sorted by begin, and a last begin where the code ends; at each place the begin again and
 * the place of the name.
 */
function search(
  functions: Buffer,
  count: number,
  places: ReadonlyMap<number, string>,
): ReadonlyMap<string, GoFunction> {
  const found = new Map<string, GoFunction>();
  for (let i = 0; i < count && (i + 1) * 8 + 4 <= functions.length; i += 1) {
    const place = functions.readUInt32LE(i * 8 + 4);
    if (place + 8 > functions.length) continue;
    const name = places.get(functions.readInt32LE(place + 4));
    if (name === undefined) continue;
    const begin = functions.readUInt32LE(i * 8);
    found.set(name, { begin, size: Math.max(0, functions.readUInt32LE((i + 1) * 8) - begin) });
  }
  return found;
}

function bytesOf(file: CodeFile, offset: number, length: number): Buffer {
  const bytes = file.read(offset, Math.min(length, PART_BYTES_MAX));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
