// Writes the TypeScript of layouts: one constants object and one flyweight class for each struct, one constants
// object for each enum. What it writes needs nothing but the platform, and getters of numbers allocate nothing.
import { Btf } from './btf.ts';
import {
  type EnumLayout,
  type LayoutField,
  readLayouts,
  type Scalar,
  type StructLayout,
} from './layout.ts';

const HEADER = `// Generated from the BTF of the compiled object. Do not edit: change the C struct.
`;

/** Reads a scalar at the expression AT of the view v. */
const READ: Readonly<Record<Scalar, string>> = {
  u8: 'v.getUint8(AT)',
  u16: 'v.getUint16(AT, true)',
  u32: 'v.getUint32(AT, true)',
  u64: 'v.getUint32(AT, true) + v.getUint32(AT + 4, true) * 4294967296',
  i8: 'v.getInt8(AT)',
  i16: 'v.getInt16(AT, true)',
  i32: 'v.getInt32(AT, true)',
  i64: 'v.getUint32(AT, true) + v.getInt32(AT + 4, true) * 4294967296',
  f32: 'v.getFloat32(AT, true)',
  f64: 'v.getFloat64(AT, true)',
  bool: 'v.getUint8(AT) !== 0',
};

const SCALAR_BYTES: Readonly<Record<Scalar, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  u64: 8,
  i8: 1,
  i16: 2,
  i32: 4,
  i64: 8,
  f32: 4,
  f64: 8,
  bool: 1,
};

/**
 * TypeScript for the named structs (and enums) of a compiled object, to be written to a `.gen.ts` file.
 *
 * @throws {BpfError} `ELAYOUT` for an unknown name, a hole without a name (it would carry old kernel stack bytes), a bit
 * field, a pointer; `EFORMAT` for bytes that are no object.
 */
export function generateLayout(objectBytes: Uint8Array, names: readonly string[]): string {
  const { structs, enums } = readLayouts(Btf.ofObject(objectBytes), names);
  return layoutText(structs, enums);
}

function layoutText(structs: readonly StructLayout[], enums: readonly EnumLayout[]): string {
  const parts = [HEADER];
  for (const item of enums) parts.push(enumText(item));
  for (const item of structs) parts.push(constantsText(item), classText(item));
  return parts.join('\n');
}

function enumText({ name, values }: EnumLayout): string {
  const lines = values.map((item) => `  ${item.name}: ${item.value},`);
  return `/** enum ${name} */\nexport const ${name} = {\n${lines.join('\n')}\n} as const;\n`;
}

/** Sizes and offsets, for those who read without a view. */
function constantsText({ name, size, fields }: StructLayout): string {
  const lines = [`  SIZE: ${size},`];
  for (const field of fields) {
    lines.push(`  ${field.name}: ${field.offset},`);
    const { form } = field;
    if (form.kind === 'text' || form.kind === 'bytes') {
      lines.push(`  ${field.name}_length: ${field.size},`);
    }
    if (form.kind === 'numbers' || form.kind === 'structs') {
      lines.push(`  ${field.name}_length: ${form.length},`);
    }
    if (form.kind === 'structs') lines.push(`  ${field.name}_stride: ${form.stride},`);
  }
  const head = `/** struct ${name}: its size, and the offset of each field. */`;
  return `${head}\nexport const ${name} = {\n${lines.join('\n')}\n} as const;\n`;
}

/** What of the platform's views a struct's getters need: text and bytes read a Buffer, numbers a DataView. */
function storesOf(fields: readonly LayoutField[]): readonly { field: string; value: string }[] {
  const over = 'bytes.buffer, bytes.byteOffset, bytes.byteLength';
  const kinds = new Set(fields.map((field) => field.form.kind));
  const stores: { field: string; value: string }[] = [];
  if (kinds.has('text') || kinds.has('bytes')) {
    stores.push({ field: '#bytes: Buffer', value: `this.#bytes = Buffer.from(${over});` });
  }
  if (kinds.has('scalar') || kinds.has('numbers')) {
    stores.push({ field: '#view: DataView', value: `this.#view = new DataView(${over});` });
  }
  return stores;
}

function classText({ name, fields }: StructLayout): string {
  const text = fields.some((field) => field.form.kind === 'text');
  const stores = storesOf(fields);
  const bytes = stores.length > 0 ? 'bytes' : '_bytes';
  const declarations = stores.map(({ field }) => `\n  ${field};`).join('');
  const assignments = stores.map(({ value }) => `\n    ${value}`).join('');
  return `/** A view of one struct ${name} at a time, over bytes that hold many. */
export class ${className(name)} {${declarations}
  /** Byte offset of the struct in the bytes. */
  at = 0;

  constructor(${bytes}: Uint8Array) {${assignments}
  }

  /** Other bytes, from their beginning. */
  over(${bytes}: Uint8Array): this {${assignments}
    this.at = 0;
    return this;
  }

  /** The struct at this byte offset. */
  move(offset: number): this {
    this.at = offset;
    return this;
  }
${fields.map(fieldText).join('')}${text ? TEXT_METHOD : ''}}
`;
}

const TEXT_METHOD = `
  #text(at: number, length: number): string {
    const end = this.#bytes.indexOf(0, at);
    const stop = end < 0 || end > at + length ? at + length : end;
    return this.#bytes.toString('utf8', at, stop);
  }
`;

function className(name: string): string {
  const words = name.split('_').filter((word) => word !== '');
  return `${words.map((word) => word[0]?.toUpperCase() + word.slice(1)).join('')}View`;
}

function fieldText({ name, offset, size, form }: LayoutField): string {
  const at = offset === 0 ? 'this.at' : `this.at + ${offset}`;
  switch (form.kind) {
    case 'scalar':
      return scalarText(name, at, form.scalar, form.type);
    case 'text':
      return `
  /** char[${size}], up to the first NUL. */
  get ${name}(): string {
    return this.#text(${at}, ${size});
  }
${placeText(name, at)}`;
    case 'bytes':
      return `${placeText(name, at)}
  /** u8[${size}], not copied. */
  get ${name}(): Uint8Array {
    return this.#bytes.subarray(${at}, ${at} + ${size});
  }
`;
    case 'numbers': {
      const place = `at + i * ${SCALAR_BYTES[form.scalar]}`;
      return `
  /** ${form.scalar}[${form.length}] */
  ${name}(i: number): ${typeOf(form.scalar)} {
    const v = this.#view;
    const at = ${at};
    return ${READ[form.scalar].replaceAll('AT', place)};
  }
`;
    }
    case 'structs':
      return `
  /** Byte offset of element i of ${form.length}. */
  ${name}_offset(i: number): number {
    return ${at} + i * ${form.stride};
  }
`;
  }
}

function placeText(name: string, at: string): string {
  return `
  /** Byte offset of ${name} in the bytes. */
  get ${name}_offset(): number {
    return ${at};
  }
`;
}

function scalarText(name: string, at: string, scalar: Scalar, type: string): string {
  const exact = scalar === 'u64' || scalar === 'i64' ? ', exact up to 2^53' : '';
  const whole = `
  /** ${type === '' ? scalar : type}${exact} */
  get ${name}(): ${typeOf(scalar)} {
    const v = this.#view;
    return ${READ[scalar].replaceAll('AT', at)};
  }
`;
  if (exact === '') return whole;
  return `${whole}
  get ${name}_lo(): number {
    return this.#view.getUint32(${at}, true);
  }

  get ${name}_hi(): number {
    return this.#view.getUint32(${at} + 4, true);
  }
`;
}

function typeOf(scalar: Scalar): string {
  return scalar === 'bool' ? 'boolean' : 'number';
}
