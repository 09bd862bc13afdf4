// Where the programs of the TLS probe stand in a Go program.

import type { CodeFile, CodeSymbol, Placement } from '../../src/table/probe.ts';
import { decodeX86 } from './x86.ts';

const READ = 'crypto/tls.(*Conn).Read';
const WRITE = 'crypto/tls.(*Conn).Write';
/** Every Go program has it, unless its symbols were taken out. */
const COPY = 'runtime.memmove';
const FUNCTION_BYTES_MAX = 1 << 16;
/** The check of the stack's size, which every function with a frame begins with, is this many instructions at most. */
const CHECK_STEPS = 4;

export function placesInGo(file: CodeFile): readonly Placement[] | string {
  if (!file.hasSection('.go.buildinfo')) return [];
  const symbols = file.symbols([READ, WRITE, COPY]);
  const [read, write, copy] = [symbols.get(READ), symbols.get(WRITE), symbols.get(COPY)];
  if (copy === undefined) return 'Go program without symbols';
  if (read === undefined || write === undefined) return []; // without crypto/tls
  if (file.machine !== 'x64') return 'Go programs are probed on x86-64 alone';
  const copies = callsWithin(file, read, copy.offset);
  if (copies.length === 0) return 'Go compiler that is not known: Read does not call memmove';
  return [
    { program: 'tls_go_write', offset: write.offset + afterCheck(file, write) },
    { program: 'tls_go_read', offset: read.offset + afterCheck(file, read) },
    ...copies.map((offset) => ({ program: 'tls_go_copy', offset })),
  ];
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
    if (one.opcode === 0xe8 && to === target) found.push(symbol.offset + at);
    at += one.length;
  }
  return found;
}
