// Other names for an object's maps and programs, which `bpftool map list` and `bpftool prog list` then show. libbpf takes
// names from the file alone, so the file is given others: tables of strings grow, and what points into them is moved on.
import { BTF_MAGIC, BtfKind } from './btf.ts';
import { Elf, malformed, viewOf } from './elf.ts';

const SYMBOL_BYTES = 24;
const SECTION_BYTES = 64;
const STT_FUNC = 2;
/** Sections from here on are none: absolute, common … */
const SECTIONS_RESERVED = 0xff00;
const BTF_TYPE_BYTES = 12;

export interface Renamed {
  readonly bytes: Uint8Array;
  /** New name → the one in the source. */
  readonly originals: ReadonlyMap<string, string>;
}

/** `rename` is asked for each map and each program. The kernel keeps 15 characters. */
export function renameObject(object: Uint8Array, rename: (name: string) => string): Renamed {
  const elf = Elf.parse(object);
  const symtab = elf.sections.findIndex(({ type }) => type === 2);
  const strtab = elf.sections[symtab]?.link ?? -1;
  const btf = elf.sections.findIndex(({ name }) => name === '.BTF');
  if (elf.sections[strtab] === undefined || btf < 0) throw malformed('it has no symbols or no BTF');
  const originals = new Map<string, string>();
  const variables = new Map<string, string>();
  const functions = new Map<string, string>();
  const symbols = new Table(elf.sections[strtab].bytes);
  const places = new Map<number, number>();
  const types = viewOf(elf.sections[symtab]!.bytes);
  for (const [i, { name, section }] of elf.symbols().entries()) {
    const home = section < SECTIONS_RESERVED ? elf.sections[section]?.name : undefined;
    const is_program = (types.getUint8(i * SYMBOL_BYTES + 4) & 15) === STT_FUNC;
    if (name === '' || home === undefined || home === '.text') continue;
    if (home !== '.maps' && !is_program) continue;
    const fresh = rename(name);
    originals.set(fresh, name);
    (is_program ? functions : variables).set(name, fresh);
    places.set(i, symbols.add(fresh));
  }
  const file = new File(object);
  for (const [i, at] of places) file.setSymbolName(symtab, i, at);
  file.replace(strtab, symbols.bytes());
  file.replace(btf, renameTypes(elf.sections[btf]!.bytes, variables, functions));
  return { bytes: file.bytes(), originals };
}

/** A table of strings that grows at its end. */
class Table {
  readonly #parts: Uint8Array[];
  #size: number;

  constructor(bytes: Uint8Array) {
    this.#parts = [bytes];
    this.#size = bytes.length;
  }

  /** Where the text now stands. */
  add(text: string): number {
    const at = this.#size;
    const bytes = Buffer.from(`${text}\0`, 'latin1');
    this.#parts.push(bytes);
    this.#size += bytes.length;
    return at;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

/** An ELF file whose sections are replaced by longer ones at its end. */
class File {
  readonly #parts: Uint8Array[];
  readonly #view: DataView;
  readonly #sections: number;
  #size: number;

  constructor(object: Uint8Array) {
    const copy = Uint8Array.from(object);
    this.#parts = [copy];
    this.#size = copy.length;
    this.#view = viewOf(copy);
    this.#sections = Number(this.#view.getBigUint64(40, true));
  }

  setSymbolName(symtab: number, index: number, at: number): void {
    const start = Number(this.#view.getBigUint64(this.#header(symtab) + 24, true));
    this.#view.setUint32(start + index * SYMBOL_BYTES, at, true);
  }

  replace(section: number, bytes: Uint8Array): void {
    const padding = (8 - (this.#size % 8)) % 8;
    this.#parts.push(new Uint8Array(padding), bytes);
    this.#view.setBigUint64(this.#header(section) + 24, BigInt(this.#size + padding), true);
    this.#view.setBigUint64(this.#header(section) + 32, BigInt(bytes.length), true);
    this.#size += padding + bytes.length;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  #header(section: number): number {
    return this.#sections + section * SECTION_BYTES;
  }
}

/**
 * libbpf finds a map's definition by the variable of the symbol's name; bpftool shows a program whose name the kernel cut
 * by the name of its function.
 */
function renameTypes(
  btf: Uint8Array,
  variables: ReadonlyMap<string, string>,
  functions: ReadonlyMap<string, string>,
): Uint8Array {
  const copy = Uint8Array.from(btf);
  const view = viewOf(copy);
  if (copy.length < 24 || view.getUint16(0, true) !== BTF_MAGIC) {
    throw malformed('its BTF has no header');
  }
  const header = view.getUint32(4, true);
  const strings = header + view.getUint32(16, true);
  const length = view.getUint32(20, true);
  if (strings + length !== copy.length) throw malformed('its BTF does not end with its strings');
  const table = new Table(copy.subarray(strings));
  const place = (names: ReadonlyMap<string, string>) =>
    new Map([...names].map(([name, fresh]) => [name, table.add(fresh)] as const));
  const places = new Map<number, ReadonlyMap<string, number>>([
    [BtfKind.Var, place(variables)],
    [BtfKind.Func, place(functions)],
  ]);
  const end = header + view.getUint32(8, true) + view.getUint32(12, true);
  for (let at = header + view.getUint32(8, true); at + BTF_TYPE_BYTES <= end; ) {
    const info = view.getUint32(at + 4, true);
    const kind = (info >>> 24) & 31;
    const fresh = places.get(kind)?.get(nameAt(copy, strings, view, at));
    if (fresh !== undefined) view.setUint32(at, fresh, true);
    at += BTF_TYPE_BYTES + tailBytes(kind, info & 0xffff);
  }
  const grown = table.bytes();
  view.setUint32(20, grown.length, true);
  return Buffer.concat([copy.subarray(0, strings), grown]);
}

function nameAt(btf: Uint8Array, strings: number, view: DataView, at: number): string {
  const from = strings + view.getUint32(at, true);
  const end = btf.indexOf(0, from);
  return Buffer.from(btf.subarray(from, end < 0 ? btf.length : end)).toString('latin1');
}

/** What follows a type's three words. */
function tailBytes(kind: number, count: number): number {
  switch (kind) {
    case BtfKind.Int:
    case BtfKind.Var:
    case BtfKind.DeclTag:
      return 4;
    case BtfKind.Array:
      return 12;
    case BtfKind.Struct:
    case BtfKind.Union:
    case BtfKind.Datasec:
    case BtfKind.Enum64:
      return 12 * count;
    case BtfKind.Enum:
    case BtfKind.FuncProto:
      return 8 * count;
    default:
      return 0;
  }
}
