// Layouts of C structs, read from the BTF of an object: fields with their places, nested structs flattened, holes refused.
// The C struct is the only source of a layout; layout-text.ts writes it as TypeScript.
import { type Btf, type BtfMember, type BtfType, DEPTH_MAX } from './btf.ts';
import { BpfError } from './error.ts';

/** One readable value of a struct; nested structs are flattened, their names joined with `_`. */
export interface LayoutField {
  readonly name: string;
  readonly offset: number;
  /** Bytes of the whole field. */
  readonly size: number;
  readonly form: FieldForm;
}

export type Scalar =
  | 'u8'
  | 'u16'
  | 'u32'
  | 'u64'
  | 'i8'
  | 'i16'
  | 'i32'
  | 'i64'
  | 'f32'
  | 'f64'
  | 'bool';

export type FieldForm =
  | { readonly kind: 'scalar'; readonly scalar: Scalar; readonly type: string }
  /** char[]: text up to the first NUL. */
  | { readonly kind: 'text' }
  /** Unsigned char[]. */
  | { readonly kind: 'bytes' }
  | { readonly kind: 'numbers'; readonly scalar: Scalar; readonly length: number }
  | { readonly kind: 'structs'; readonly stride: number; readonly length: number };

export interface StructLayout {
  readonly name: string;
  readonly size: number;
  readonly fields: readonly LayoutField[];
}

export interface EnumLayout {
  readonly name: string;
  readonly values: readonly { readonly name: string; readonly value: number }[];
}

export function readLayouts(
  btf: Btf,
  names: readonly string[],
): { structs: StructLayout[]; enums: EnumLayout[] } {
  const structs: StructLayout[] = [];
  const enums = new Map<string, EnumLayout>();
  for (const name of names) {
    const type = btf.find(name);
    if (type?.kind === 'struct') {
      structs.push(new StructWalk(btf, name, enums).layout(type));
    } else if (type?.kind === 'enum') {
      enums.set(name, enumLayout(name, type));
    } else {
      throw refused(`the object has no struct or enum '${name}'`);
    }
  }
  return { structs, enums: [...enums.values()] };
}

/** What every view and every constants object has. */
const RESERVED = ['SIZE', 'at', 'move', 'over', 'constructor'];

type StructType = Extract<BtfType, { kind: 'struct' | 'union' }>;

class StructWalk {
  readonly #btf: Btf;
  readonly #name: string;
  readonly #enums: Map<string, EnumLayout>;
  readonly #fields: LayoutField[] = [];

  constructor(btf: Btf, name: string, enums: Map<string, EnumLayout>) {
    this.#btf = btf;
    this.#name = name;
    this.#enums = enums;
  }

  layout(type: StructType, depth = 0): StructLayout {
    this.#members(type, 0, '', depth);
    const seen = new Set(RESERVED);
    for (const name of this.#fields.flatMap(namesOf)) {
      if (seen.has(name)) throw refused(`'${name}' of struct '${this.#name}' is taken`);
      seen.add(name);
    }
    return { name: this.#name, size: type.size, fields: this.#fields };
  }

  #members(type: StructType, base: number, prefix: string, depth: number): void {
    if (depth > DEPTH_MAX) throw refused(`struct '${this.#name}' is nested too deeply`);
    let end = 0;
    for (const member of type.members) {
      const label = member.name === '' ? prefix : join(prefix, member.name);
      const offset = this.#byteOffset(member, label);
      const size = this.#btf.sizeOf(member.type);
      if (size === undefined || size === 0) {
        throw refused(`field '${label}' of struct '${this.#name}' has no size`);
      }
      if (type.kind === 'struct') this.#requireNoHole(end, offset, base);
      this.#member(member, base + offset, label, size, depth);
      end = type.kind === 'struct' ? offset + size : Math.max(end, size);
    }
    this.#requireNoHole(end, type.size, base);
  }

  #byteOffset(member: BtfMember, label: string): number {
    if (member.bits !== 0 || member.bitOffset % 8 !== 0) {
      throw refused(`field '${label}' of struct '${this.#name}' is a bit field`);
    }
    return member.bitOffset / 8;
  }

  #requireNoHole(end: number, next: number, base: number): void {
    if (next === end) return;
    throw refused(
      `struct '${this.#name}' has a hole of ${next - end} bytes at offset ${base + end}, name it`,
    );
  }

  #member(member: BtfMember, offset: number, name: string, size: number, depth: number): void {
    const type = this.#btf.resolve(member.type);
    if (type.kind === 'struct' || type.kind === 'union') {
      this.#members(type, offset, name, depth + 1);
      return;
    }
    const form =
      type.kind === 'array' ? this.#array(type, name, depth) : this.#scalar(member.type, name);
    this.#fields.push({ name, offset, size, form });
  }

  #array(type: Extract<BtfType, { kind: 'array' }>, name: string, depth: number): FieldForm {
    const element = this.#btf.resolve(type.element);
    if (element.kind === 'int' && element.size === 1 && !element.boolean) {
      return { kind: element.name === 'char' ? 'text' : 'bytes' };
    }
    if (element.kind === 'struct') {
      new StructWalk(this.#btf, element.name || name, this.#enums).layout(element, depth + 1);
      return { kind: 'structs', stride: element.size, length: type.length };
    }
    const form = this.#scalar(type.element, name);
    if (form.kind !== 'scalar') throw refused(`field '${name}' of '${this.#name}' has no form`);
    return { kind: 'numbers', scalar: form.scalar, length: type.length };
  }

  #scalar(id: number, name: string): FieldForm {
    const type = this.#btf.resolve(id);
    if (type.kind === 'enum' && type.name !== '') {
      this.#enums.set(type.name, enumLayout(type.name, type));
    }
    const scalar = scalarOf(type);
    if (scalar) return { kind: 'scalar', scalar, type: this.#btf.type(id).name || type.name };
    throw refused(`field '${name}' of struct '${this.#name}' is a ${type.kind}, which has no form`);
  }
}

const INTEGERS: Readonly<Record<string, Scalar>> = {
  u1: 'u8',
  u2: 'u16',
  u4: 'u32',
  u8: 'u64',
  i1: 'i8',
  i2: 'i16',
  i4: 'i32',
  i8: 'i64',
};

function scalarOf(type: BtfType): Scalar | undefined {
  if (type.kind === 'int' && type.boolean) return type.size === 1 ? 'bool' : undefined;
  if (type.kind === 'int' || type.kind === 'enum') {
    return INTEGERS[`${type.signed ? 'i' : 'u'}${type.size}`];
  }
  if (type.kind === 'float') return type.size === 4 ? 'f32' : type.size === 8 ? 'f64' : undefined;
  return undefined;
}

/** clang before 15 writes a negative enumerator as if it were a large one, and does not tell. */
function enumLayout(name: string, type: Extract<BtfType, { kind: 'enum' }>): EnumLayout {
  const unclear = type.values.find(({ value }) => !type.signed && value >= 2 ** 31);
  if (!unclear || type.size === 8) return { name, values: type.values };
  throw refused(
    `enumerator '${unclear.name}' of '${name}' is negative or above 2^31, unclear which`,
  );
}

function join(prefix: string, name: string): string {
  return prefix === '' ? name : `${prefix}_${name}`;
}

function refused(why: string): BpfError {
  return new BpfError(`Cannot generate a layout, ${why}`, { code: 'ELAYOUT' });
}

/** The names in the constants and in the view that come of one field. */
export function namesOf({ name, form }: LayoutField): string[] {
  switch (form.kind) {
    case 'scalar':
      return ['u64', 'i64'].includes(form.scalar) ? [name, `${name}_lo`, `${name}_hi`] : [name];
    case 'text':
    case 'bytes':
      return [name, `${name}_length`, `${name}_offset`];
    case 'numbers':
      return [name, `${name}_length`];
    case 'structs':
      return [name, `${name}_length`, `${name}_stride`, `${name}_offset`];
  }
}
