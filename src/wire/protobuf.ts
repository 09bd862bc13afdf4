// The protobuf wire format, as much of it as Arrow Flight needs: varints, bytes, strings and nested messages.
// Our own 120 lines rather than a library: README.md, "Why no protobuf library", has the comparison.

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
/** A varint never has more bytes; a number of ours never has more than 53 bits. */
const VARINT_BYTES_MAX = 10;

const utf8 = new TextDecoder('utf-8');

/** Collects the pieces of one message and joins them once, so that a batch's body is copied once. */
export class ProtoWriter {
  private readonly pieces: Uint8Array[] = [];
  private size = 0;

  private push(piece: Uint8Array): void {
    this.pieces.push(piece);
    this.size += piece.length;
  }

  /** Writes a whole number below 2^53; negative ones in ten bytes, as int64 asks. */
  private varint(value: number): void {
    const out: number[] = [];
    if (value < 0) {
      let rest = BigInt.asUintN(64, BigInt(value));
      for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
      out.push(Number(rest));
    } else {
      let rest = value;
      for (; rest > 127; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128);
      out.push(rest);
    }
    this.push(Uint8Array.from(out));
  }

  /** Proto3 does not write a zero. */
  integer(field: number, value: number): this {
    if (value === 0) return this;
    this.varint(field * 8 + VARINT);
    this.varint(value);
    return this;
  }

  /** Proto3 does not write empty bytes. */
  bytes(field: number, value: Uint8Array): this {
    if (value.length === 0) return this;
    return this.message(field, value);
  }

  string(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value, 'utf8'));
  }

  /** A nested message or an element of a repeated field is written even when it is empty. */
  message(field: number, value: Uint8Array): this {
    this.varint(field * 8 + BYTES);
    this.varint(value.length);
    this.push(value);
    return this;
  }

  finish(): Buffer {
    return Buffer.concat(this.pieces, this.size);
  }
}

/**
 * Walks the fields of one message. It never throws: bytes that are no protobuf make `ok` false and end the walk,
 * and the caller counts them. Values alias the input.
 *
 *   const reader = new ProtoReader(bytes);
 *   while (reader.next()) if (reader.field === 1) name = reader.string();
 *   if (!reader.ok) return malformed;
 */
export class ProtoReader {
  ok = true;
  field = 0;
  private wire = 0;
  private position = 0;
  private value_start = 0;
  private value_end = 0;
  private value_number = 0;
  private readonly input: Uint8Array;

  constructor(input: Uint8Array) {
    this.input = input;
  }

  private fail(): boolean {
    this.ok = false;
    this.position = this.input.length;
    return false;
  }

  /** Reads 64 bits; those above 2^53 lose precision, which no field of Flight needs. */
  private varint(): number {
    let low = 0;
    let scale = 1;
    for (let index = 0; index < VARINT_BYTES_MAX; index++) {
      if (this.position >= this.input.length) break;
      const byte = this.input[this.position++];
      low += (byte & 127) * scale;
      if (byte < 128) return low;
      scale *= 128;
    }
    this.fail();
    return 0;
  }

  /** Moves to the next field; false at the end and after a malformed byte. */
  next(): boolean {
    if (!this.ok || this.position >= this.input.length) return false;
    const tag = this.varint();
    if (!this.ok) return false;
    this.field = Math.floor(tag / 8);
    this.wire = tag % 8;
    if (this.field === 0 || this.field > 0x1fffffff) return this.fail();
    if (this.wire === VARINT) {
      this.value_number = this.varint();
      return this.ok;
    }
    let length = 0;
    if (this.wire === BYTES) length = this.varint();
    else if (this.wire === FIXED64) length = 8;
    else if (this.wire === FIXED32) length = 4;
    else return this.fail();
    if (!this.ok || length > this.input.length - this.position) return this.fail();
    this.value_start = this.position;
    this.value_end = this.position + length;
    this.position = this.value_end;
    return true;
  }

  /** The value as a whole number; a field of another wire type makes the message malformed. */
  integer(): number {
    if (this.wire !== VARINT) this.fail();
    // Ten-byte varints are the negative int64; nobody needs more of them here than their sign.
    return this.value_number >= 2 ** 63 ? -1 : this.value_number;
  }

  bytes(): Uint8Array {
    if (this.wire === BYTES) return this.input.subarray(this.value_start, this.value_end);
    this.fail();
    return this.input.subarray(0, 0);
  }

  string(): string {
    return utf8.decode(this.bytes());
  }
}
