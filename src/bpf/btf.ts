// BTF, the type information of an object: every kind decoded, every reference checked.
// Format: Documentation/bpf/btf.rst of the kernel. For the kernel's own BTF, 25 times larger, see kernel-btf.ts.
import { Elf, malformed, textAt, viewOf } from './elf.ts';

export const BTF_MAGIC = 0xeb9f;
const TYPES_MAX = 1 << 20;
/** Longest chain of typedefs and modifiers, deepest nesting: a file made by hand could hold a loop. */
export const DEPTH_MAX = 32;

export const BtfKind = {
  Int: 1,
  Ptr: 2,
  Array: 3,
  Struct: 4,
  Union: 5,
  Enum: 6,
  Fwd: 7,
  Typedef: 8,
  Volatile: 9,
  Const: 10,
  Restrict: 11,
  Func: 12,
  FuncProto: 13,
  Var: 14,
  Datasec: 15,
  Float: 16,
  DeclTag: 17,
  TypeTag: 18,
  Enum64: 19,
} as const;

export interface BtfMember {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  /** 0 for a member that is no bit field. */
  readonly bits: number;
}

export interface BtfEnumerator {
  readonly name: string;
  /** Exact up to 2^53. */
  readonly value: number;
}

interface Base {
  readonly id: number;
  readonly name: string;
}

export type BtfType =
  | (Base & {
      readonly kind: 'int';
      readonly size: number;
      readonly bits: number;
      readonly signed: boolean;
      readonly boolean: boolean;
    })
  | (Base & { readonly kind: 'float'; readonly size: number })
  | (Base & { readonly kind: 'struct' | 'union'; readonly size: number; members: BtfMember[] })
  | (Base & {
      readonly kind: 'enum';
      readonly size: number;
      readonly signed: boolean;
      readonly values: BtfEnumerator[];
    })
  | (Base & { readonly kind: 'array'; readonly element: number; readonly length: number })
  | (Base & {
      readonly kind: 'pointer' | 'typedef' | 'modifier' | 'function' | 'tag';
      readonly type: number;
    })
  | (Base & { readonly kind: 'variable'; readonly type: number; readonly linkage: number })
  | (Base & { readonly kind: 'prototype'; readonly result: number; parameters: BtfMember[] })
  | (Base & { readonly kind: 'section'; readonly size: number; readonly variables: number[] })
  | (Base & { readonly kind: 'void' | 'forward' });

/** A global variable of an object and its place in the value of its section's map. */
export interface BtfVariable {
  readonly name: string;
  /** `.rodata`, `.data`, `.bss` or one of the like. */
  readonly section: string;
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
  readonly boolean: boolean;
  /** A number, boolean or enum of up to 8 bytes. */
  readonly scalar: boolean;
}

export class Btf {
  /** By id; 0 is void. */
  readonly types: readonly BtfType[];
  readonly #elf: Elf | undefined;

  private constructor(types: readonly BtfType[], elf: Elf | undefined) {
    this.types = types;
    this.#elf = elf;
  }

  /** The BTF in a compiled object. @throws {BpfError} `EFORMAT` */
  static ofObject(object: Uint8Array): Btf {
    const elf = Elf.parse(object);
    const section = elf.section('.BTF');
    if (!section) throw malformed('it has no .BTF section (compile with -g)');
    return new Btf(new BtfReader(section.bytes).types(), elf);
  }

  /** BTF on its own. @throws {BpfError} `EFORMAT` */
  static parse(bytes: Uint8Array): Btf {
    return new Btf(new BtfReader(bytes).types(), undefined);
  }

  type(id: number): BtfType {
    const type = this.types[id];
    if (type) return type;
    throw malformed(`its BTF has no type ${id}`);
  }

  /** The type behind typedefs, const, volatile, restrict and tags. */
  resolve(id: number): BtfType {
    let type = this.type(id);
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      if (type.kind !== 'typedef' && type.kind !== 'modifier') return type;
      type = this.type(type.type);
    }
    throw malformed(`its BTF type ${id} refers to itself`);
  }

  /** The struct, union or enum of this name, also one without a tag behind a typedef. */
  find(name: string): BtfType | undefined {
    const named = this.types.filter((type) => type.name === name);
    const direct = named.find((type) => ['struct', 'union', 'enum'].includes(type.kind));
    if (direct) return direct;
    const typedef = named.find((type) => type.kind === 'typedef');
    return typedef && this.resolve(typedef.id);
  }

  /** Bytes of a type; undefined for what has none, as functions. */
  sizeOf(id: number, depth = 0): number | undefined {
    const type = this.resolve(id);
    if (type.kind === 'pointer') return 8;
    if (type.kind === 'array') {
      if (depth > DEPTH_MAX) throw malformed(`its BTF type ${id} refers to itself`);
      const element = this.sizeOf(type.element, depth + 1);
      return element === undefined ? undefined : element * type.length;
    }
    return 'size' in type ? type.size : undefined;
  }

  /** Global variables by name. In an object the BTF's own offsets are all 0: the symbols tell. */
  variables(): Map<string, BtfVariable> {
    const found = new Map<string, BtfVariable>();
    const sections = this.#elf?.sections ?? [];
    const byName = new Map(this.#elf?.symbols().map((symbol) => [symbol.name, symbol]));
    for (const section of this.types) {
      if (section.kind !== 'section' || !/^\.(rodata|data|bss)/.test(section.name)) continue;
      for (const id of section.variables) {
        const variable = this.type(id);
        const symbol = byName.get(variable.name);
        if (variable.kind !== 'variable' || !symbol) continue;
        if (sections[symbol.section]?.name !== section.name) continue;
        const type = this.resolve(variable.type);
        found.set(variable.name, {
          name: variable.name,
          section: section.name,
          offset: symbol.value,
          size: this.sizeOf(variable.type) ?? 0,
          signed: (type.kind === 'int' || type.kind === 'enum') && type.signed,
          boolean: type.kind === 'int' && type.boolean,
          scalar: (type.kind === 'int' || type.kind === 'enum') && type.size <= 8,
        });
      }
    }
    return found;
  }
}

class BtfReader {
  readonly #view: DataView;
  readonly #strings: Uint8Array;
  readonly #end: number;
  #at: number;

  constructor(bytes: Uint8Array) {
    this.#view = viewOf(bytes);
    if (bytes.length < 24 || this.#view.getUint16(0, true) !== BTF_MAGIC) {
      throw malformed('its BTF has no header');
    }
    const header = this.#view.getUint32(4, true);
    this.#at = header + this.#view.getUint32(8, true);
    this.#end = this.#at + this.#view.getUint32(12, true);
    const strings = header + this.#view.getUint32(16, true);
    const stringsEnd = strings + this.#view.getUint32(20, true);
    if (this.#end > bytes.length || stringsEnd > bytes.length) {
      throw malformed('its BTF is cut off');
    }
    this.#strings = bytes.subarray(strings, stringsEnd);
  }

  types(): BtfType[] {
    const types: BtfType[] = [{ id: 0, kind: 'void', name: '' }];
    while (this.#at < this.#end) {
      if (types.length > TYPES_MAX) throw malformed('its BTF has too many types');
      types.push(this.#type(types.length));
    }
    return types;
  }

  #u32(): number {
    if (this.#at + 4 > this.#end) throw malformed('its BTF is cut off');
    const value = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return value;
  }

  #name(): string {
    return textAt(this.#strings, this.#u32());
  }

  #type(id: number): BtfType {
    const name = this.#name();
    const info = this.#u32();
    const sizeOrType = this.#u32();
    const length = info & 0xffff;
    const flag = info >>> 31 === 1;
    switch ((info >>> 24) & 0x1f) {
      case BtfKind.Int:
        return this.#int(id, name, sizeOrType);
      case BtfKind.Float:
        return { id, name, kind: 'float', size: sizeOrType };
      case BtfKind.Struct:
        return { id, name, kind: 'struct', size: sizeOrType, members: this.#members(length, flag) };
      case BtfKind.Union:
        return { id, name, kind: 'union', size: sizeOrType, members: this.#members(length, flag) };
      case BtfKind.Enum: {
        const values = this.#times(length, () => ({ name: this.#name(), value: this.#enum(flag) }));
        const signed = flag || values.some(({ value }) => value < 0);
        return { id, name, kind: 'enum', size: sizeOrType, signed, values };
      }
      case BtfKind.Enum64: {
        const values = this.#times(length, () => ({
          name: this.#name(),
          value: this.#u32() + this.#enum(flag) * 4294967296,
        }));
        return { id, name, kind: 'enum', size: sizeOrType, signed: flag, values };
      }
      default:
        return this.#reference(id, name, info, sizeOrType);
    }
  }

  #reference(id: number, name: string, info: number, type: number): BtfType {
    const length = info & 0xffff;
    const kind = (info >>> 24) & 0x1f;
    switch (kind) {
      case BtfKind.Ptr:
        return { id, name, kind: 'pointer', type };
      case BtfKind.Array: {
        const element = this.#u32();
        this.#u32();
        return { id, name, kind: 'array', element, length: this.#u32() };
      }
      case BtfKind.Fwd:
        return { id, name, kind: 'forward' };
      case BtfKind.Typedef:
        return { id, name, kind: 'typedef', type };
      case BtfKind.Volatile:
      case BtfKind.Const:
      case BtfKind.Restrict:
      case BtfKind.TypeTag:
        return { id, name, kind: 'modifier', type };
      case BtfKind.Func:
        return { id, name, kind: 'function', type };
      case BtfKind.FuncProto: {
        const parameters = this.#times(length, () => this.#parameter());
        return { id, name, kind: 'prototype', result: type, parameters };
      }
      case BtfKind.Var:
        return { id, name, kind: 'variable', type, linkage: this.#u32() };
      case BtfKind.Datasec: {
        const variables = this.#times(length, () => this.#sectionVariable());
        return { id, name, kind: 'section', size: type, variables };
      }
      case BtfKind.DeclTag:
        this.#u32();
        return { id, name, kind: 'tag', type };
      default:
        throw malformed(`its BTF type ${id} has the unknown kind ${kind}`);
    }
  }

  #int(id: number, name: string, size: number): BtfType {
    const encoding = this.#u32();
    const signed = ((encoding >>> 24) & 1) === 1;
    const boolean = ((encoding >>> 24) & 4) === 4;
    return { id, name, kind: 'int', size, bits: encoding & 0xff, signed, boolean };
  }

  #enum(signed: boolean): number {
    const value = this.#u32();
    return signed ? value | 0 : value;
  }

  #members(count: number, flag: boolean): BtfMember[] {
    return this.#times(count, () => {
      const name = this.#name();
      const type = this.#u32();
      const offset = this.#u32();
      const bits = flag ? offset >>> 24 : 0;
      return { name, type, bitOffset: flag ? offset & 0xffffff : offset, bits };
    });
  }

  #parameter(): BtfMember {
    return { name: this.#name(), type: this.#u32(), bitOffset: 0, bits: 0 };
  }

  #sectionVariable(): number {
    const type = this.#u32();
    this.#u32();
    this.#u32();
    return type;
  }

  #times<T>(count: number, read: () => T): T[] {
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(read());
    return items;
  }
}
