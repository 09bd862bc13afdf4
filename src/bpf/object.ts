// A compiled object (.bpf.o): open, set, load, attach.
import { readFileSync } from 'node:fs';
import { Btf, type BtfVariable } from './btf.ts';
import { BpfError } from './error.ts';
import type { BpfLink } from './link.ts';
import { BpfMap } from './map.ts';
import { native, type ObjectHandle } from './native.ts';
import { BpfProgram } from './program.ts';
import { renameObject } from './rename.ts';

export interface OpenOptions {
  /** Names the maps of .rodata, .data and .bss; the kernel keeps 15 characters. */
  readonly name?: string;
  /** Folder of a bpffs for maps that declare LIBBPF_PIN_BY_NAME. */
  readonly pinRoot?: string;
  /** The kernel's BTF, where it is not at /sys/kernel/btf/vmlinux. */
  readonly btfPath?: string;
  /** What a map or program is called in the kernel; here it keeps the name that it has in the source. */
  readonly rename?: (name: string) => string;
}

export type VariableValue = number | bigint | boolean;

/** What became of one program in `attachAll`. */
export interface AttachResult {
  readonly program: BpfProgram;
  readonly link?: BpfLink;
  readonly error?: BpfError;
}

export class BpfObject {
  readonly #handle: ObjectHandle;
  readonly #bytes: Uint8Array;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();
  /** By name. The sections of globals are here as `.rodata`, `.data` and `.bss`. */
  readonly maps: ReadonlyMap<string, BpfMap> = this.#maps;
  readonly programs: ReadonlyMap<string, BpfProgram> = this.#programs;
  readonly #mapIndex = new Map<string, number>();
  readonly #programIndex = new Map<string, number>();
  /** The kernel's names → the source's. */
  readonly #originals: ReadonlyMap<string, string>;
  #variables: Map<string, BtfVariable> | undefined;

  private constructor(
    handle: ObjectHandle,
    bytes: Uint8Array,
    originals: ReadonlyMap<string, string>,
  ) {
    this.#handle = handle;
    this.#bytes = bytes;
    this.#originals = originals;
    for (const [index, map] of native().objectMaps(handle).entries()) {
      const name = map.internal ? sectionName(map.name) : (originals.get(map.name) ?? map.name);
      this.#maps.set(name, BpfMap.declared({ ...map, name }, handle, index));
      this.#mapIndex.set(name, index);
    }
    for (const [index, program] of native().objectPrograms(handle).entries()) {
      const name = originals.get(program.name) ?? program.name;
      this.#programs.set(name, BpfProgram.declared({ ...program, name }, handle, index));
      this.#programIndex.set(name, index);
    }
  }

  /**
   * Opens an object; nothing is in the kernel yet.
   *
   * @throws {BpfError} with libbpf's words in `log`.
   */
  static open(source: Uint8Array | string, options: OpenOptions = {}): BpfObject {
    const bytes = typeof source === 'string' ? readFileSync(source) : source;
    const { name = null, pinRoot = null, btfPath = null, rename } = options;
    const { bytes: named, originals } = rename
      ? renameObject(bytes, rename)
      : { bytes, originals: new Map<string, string>() };
    const handle = native().objectOpen(named, name, pinRoot, btfPath);
    return new BpfObject(handle, named, originals);
  }

  map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map) return map;
    throw new BpfError(`The object has no map '${name}'`, { code: 'ENOENT' });
  }

  program(name: string): BpfProgram {
    const program = this.#programs.get(name);
    if (program) return program;
    throw new BpfError(`The object has no program '${name}'`, { code: 'ENOENT' });
  }

  /**
   * Sets `const volatile` variables by name, before load.
   *
   * @throws {BpfError} `ENOENT` for an unknown variable, `ERANGE` for a value that does not fit its type.
   */
  rodata(values: Readonly<Record<string, VariableValue>>): void {
    for (const [name, value] of Object.entries(values)) {
      const variable = this.#variable(name);
      if (!variable.section.startsWith('.rodata')) {
        throw new BpfError(`Variable '${name}' is in ${variable.section}, not in .rodata`, {
          code: 'EARGUMENT',
        });
      }
      this.#set(variable, value);
    }
  }

  /** Sets the first values of other global variables by name, before load. */
  data(values: Readonly<Record<string, VariableValue>>): void {
    for (const [name, value] of Object.entries(values)) this.#set(this.#variable(name), value);
  }

  /** Where a global variable stands in the value of its section's map (`map('.bss')`). */
  variable(name: string): BtfVariable {
    return this.#variable(name);
  }

  /**
   * Creates the maps and loads the programs that have `autoload`. It is all or nothing, and once only: to go on without a
   * refused program, open the object again and clear its `autoload`.
   *
   * @throws {BpfError} with `program`, the one refused, and the verifier's last words in `log`.
   */
  load(): void {
    try {
      native().objectLoad(this.#handle);
    } catch (error) {
      throw this.#inOurWords(error);
    }
    for (const [name, index] of this.#mapIndex) {
      const handle = native().objectMap(this.#handle, index);
      if (handle) this.#maps.get(name)?.bind(handle);
    }
    for (const [name, index] of this.#programIndex) {
      const handle = native().objectProgram(this.#handle, index);
      if (handle) this.#programs.get(name)?.bind(handle);
    }
  }

  /** Attaches every loaded program as its section says; one failure does not stop the others. */
  attachAll(): AttachResult[] {
    const results: AttachResult[] = [];
    for (const program of this.#programs.values()) {
      if (!program.loaded) continue;
      try {
        results.push({ program, link: program.attach() });
      } catch (error) {
        if (!(error instanceof BpfError)) throw error;
        results.push({ program, error });
      }
    }
    return results;
  }

  /** Detaches what is not pinned and frees everything. A second call does nothing. */
  close(): void {
    for (const program of this.#programs.values()) program.close();
    for (const map of this.#maps.values()) map.close();
    native().close(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #inOurWords(error: unknown): unknown {
    const program =
      error instanceof BpfError ? this.#originals.get(error.program ?? '') : undefined;
    return program !== undefined && error instanceof BpfError ? error.of(program) : error;
  }

  #variable(name: string): BtfVariable {
    this.#variables ??= Btf.ofObject(this.#bytes).variables();
    const variable = this.#variables.get(name);
    if (variable) return variable;
    throw new BpfError(`The object has no variable '${name}'`, { code: 'ENOENT' });
  }

  #set(variable: BtfVariable, value: VariableValue): void {
    const index = this.#mapIndex.get(variable.section);
    if (index === undefined) {
      throw new BpfError(`The object has no section '${variable.section}'`, { code: 'ENOENT' });
    }
    const bytes = encodeVariable(variable, value);
    native().objectSetInitial(this.#handle, index, variable.offset, bytes);
  }
}

/** libbpf names such a map after the object and the section: `netflow.rodata`. */
function sectionName(name: string): string {
  const dot = name.indexOf('.');
  return dot < 0 ? name : name.slice(dot);
}

function encodeVariable(variable: BtfVariable, value: VariableValue): Uint8Array {
  const { name, size } = variable;
  const whole = typeof value !== 'number' || Number.isSafeInteger(value);
  if (!variable.scalar || !whole || !fits(variable, BigInt(value))) {
    throw new BpfError(`Value ${value} does not fit variable '${name}' of ${size} bytes`, {
      code: 'ERANGE',
    });
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return bytes.subarray(0, size);
}

function fits({ boolean, signed, size }: BtfVariable, value: bigint): boolean {
  if (boolean) return value === 0n || value === 1n;
  return (signed ? BigInt.asIntN(8 * size, value) : BigInt.asUintN(8 * size, value)) === value;
}
