// Where the programs of the TLS probe stand in a Go program.

import type { CodeFile, CodeSymbol, Placement } from '../../src/table/probe.ts';
import { type GoFunction, goFunctions } from './go_table.ts';
import { decodeX86 } from './x86.ts';

const READ = 'crypto/tls.(*Conn).Read';
const WRITE = 'crypto/tls.(*Conn).Write';
/** Every Go program has it. */
const COPY = 'runtime.memmove';
const FUNCTION_BYTES_MAX = 1 << 16;
/** The check of the stack's size, which every function with a frame begins with, is this many instructions at most. */
const CHECK_STEPS = 4;
/** Before Go's own code a linker may put that of C. */
const FOREIGN_BYTES_MAX = 4 << 20;
const OTHER_MACHINE = 'Go programs are probed on x86-64 alone';
const CALL = 0xe8;
const CALL_BYTES = 5;
/** Go's functions begin at such multiples. */
const ALIGNED = 16;

type Functions = ReadonlyMap<string, CodeSymbol>;

export function placesInGo(file: CodeFile): readonly Placement[] | string {
  if (file.section('.go.buildinfo') === undefined) return [];
  const symbols = file.symbols([READ, WRITE, COPY]);
  const functions = symbols.has(COPY) ? symbols : byTable(file);
  if (typeof functions === 'string') return functions;
  const [read, write, copy] = [READ, WRITE, COPY].map((name) => functions.get(name));
  // without crypto/tls
  if (read === undefined || write === undefined || copy === undefined) return [];
  if (file.machine !== 'x64') return OTHER_MACHINE;
  const copies = callsWithin(file, read, copy.offset);
  if (copies.length === 0) return 'Go compiler that is not known: Read does not call memmove';
  return [
    { program: 'tls_go_write', offset: write.offset + afterCheck(file, write) },
    { program: 'tls_go_read', offset: read.offset + afterCheck(file, read) },
    ...copies.map((offset) => ({ program: 'tls_go_copy', offset })),
  ];
}

/** A text: why they cannot be said. */
function byTable(file: CodeFile): Functions | string {
  const table = goFunctions(file, [READ, WRITE, COPY]);
  const copy = table?.get(COPY);
  if (table === undefined || copy === undefined) {
    return 'Go program without symbols, and without the table of functions of Go 1.18 and later';
  }
  const read = table.get(READ);
  if (read === undefined) return new Map(); // without crypto/tls
  if (file.machine !== 'x64') return OTHER_MACHINE;
  const begin = beginOfGo(file, read, copy);
  if (begin === undefined) return 'Go program without symbols: its code was not found';
  const at = ({ begin: from, size }: GoFunction) => ({ offset: begin + from, size });
  return new Map([...table].map(([name, one]) => [name, at(one)]));
}

/**
 * File offset of the first byte of Go's code. It is not written in the file where symbols are not; but from there Read has its
 * place, memmove too, and the one calls the other: of all calls near where Read may be, only such a one fits.
 */
function beginOfGo(file: CodeFile, read: GoFunction, copy: GoFunction): number | undefined {
  const text = file.section('.text');
  if (text === undefined) return undefined;
  const from = text.offset + read.begin;
  const code = file.read(from, read.size + FOREIGN_BYTES_MAX);
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  for (let at = code.indexOf(CALL); at >= 0; at = code.indexOf(CALL, at + 1)) {
    if (at + CALL_BYTES > code.length) return undefined;
    const begin = from + at + CALL_BYTES + view.getInt32(at + 1, true) - copy.begin;
    const within = from + at - (begin + read.begin);
    if (begin < text.offset || within < 0 || within >= read.size) continue;
    if ((begin - text.offset) % ALIGNED !== 0) continue;
    const offset = begin + read.begin;
    const size = read.size;
    if (afterCheck(file, { offset, size }) === 0) continue;
    if (callsWithin(file, { offset, size }, begin + copy.begin).length > 0) return begin;
  }
  return undefined;
}

/** Behind the check, which is made again when the stack was too small; 0: there is none. */
function afterCheck(file: CodeFile, { offset }: CodeSymbol): number {
  const code = file.read(offset, 64);
  let at = 0;
  for (let step = 0; step < CHECK_STEPS; step += 1) {
    const found = decodeX86(code, at);
    if (found === undefined) return 0;
    at += found.length;
    if (found.opcode === 0x76 || found.opcode === 0x0f86) return at; // jbe
  }
  return 0;
}

/** File offsets of the direct calls of `target`, in the order of the code; what cannot be decoded ends the look. */
function callsWithin(file: CodeFile, symbol: CodeSymbol, target: number): readonly number[] {
  const code = file.read(symbol.offset, Math.min(symbol.size, FUNCTION_BYTES_MAX));
  const found: number[] = [];
  for (let at = 0; at < code.length; ) {
    const one = decodeX86(code, at);
    if (one === undefined) return found;
    const to = one.distance === undefined ? -1 : symbol.offset + at + one.distance;
    if (one.opcode === CALL && to === target) found.push(symbol.offset + at);
    at += one.length;
  }
  return found;
}
