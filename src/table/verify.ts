// Apache Arrow's reader believes the lengths that stand in a message: one byte changed in a schema makes it walk two
// thousand million children. This file walks the same tables first, with every offset held against the bytes that are
// there and a budget of steps, so that what passes costs the reader no more than it cost the sender.
//
// Format: flatbuffers, with the tables of Arrow's Message.fbs and Schema.fbs.

/** Tables and vector elements of all messages of a stream; our widest schema has some 2,500. */
const STEPS_MAX = 65_536;
const DEPTH_MAX = 8;
const MESSAGES_MAX = 1024;
const PREFIX_BYTES = 8;
const CONTINUATION = -1;

const HEADER_SCHEMA = 1;
const HEADER_DICTIONARY = 2;
const HEADER_BATCH = 3;
/** Unions have vectors of their own in the type; no table of ours has one. */
const TYPE_UNION = 14;
const TYPE_MAX = 26;
const STRUCT_BYTES = 16;

class BadMessage extends Error {}

/** What is wrong with the framing or the tables of an IPC stream; undefined if nothing is. Never throws. */
export function streamProblem(bytes: Uint8Array): string | undefined {
  const walk = new Walk(bytes);
  try {
    walk.stream();
    return undefined;
  } catch (error) {
    // DataView throws RangeError for all that lies outside; the rest says itself what it is.
    return error instanceof BadMessage ? error.message : 'an offset points outside of the message';
  }
}

class Walk {
  readonly #bytes: Uint8Array;
  #view: DataView;
  #steps = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  stream(): void {
    const whole = this.#view;
    let at = 0;
    for (let messages = 0; at < whole.byteLength; messages += 1) {
      if (messages > MESSAGES_MAX) throw new BadMessage('the stream has too many messages');
      if (whole.getInt32(at, true) !== CONTINUATION) throw new BadMessage('no message begins here');
      const header_bytes = whole.getInt32(at + 4, true);
      if (header_bytes === 0) return;
      at += PREFIX_BYTES;
      if (header_bytes < 0 || header_bytes > whole.byteLength - at) {
        throw new BadMessage('a message is longer than the stream');
      }
      this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + at, header_bytes);
      at += header_bytes + this.#message();
      if (at > whole.byteLength) throw new BadMessage('a body is longer than the stream');
    }
  }

  /** Returns the length of the body. */
  #message(): number {
    const table = this.#indirect(0);
    const type = this.#scalar(table, 1);
    const header_type = type === 0 ? 0 : this.#view.getUint8(type);
    const header = this.#table(table, 2);
    this.#keyValues(table, 4);
    if (header === 0) throw new BadMessage('a message has no header');
    if (header_type === HEADER_SCHEMA) {
      this.#fields(header, 1, 0);
      this.#keyValues(header, 2);
      this.#vector(header, 3, 8);
    } else if (header_type === HEADER_DICTIONARY) {
      const data = this.#table(header, 1);
      if (data === 0) throw new BadMessage('a dictionary has no data');
      this.#recordBatch(data);
    } else if (header_type === HEADER_BATCH) this.#recordBatch(header);
    else throw new BadMessage(`a message is of unknown type ${header_type}`);
    const body = this.#scalar(table, 3);
    if (body === 0) return 0;
    const high = this.#view.getInt32(body + 4, true);
    const low = this.#view.getUint32(body, true);
    if (high !== 0) throw new BadMessage('a body is longer than the stream');
    return low;
  }

  #recordBatch(table: number): void {
    this.#vector(table, 1, STRUCT_BYTES);
    this.#vector(table, 2, STRUCT_BYTES);
    this.#table(table, 3);
    this.#vector(table, 4, 8);
  }

  #fields(table: number, slot: number, depth: number): void {
    if (depth > DEPTH_MAX) throw new BadMessage('the schema is nested too deep');
    const vector = this.#vector(table, slot, 4);
    if (vector === 0) return;
    const length = this.#view.getUint32(vector, true);
    for (let i = 1; i <= length; i += 1) {
      const field = this.#indirect(vector + i * 4);
      this.#vector(field, 0, 1);
      const type = this.#scalar(field, 2);
      const code = type === 0 ? 0 : this.#view.getUint8(type);
      if (code === TYPE_UNION || code > TYPE_MAX)
        throw new BadMessage(`no column is of type ${code}`);
      this.#table(field, 3);
      const dictionary = this.#table(field, 4);
      if (dictionary !== 0) this.#table(dictionary, 1);
      this.#fields(field, 5, depth + 1);
      this.#keyValues(field, 6);
    }
  }

  #keyValues(table: number, slot: number): void {
    const vector = this.#vector(table, slot, 4);
    if (vector === 0) return;
    const length = this.#view.getUint32(vector, true);
    for (let i = 1; i <= length; i += 1) {
      const pair = this.#indirect(vector + i * 4);
      this.#vector(pair, 0, 1);
      this.#vector(pair, 1, 1);
    }
  }

  /** Where a field of a table stands, 0 if it is absent. */
  #scalar(table: number, slot: number): number {
    const vtable = table - this.#view.getInt32(table, true);
    const entry = 4 + slot * 2;
    if (entry + 2 > this.#view.getUint16(vtable, true)) return 0;
    const offset = this.#view.getUint16(vtable + entry, true);
    return offset === 0 ? 0 : table + offset;
  }

  #table(table: number, slot: number): number {
    const at = this.#scalar(table, slot);
    return at === 0 ? 0 : this.#indirect(at);
  }

  /** Follows an offset to a table, and makes sure that the table has a vtable. */
  #indirect(at: number): number {
    this.#steps += 1;
    if (this.#steps > STEPS_MAX) throw new BadMessage('the messages have too many tables');
    const table = at + this.#view.getUint32(at, true);
    const vtable = table - this.#view.getInt32(table, true);
    const bytes = this.#view.getUint16(vtable, true);
    if (bytes < 4 || vtable + bytes > this.#view.byteLength) throw new BadMessage('a table is cut');
    return table;
  }

  /** A vector whose elements all lie within the message; 0 if it is absent. */
  #vector(table: number, slot: number, element_bytes: number): number {
    const at = this.#scalar(table, slot);
    if (at === 0) return 0;
    const vector = at + this.#view.getUint32(at, true);
    const length = this.#view.getUint32(vector, true);
    if (vector + 4 + length * element_bytes > this.#view.byteLength) {
      throw new BadMessage('a list is longer than its message');
    }
    if (element_bytes > 1) this.#steps += length;
    if (this.#steps > STEPS_MAX) throw new BadMessage('the messages have too many tables');
    return vector;
  }
}
