// Asks the kernel's BTF: is there such a struct, field, function, tracepoint. The file has 5.5 MB and 126,000 types,
// so nothing is decoded ahead: a name is searched in the string section, then its number among the types.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { BTF_MAGIC, BtfKind, DEPTH_MAX } from './btf.ts';
import { malformed, viewOf } from './elf.ts';
import { BpfError } from './error.ts';

export const KERNEL_BTF_PATH = '/sys/kernel/btf/vmlinux';
const FILE_BYTES_MAX = 64 * 1024 * 1024;
const MEMBER_BYTES = 12;

/** What can be asked for; `function` covers kfuncs, `tracepoint` the ones that tp_btf programs attach to. */
export type BtfQuery = 'struct' | 'union' | 'enum' | 'typedef' | 'function' | 'tracepoint';

const KINDS: Readonly<Record<BtfQuery, readonly number[]>> = {
  struct: [BtfKind.Struct],
  union: [BtfKind.Union],
  enum: [BtfKind.Enum, BtfKind.Enum64],
  typedef: [BtfKind.Typedef],
  function: [BtfKind.Func],
  tracepoint: [BtfKind.Typedef],
};

export class KernelBtf {
  #bytes: Buffer;
  #view: DataView;
  readonly #strings: { readonly start: number; readonly end: number };
  /** Byte offset of each type; the first is of type `#firstId`. */
  #offsets: Uint32Array;
  readonly #base: KernelBtf | undefined;
  readonly #firstId: number;
  readonly #firstName: number;
  #open = true;

  private constructor(bytes: Uint8Array, base: KernelBtf | undefined) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = viewOf(bytes);
    this.#base = base;
    this.#firstId = base ? base.#firstId + base.#offsets.length : 1;
    this.#firstName = base ? base.#firstName + base.#strings.end - base.#strings.start : 0;
    if (bytes.length < 24 || this.#view.getUint16(0, true) !== BTF_MAGIC) {
      throw malformed('its BTF has no header');
    }
    const header = this.#view.getUint32(4, true);
    const types = header + this.#view.getUint32(8, true);
    const typesEnd = types + this.#view.getUint32(12, true);
    const start = header + this.#view.getUint32(16, true);
    this.#strings = { start, end: start + this.#view.getUint32(20, true) };
    if (typesEnd > bytes.length || this.#strings.end > bytes.length) {
      throw malformed('its BTF is cut off');
    }
    this.#offsets = typeOffsets(this.#view, types, typesEnd);
  }

  /**
   * Reads the BTF of the kernel, or of a file; `base` is the kernel's where the file is a module's
   * (`/sys/kernel/btf/nf_conntrack`). It holds the whole file until `close`.
   *
   * @throws {BpfError} `ENOENT` for a kernel without BTF, `EFORMAT` for a file that is none.
   */
  static open(path: string = KERNEL_BTF_PATH, base?: KernelBtf): KernelBtf {
    return new KernelBtf(readWhole(path), base);
  }

  static parse(bytes: Uint8Array, base?: KernelBtf): KernelBtf {
    return new KernelBtf(bytes, base);
  }

  /** Whether there is such a type, and in it such a field or enumerator, also within nameless structs and unions. */
  has(query: BtfQuery, name: string, member?: string): boolean {
    const at = this.#find(query, name);
    if (at === undefined || member === undefined) return at !== undefined;
    return this.#member(at, member) !== undefined;
  }

  /** Byte offset of a field; undefined where there is none, or it is a bit field that begins within a byte. */
  fieldOffset(struct: string, field: string): number | undefined {
    const at = this.#find('struct', struct);
    const bits = at === undefined ? undefined : this.#member(at, field);
    return bits === undefined || bits % 8 !== 0 ? undefined : bits / 8;
  }

  structSize(name: string): number | undefined {
    const at = this.#find('struct', name);
    return at === undefined ? undefined : this.#view.getUint32(at + 8, true);
  }

  /** Names of the values of an enum; of two names for one value the first. Empty where there is no such enum. */
  enumNames(name: string): ReadonlyMap<number, string> {
    const names = new Map<number, string>();
    const at = this.#find('enum', name);
    if (at === undefined) return names;
    const view = this.#view;
    const step = kindAt(view, at) === BtfKind.Enum ? 8 : MEMBER_BYTES;
    const count = view.getUint32(at + 4, true) & 0xffff;
    for (let i = 0; i < count; i++) {
      const item = at + MEMBER_BYTES + i * step;
      const value = view.getInt32(item + 4, true);
      if (!names.has(value)) names.set(value, this.#text(view.getUint32(item, true)));
    }
    return names;
  }

  #text(offset: number): string {
    if (this.#base !== undefined && offset < this.#firstName) return this.#base.#text(offset);
    const start = this.#strings.start + offset - this.#firstName;
    return this.#bytes.toString('latin1', start, this.#bytes.indexOf(0, start));
  }

  /** Gives the memory back at once, not when the collector comes by. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const { buffer } = this.#bytes;
    if (buffer instanceof ArrayBuffer) buffer.transfer(0);
    this.#bytes = Buffer.alloc(0);
    this.#view = viewOf(this.#bytes);
    this.#offsets = new Uint32Array(0);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #find(query: BtfQuery, name: string): number | undefined {
    if (!this.#open) throw new BpfError('The BTF is closed', { code: 'ECLOSED' });
    const wanted = this.#nameOffset(query === 'tracepoint' ? `btf_trace_${name}` : name);
    if (wanted === undefined) return undefined;
    for (const at of this.#offsets) {
      if (this.#view.getUint32(at, true) !== wanted) continue;
      if (KINDS[query].includes(kindAt(this.#view, at))) return at;
    }
    return undefined;
  }

  /** The number that stands for a name; a module's numbers go on where the kernel's end. */
  #nameOffset(name: string): number | undefined {
    const inBase = this.#base ? this.#base.#nameOffset(name) : undefined;
    if (inBase !== undefined) return inBase;
    const { start, end } = this.#strings;
    const found = this.#bytes.indexOf(`\0${name}\0`, start, 'latin1');
    return found < 0 || found >= end ? undefined : this.#firstName + found + 1 - start;
  }

  /** The bit offset of a field, the value of an enumerator. */
  #member(at: number, member: string): number | undefined {
    const wanted = this.#nameOffset(member);
    return wanted === undefined ? undefined : this.#memberNumber(at, wanted, 0);
  }

  #memberNumber(at: number, wanted: number, depth: number): number | undefined {
    const view = this.#view;
    const info = view.getUint32(at + 4, true);
    const kind = kindAt(view, at);
    const count = info & 0xffff;
    if (kind === BtfKind.Enum || kind === BtfKind.Enum64) {
      const step = kind === BtfKind.Enum ? 8 : MEMBER_BYTES;
      for (let i = 0; i < count; i++) {
        const item = at + MEMBER_BYTES + i * step;
        if (view.getUint32(item, true) === wanted) return view.getInt32(item + 4, true);
      }
    }
    if ((kind !== BtfKind.Struct && kind !== BtfKind.Union) || depth > DEPTH_MAX) return undefined;
    for (let i = 0; i < count; i++) {
      const item = at + MEMBER_BYTES + i * MEMBER_BYTES;
      const name = view.getUint32(item, true);
      const raw = view.getUint32(item + 8, true);
      const bits = info >>> 31 === 1 ? raw & 0xffffff : raw;
      if (name === wanted) return bits;
      const inner =
        name === 0 ? this.#inner(view.getUint32(item + 4, true), wanted, depth) : undefined;
      if (inner !== undefined) return bits + inner;
    }
    return undefined;
  }

  #inner(id: number, wanted: number, depth: number): number | undefined {
    if (id < this.#firstId) {
      return this.#base ? this.#base.#inner(id, wanted, depth) : undefined;
    }
    const at = this.#offsets[id - this.#firstId];
    return at === undefined ? undefined : this.#memberNumber(at, wanted, depth + 1);
  }
}

/** Bytes after the twelve that every type has, for each kind: fixed, and for each of its elements. */
const TAIL: Readonly<Record<number, { fixed: number; each: number }>> = {
  [BtfKind.Int]: { fixed: 4, each: 0 },
  [BtfKind.Array]: { fixed: 12, each: 0 },
  [BtfKind.Struct]: { fixed: 0, each: 12 },
  [BtfKind.Union]: { fixed: 0, each: 12 },
  [BtfKind.Enum]: { fixed: 0, each: 8 },
  [BtfKind.FuncProto]: { fixed: 0, each: 8 },
  [BtfKind.Var]: { fixed: 4, each: 0 },
  [BtfKind.Datasec]: { fixed: 0, each: 12 },
  [BtfKind.DeclTag]: { fixed: 4, each: 0 },
  [BtfKind.Enum64]: { fixed: 0, each: 12 },
};

function kindAt(view: DataView, at: number): number {
  return (view.getUint32(at + 4, true) >>> 24) & 0x1f;
}

function typeOffsets(view: DataView, start: number, end: number): Uint32Array {
  // Twelve bytes are the least that a type takes.
  const offsets = new Uint32Array(Math.ceil((end - start) / MEMBER_BYTES));
  let count = 0;
  let at = start;
  while (at + MEMBER_BYTES <= end) {
    const kind = kindAt(view, at);
    if (kind === 0 || kind > BtfKind.Enum64) {
      throw malformed(`its BTF type ${count + 1} has the unknown kind ${kind}`);
    }
    const tail = TAIL[kind];
    const length = view.getUint32(at + 4, true) & 0xffff;
    const next = at + MEMBER_BYTES + (tail ? tail.fixed + tail.each * length : 0);
    if (next > end) throw malformed('its BTF is cut off');
    offsets[count++] = at;
    at = next;
  }
  return offsets.slice(0, count);
}

function readWhole(path: string): Uint8Array {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw new BpfError(`Cannot read the kernel's BTF '${path}'`, {
      code: error instanceof Error && 'code' in error ? String(error.code) : 'EIO',
    });
  }
  try {
    const { size } = fstatSync(fd);
    if (size > FILE_BYTES_MAX) throw malformed(`its BTF has ${size} bytes`);
    // Not from Buffer's pool: close() gives this memory back whole.
    const bytes = new Uint8Array(new ArrayBuffer(size));
    let done = 0;
    while (done < size) {
      const count = readSync(fd, bytes, done, size - done, done);
      if (count === 0) throw malformed('its BTF is cut off');
      done += count;
    }
    return bytes;
  } finally {
    closeSync(fd);
  }
}
