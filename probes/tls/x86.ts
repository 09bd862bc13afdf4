// How long the instructions of x86-64 are, and which of them the kernel's uprobes emulate. A breakpoint on any other instruction
// makes the processor step through it, which costs 1-2 µs, and up to 20 µs in a virtual machine.

const LENGTH_MAX = 15;

export interface Instruction {
  readonly length: number;
  /** The opcode; of two bytes: 0x0f00 and the second. */
  readonly opcode: number;
  /** Opcode extension, 0 to 7, of instructions with a ModRM byte; else -1. */
  readonly extension: number;
  /** Where a direct call or jump goes, from the first byte of this instruction; else undefined. */
  readonly distance: number | undefined;
}

/** Undefined: not understood, or cut. */
export function decodeX86(bytes: Uint8Array, at: number): Instruction | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let i = at;
  let short_operand = false;
  let wide = false;
  for (; i < bytes.length && isPrefix(bytes[i]!); i += 1) short_operand ||= bytes[i] === 0x66;
  if (i < bytes.length && (bytes[i]! & 0xf0) === 0x40) {
    wide = (bytes[i]! & 8) !== 0;
    i += 1;
  }
  if (i >= bytes.length) return undefined;
  let opcode = bytes[i]!;
  i += 1;
  if (opcode === 0x0f) {
    if (i >= bytes.length) return undefined;
    opcode = 0x0f00 + bytes[i]!;
    i += 1;
    if (opcode === 0x0f38 || opcode === 0x0f3a) return undefined;
  }
  const shape = shapeOf(opcode);
  if (shape === undefined) return undefined;
  let extension = -1;
  if (shape.modrm) {
    if (i >= bytes.length) return undefined;
    extension = (bytes[i]! >> 3) & 7;
    const size = modrmBytes(bytes, i);
    if (size === undefined) return undefined;
    i += size;
  }
  const immediate = immediateBytes(opcode, extension, shape.immediate, short_operand, wide);
  const end = i + immediate;
  if (end > bytes.length || end - at > LENGTH_MAX) return undefined;
  const distance = isDirect(opcode)
    ? end - at + (immediate === 1 ? view.getInt8(i) : view.getInt32(i, true))
    : undefined;
  return { length: end - at, opcode, extension, distance };
}

function isPrefix(byte: number): boolean {
  return (
    [0x66, 0x67, 0xf0, 0xf2, 0xf3].includes(byte) ||
    [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65].includes(byte)
  );
}

function isDirect(opcode: number): boolean {
  const jcc = (opcode & 0xfff0) === 0x70 || (opcode & 0xfff0) === 0x0f80;
  return jcc || opcode === 0xe8 || opcode === 0xe9 || opcode === 0xeb;
}

/** `z`: four bytes, or two with the operand-size prefix; `v`: `z`, or eight with REX.W. */
type Immediate = 0 | 1 | 2 | 3 | 4 | 'z' | 'v' | 'address' | 'test1' | 'testz';

interface Shape {
  readonly modrm: boolean;
  readonly immediate: Immediate;
}

function plain(immediate: Immediate = 0): Shape {
  return { modrm: false, immediate };
}

function modrm(immediate: Immediate = 0): Shape {
  return { modrm: true, immediate };
}

function shapeOf(opcode: number): Shape | undefined {
  return opcode >= 0x0f00 ? shapeOfTwo(opcode & 0xff) : shapeOfOne(opcode);
}

/** Opcodes that 64-bit mode does not have, VEX and EVEX among them, are not understood. */
const INVALID = new Set([
  ...[
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x62, 0x82, 0x9a,
  ],
  ...[0xc4, 0xc5, 0xce, 0xd4, 0xd5, 0xd6, 0xea],
]);

function shapeOfOne(opcode: number): Shape | undefined {
  if (INVALID.has(opcode)) return undefined;
  if (opcode < 0x40) return shapeOfArithmetic(opcode);
  if (opcode >= 0x50 && opcode <= 0x5f) return plain();
  if (opcode >= 0x70 && opcode <= 0x7f) return plain(1);
  if (opcode >= 0x84 && opcode <= 0x8f) return modrm();
  if (opcode >= 0x90 && opcode <= 0x9f) return plain();
  if (opcode >= 0xa0 && opcode <= 0xa3) return plain('address');
  if (opcode >= 0xb0 && opcode <= 0xb7) return plain(1);
  if (opcode >= 0xb8 && opcode <= 0xbf) return plain('v');
  if (opcode >= 0xd0 && opcode <= 0xdf) return opcode === 0xd7 ? plain() : modrm();
  return ONE.get(opcode) ?? (opcode >= 0xa4 ? plain() : undefined);
}

function shapeOfArithmetic(opcode: number): Shape {
  const low = opcode & 7;
  if (low < 4) return modrm();
  return low === 4 ? plain(1) : plain('z');
}

const ONE: ReadonlyMap<number, Shape> = new Map([
  [0x63, modrm()],
  [0x68, plain('z')],
  [0x69, modrm('z')],
  [0x6a, plain(1)],
  [0x6b, modrm(1)],
  [0x6c, plain()],
  [0x6d, plain()],
  [0x6e, plain()],
  [0x6f, plain()],
  [0x80, modrm(1)],
  [0x81, modrm('z')],
  [0x83, modrm(1)],
  [0xa8, plain(1)],
  [0xa9, plain('z')],
  [0xc0, modrm(1)],
  [0xc1, modrm(1)],
  [0xc2, plain(2)],
  [0xc6, modrm(1)],
  [0xc7, modrm('z')],
  [0xc8, plain(3)],
  [0xca, plain(2)],
  [0xcd, plain(1)],
  ...[0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xeb].map((one): [number, Shape] => [
    one,
    plain(1),
  ]),
  [0xe8, plain(4)],
  [0xe9, plain(4)],
  [0xf6, modrm('test1')],
  [0xf7, modrm('testz')],
  [0xfe, modrm()],
  [0xff, modrm()],
]);

/** Behind 0x0f. Those without a ModRM byte, and those with a byte more; all others have the first alone. */
const TWO_PLAIN = new Set([
  ...[0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0e, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0x77],
  ...[0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf],
]);
const TWO_BYTE = new Set([0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6]);

function shapeOfTwo(opcode: number): Shape | undefined {
  if (TWO_PLAIN.has(opcode)) return plain();
  if (opcode >= 0x80 && opcode <= 0x8f) return plain(4);
  return modrm(TWO_BYTE.has(opcode) ? 1 : 0);
}

function immediateBytes(
  opcode: number,
  extension: number,
  immediate: Immediate,
  short_operand: boolean,
  wide: boolean,
): number {
  const z = short_operand && !wide ? 2 : 4;
  if (immediate === 'z') return z;
  if (immediate === 'v') return wide ? 8 : z;
  if (immediate === 'address') return 8;
  if (immediate === 'test1') return extension < 2 ? 1 : 0;
  if (immediate === 'testz') return extension < 2 ? z : 0;
  return opcode === 0x0f || immediate === 0 ? 0 : immediate;
}

/** Of the ModRM byte at `at`, with the SIB byte and the displacement. */
function modrmBytes(bytes: Uint8Array, at: number): number | undefined {
  const mode = bytes[at]! >> 6;
  const low = bytes[at]! & 7;
  if (mode === 3) return 1;
  const indexed = low === 4;
  if (indexed && at + 1 >= bytes.length) return undefined;
  const size = indexed ? 2 : 1;
  if (mode === 1) return size + 1;
  if (mode === 2) return size + 4;
  const base = indexed ? bytes[at + 1]! & 7 : low;
  return base === 5 ? size + 4 : size;
}

/** True: the kernel emulates it (arch/x86/kernel/uprobes.c: push, nop, call, jmp, jcc). */
export function isEmulated(bytes: Uint8Array, at: number): boolean {
  const found = decodeX86(bytes, at);
  if (found === undefined) return false;
  const first = bytes[at]!;
  const push = first >= 0x50 && first <= 0x57;
  const long_push = first === 0x41 && found.opcode >= 0x50 && found.opcode <= 0x57;
  const nop =
    first === 0x90 || found.opcode === 0x0f1f || (first === 0x66 && found.opcode === 0x90);
  return push || long_push || nop || found.distance !== undefined;
}

/** What a function may do before its first emulated instruction, so that its arguments are still where they were. */
const HARMLESS: readonly (readonly number[])[] = [
  [0xf3, 0x0f, 0x1e, 0xfa], // endbr64
  [0x48, 0x83, 0xec], // sub $n, %rsp
  [0x48, 0x81, 0xec],
  [0x64, 0x48, 0x8b, 0x04, 0x25, 0x28], // the stack's canary into %rax
  [0x48, 0x89, 0x44, 0x24], // %rax onto the stack
  [0x31, 0xc0], // %eax = 0
  [0x48, 0x85], // test, of registers
  [0x85],
];
const STEPS_MAX = 12;

/**
 * From the first byte of a function to the first instruction on which a breakpoint is cheap and which still has the function's
 * arguments; 0 where there is none.
 */
export function cheapEntry(bytes: Uint8Array): number {
  let at = 0;
  for (let step = 0; step < STEPS_MAX && at < bytes.length; step += 1) {
    if (isEmulated(bytes, at)) return at;
    const found = decodeX86(bytes, at);
    const harmless = HARMLESS.some((start) => start.every((byte, i) => bytes[at + i] === byte));
    if (found === undefined || !harmless) return 0;
    at += found.length;
  }
  return 0;
}

/** Where the first direct call of a function goes, from the function's first byte; undefined: there is none. */
export function firstCall(bytes: Uint8Array): number | undefined {
  let at = 0;
  for (let step = 0; step < STEPS_MAX; step += 1) {
    const found = decodeX86(bytes, at);
    if (found === undefined) return undefined;
    if (found.opcode === 0xe8 && found.distance !== undefined) return at + found.distance;
    at += found.length;
  }
  return undefined;
}
