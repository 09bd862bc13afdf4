// What the spool must know even when its log is empty: who it is, what was acknowledged, the last entry. Two slots
// of a file of fixed size are overwritten in turn, so that a torn write leaves the other one, and a full disk does
// not stop it (the blocks exist already).
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { crc32 } from 'node:zlib';

/** How far rows reach in what the programs of one ring have told. */
export interface RingPosition {
  readonly ring_id: string;
  /** Bytes consumed since the ring was made, below 2^53. */
  readonly cursor: number;
  /** Of the maps that are taken in turns, the last turn. */
  readonly turn?: number | undefined;
  /** Of the programs' own counters. */
  readonly counts?: readonly number[] | undefined;
}

/** The newest thing the spool was told, on disk until a newer one is there. */
export interface LastEntry {
  readonly seq: number;
  readonly ring: RingPosition | undefined;
}

export interface SpoolState {
  /** Made with the folder: sequences mean something only together with it. */
  readonly spool_id: string;
  /** The boot in which the state was written: after a power loss, unsynced entries may be gone. */
  readonly boot: string;
  readonly acknowledged: number;
  /** The highest sequence handed out, also for batches that live in memory only. */
  readonly seq_used: number;
  readonly last: LastEntry | undefined;
}

export const SLOT_BYTES = 4096;
/** Of a folder that was made before positions had counters. */
const FORMER_SLOT_BYTES = 1024;
const HEAD_BYTES = 8;

export class StateFile {
  private readonly path: string;
  private readonly fd: number;
  private turn = 0;
  /** The newest valid slot found at the start; undefined in a new folder or when both slots are damaged. */
  readonly found: SpoolState | undefined;

  constructor(path: string) {
    this.path = path;
    this.fd = openSync(path, 'a+');
    closeSync(this.fd);
    this.fd = openSync(path, 'r+');
    const is_former = fstatSync(this.fd).size === 2 * FORMER_SLOT_BYTES;
    const slot_bytes = is_former ? FORMER_SLOT_BYTES : SLOT_BYTES;
    const slots = [this.read(0, slot_bytes), this.read(1, slot_bytes)];
    const newest = (slots[1]?.turn ?? -1) > (slots[0]?.turn ?? -1) ? slots[1] : slots[0];
    this.turn = newest?.turn ?? 0;
    this.found = newest?.state;
  }

  private read(slot: number, slot_bytes: number): { turn: number; state: SpoolState } | undefined {
    const bytes = Buffer.alloc(slot_bytes);
    if (readSync(this.fd, bytes, 0, slot_bytes, slot * slot_bytes) < HEAD_BYTES) return undefined;
    const length = bytes.readUInt32LE(0);
    if (length > slot_bytes - HEAD_BYTES) return undefined;
    const text = bytes.subarray(HEAD_BYTES, HEAD_BYTES + length);
    if (length === 0 || crc32(text) !== bytes.readUInt32LE(4)) return undefined;
    // Written by this class and covered by the checksum.
    return JSON.parse(text.toString('utf8')) as { turn: number; state: SpoolState };
  }

  /** Throws what the system call throws; the caller turns it into a value. */
  write(state: SpoolState, durable: boolean): void {
    const turn = this.turn + 1;
    const text = Buffer.from(JSON.stringify({ turn, state }), 'utf8');
    if (text.length > SLOT_BYTES - HEAD_BYTES) throw new Error('spool state too large');
    const bytes = Buffer.alloc(SLOT_BYTES);
    bytes.writeUInt32LE(text.length, 0);
    bytes.writeUInt32LE(crc32(text), 4);
    text.copy(bytes, HEAD_BYTES);
    const written = writeSync(this.fd, bytes, 0, SLOT_BYTES, (turn % 2) * SLOT_BYTES);
    if (written !== SLOT_BYTES) throw new Error('spool state written in part');
    if (durable) fdatasyncSync(this.fd);
    this.turn = turn;
  }

  /** False: what is written ends with this process, for the file was removed, or another one has its name. */
  isThere(): boolean {
    const found = statSync(this.path, { throwIfNoEntry: false });
    const own = fstatSync(this.fd);
    return found?.ino === own.ino && found.dev === own.dev;
  }

  close(): void {
    closeSync(this.fd);
  }
}
