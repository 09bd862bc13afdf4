// Where a function is called in a file of machine code: direct calls only, found by their targets.

import type { CodeFile } from '../src/table/probe.ts';

const CHUNK_BYTES = 1 << 20;
const CODE_BYTES_MAX = 64 << 20;
const CALL_BYTES_X64 = 5;
const CALL_X64 = 0xe8;
const JUMP_X64 = 0xe9;
const JCC_PREFIX_X64 = 0x0f;
const JCC_X64 = 0x80;
const WORD_BYTES = 4;
const BL_ARM64 = 0x25; // upper six bits of `bl`
const B_ARM64 = 0x05;

/**
 * File offsets of the instructions after each call of the function at `target`; empty where there is none, where the function
 * is also jumped to (and returns to somebody else), or on other processors.
 */
export function returnsFrom(file: CodeFile, target: number): readonly number[] {
  const found: number[] = [];
  for (const { offset, size } of file.code) {
    if (target < offset || target >= offset + size) continue; // calls stay within a segment
    const end = offset + Math.min(size, CODE_BYTES_MAX);
    for (let at = offset; at < end; at += CHUNK_BYTES) {
      const bytes = file.read(at, Math.min(CHUNK_BYTES + CALL_BYTES_X64 - 1, end - at));
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const scan =
        file.machine === 'x64' ? scanX64 : file.machine === 'arm64' ? scanArm64 : scanNone;
      if (!scan(view, at, target, found)) return [];
    }
  }
  return found;
}

function scanNone(): boolean {
  return true;
}

/**
 * False: it is jumped to; not by a jump within 128 bytes, whose two bytes would too often be others'. Four bytes that
 * happen to equal a distance are one in 2^32.
 */
function scanX64(code: DataView, at: number, target: number, found: number[]): boolean {
  const last = Math.min(code.byteLength - CALL_BYTES_X64, CHUNK_BYTES - 1);
  for (let i = 0; i <= last; i += 1) {
    const opcode = code.getUint8(i);
    const jcc = (opcode & 0xf0) === JCC_X64 && i > 0 && code.getUint8(i - 1) === JCC_PREFIX_X64;
    const jump = jcc || opcode === JUMP_X64;
    if (opcode !== CALL_X64 && !jump) continue;
    const next = at + i + CALL_BYTES_X64;
    if (next + code.getInt32(i + 1, true) !== target) continue;
    if (jump) return false;
    found.push(next);
  }
  return true;
}

function scanArm64(code: DataView, at: number, target: number, found: number[]): boolean {
  const last = Math.min(code.byteLength, CHUNK_BYTES) - WORD_BYTES;
  for (let i = 0; i <= last; i += WORD_BYTES) {
    const word = code.getUint32(i, true);
    const opcode = word >>> 26;
    if (opcode !== BL_ARM64 && opcode !== B_ARM64) continue;
    const distance = ((word << 6) >> 6) * WORD_BYTES;
    if (at + i + distance !== target) continue;
    if (opcode === B_ARM64) return false;
    found.push(at + i + WORD_BYTES);
  }
  return true;
}
