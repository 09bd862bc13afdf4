// Reads the frames of HTTP/2 (RFC 9113) out of one direction of a connection, in whatever pieces the bytes come, also where
// the payloads that nobody needs are left out: `take` and `pass` are for that, `feed` is for whole streams.
//
// A reader knows where the next frame begins, or it is `lost` and says so; it never searches in the middle of bytes. What
// begins at a place that the caller knows to be a frame's head may be given after `resync`.

export const FRAME_HEAD = 9;
/** What a client sends first. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
/** Payload of one frame that is read; the same as in http2.bpf.h. */
export const WANT_MAX = 16384;
/** A header block, over all its frames. */
const BLOCK_MAX = 64 << 10;
const BLOCK_FIRST = 1024;
const NOTHING = Buffer.alloc(0);

export const frame_type = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;
const T = frame_type;

const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const PADDED = 8;
const PRIORITY = 32;

/** Where a reader's findings go. */
export interface FrameSink {
  /** A whole header block of HEADERS, or of a promised stream; undefined: it was too long, or a part is missing. */
  headers(stream: number, block: Uint8Array | undefined, end_stream: boolean): void;
  promise(stream: number, promised: number, block: Uint8Array | undefined): void;
  /** Bytes of a body, padding left out; `end_stream` with the last of them. */
  data(stream: number, bytes: number, end_stream: boolean): void;
  reset(stream: number, code: number): void;
  /** The sender is the client, and the connection begins here. */
  preface?(): void;
  settings?(id: number, value: number): void;
  goaway?(last_stream: number, code: number): void;
  /** Frames, and header blocks among them, may be missed from here on. */
  lost(why: string): void;
}

/** `start`: the preface, or the head of the first frame. */
export type FrameState = 'start' | 'preface' | 'head' | 'payload' | 'lost';

export class FrameReader {
  readonly #sink: FrameSink;
  #state: FrameState;
  readonly #head = Buffer.alloc(PREFACE.length);
  #have = 0;
  /** Of the frame in hand. */
  #type = 0;
  #flags = 0;
  #stream = 0;
  /** Payload bytes to come that are read, and after them those that are passed over. */
  #want = 0;
  #skip = 0;
  #payload = NOTHING;
  #payload_length = 0;
  /** Of the DATA frame in hand: bytes of the body that are still to come; the rest of `#skip` is padding. */
  #body_left = 0;
  /** The header block that CONTINUATION goes on with; 0: none is open. */
  #block_stream = 0;
  #block_promised = 0;
  #block_ends_stream = false;
  #block_broken = false;
  frames = 0;

  constructor(sink: FrameSink, state: Exclude<FrameState, 'payload'>) {
    this.#sink = sink;
    this.#state = state;
  }

  get state(): FrameState {
    return this.#state;
  }

  /** Bytes that come next and are not looked at: the caller may `pass` over them. */
  get skip(): number {
    return this.#skip;
  }

  /** The next bytes of this direction, all of them. They are not kept. */
  feed(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && this.#state !== 'lost') {
      at = this.take(bytes, at);
      const skip = Math.min(this.#skip, bytes.length - at);
      if (skip > 0) this.pass(skip);
      at += skip;
    }
  }

  /** Reads from `at` on until bytes come that may be passed over, or none are left: where it stopped. */
  take(bytes: Uint8Array, at: number): number {
    let from = at;
    while (from < bytes.length && this.#skip === 0) {
      if (this.#state === 'lost') return bytes.length;
      if (this.#state === 'payload') from = this.#takePayload(bytes, from);
      else from = this.#takeHead(bytes, from);
    }
    return from;
  }

  /** `count` bytes of the stream are not given. Only those of `skip` can be missed without harm. */
  pass(count: number): void {
    if (this.#state === 'lost' || count <= 0) return;
    if (this.#want > 0 || count > this.#skip) {
      this.lose('bytes are missing');
      return;
    }
    this.#skip -= count;
    if (this.#type === T.DATA) {
      const body = Math.min(count, this.#body_left);
      this.#body_left -= body;
      const ends = this.#skip === 0 && (this.#flags & END_STREAM) !== 0;
      if (body > 0 || ends) this.#sink.data(this.#stream, body, ends);
    }
    if (this.#skip === 0) this.#endFrame();
  }

  lose(why: string): void {
    if (this.#state === 'lost') return;
    this.#state = 'lost';
    this.#clear();
    this.#sink.lost(why);
  }

  /** The next bytes begin with the head of a frame. */
  resync(): void {
    this.#clear();
    this.#state = 'head';
  }

  #clear(): void {
    this.#have = 0;
    this.#want = 0;
    this.#skip = 0;
    this.#payload_length = 0;
    this.#block_stream = 0;
    this.#block_broken = false;
  }

  #takeHead(bytes: Uint8Array, at: number): number {
    const whole = this.#state === 'preface' ? PREFACE.length : FRAME_HEAD;
    const count = Math.min(whole - this.#have, bytes.length - at);
    this.#head.set(bytes.subarray(at, at + count), this.#have);
    this.#have += count;
    if (this.#have < whole) return at + count;
    if (this.#state === 'start') {
      this.#state = PREFACE.subarray(0, FRAME_HEAD).equals(this.#head.subarray(0, FRAME_HEAD))
        ? 'preface'
        : 'head';
      if (this.#state === 'preface') return at + count; // the rest of it follows
    }
    this.#have = 0;
    if (this.#state === 'head') this.#beginFrame();
    else if (PREFACE.equals(this.#head)) {
      this.#state = 'head';
      this.#sink.preface?.();
    } else this.lose('no preface');
    return at + count;
  }

  #beginFrame(): void {
    const head = this.#head;
    const length = head.readUIntBE(0, 3);
    this.#type = head[3]!;
    this.#flags = head[4]!;
    this.#stream = head.readUInt32BE(5) & 0x7fffffff;
    const why = this.#wrong(length);
    if (why !== '') {
      this.lose(why);
      return;
    }
    this.frames += 1;
    this.#want = wantOf(this.#type, this.#flags, length);
    this.#skip = 0;
    this.#rest = length - this.#want;
    this.#body_left = this.#type === T.DATA ? length : 0;
    if (this.#type !== T.CONTINUATION) this.#payload_length = 0;
    this.#state = 'payload';
    if (this.#want === 0) this.#payloadTaken();
  }

  /** Bytes of the payload behind those that are read. */
  #rest = 0;

  /** Why these peers would refuse such a frame; '': they would not. */
  #wrong(length: number): string {
    const type = this.#type;
    const in_block = this.#block_stream !== 0;
    if (in_block !== (type === T.CONTINUATION)) return 'a header block is not continued';
    if (in_block && this.#stream !== this.#block_stream) return 'a block goes on elsewhere';
    if (!isFrame(type, this.#flags, length, this.#stream)) return 'a frame of the wrong form';
    return '';
  }

  #takePayload(bytes: Uint8Array, at: number): number {
    const count = Math.min(this.#want, bytes.length - at);
    this.#keep(bytes, at, count);
    this.#want -= count;
    if (this.#want === 0) this.#payloadTaken();
    return at + count;
  }

  #keep(bytes: Uint8Array, at: number, count: number): void {
    const length = this.#payload_length + count;
    if (length > BLOCK_MAX) {
      this.#block_broken = true;
      return;
    }
    if (length > this.#payload.length) {
      const larger = Buffer.alloc(Math.min(BLOCK_MAX, Math.max(length, 2 * this.#payload.length)));
      larger.set(this.#payload.subarray(0, this.#payload_length));
      this.#payload = larger;
    }
    this.#payload.set(bytes.subarray(at, at + count), this.#payload_length);
    this.#payload_length = length;
  }

  #payloadTaken(): void {
    this.#skip = this.#rest;
    this.#rest = 0;
    const type = this.#type;
    if (type === T.DATA) this.#takeData();
    else if (type === T.HEADERS || type === T.PUSH_PROMISE) this.#beginBlock();
    else if (type === T.CONTINUATION) this.#block_broken ||= this.#skip > 0;
    else if (type === T.RST_STREAM) this.#sink.reset(this.#stream, this.#payload.readUInt32BE(0));
    else if (type === T.SETTINGS) this.#takeSettings();
    else if (type === T.GOAWAY) {
      this.#sink.goaway?.(
        this.#payload.readUInt32BE(0) & 0x7fffffff,
        this.#payload.readUInt32BE(4),
      );
    }
    if (this.#skip === 0 && this.#state === 'payload') this.#endFrame();
  }

  #takeData(): void {
    const padded = (this.#flags & PADDED) !== 0;
    const padding = padded ? this.#payload[0]! + 1 : 0;
    if (padding > this.#body_left) {
      this.lose('more padding than payload');
      return;
    }
    this.#body_left -= padding;
    if (this.#skip === 0 && (this.#flags & END_STREAM) !== 0)
      this.#sink.data(this.#stream, 0, true);
  }

  #takeSettings(): void {
    if ((this.#flags & ACK) !== 0) return;
    for (let at = 0; at + 6 <= this.#payload_length; at += 6) {
      this.#sink.settings?.(this.#payload.readUInt16BE(at), this.#payload.readUInt32BE(at + 2));
    }
  }

  /** Leaves the fragment of the block alone in `#payload`, for CONTINUATION to add to. */
  #beginBlock(): void {
    let from = 0;
    let to = this.#payload_length;
    if ((this.#flags & PADDED) !== 0) {
      to -= this.#payload[0] ?? 0;
      from += 1;
    }
    this.#block_promised = 0;
    if (this.#type === T.PUSH_PROMISE) {
      this.#block_promised = from + 4 <= to ? this.#payload.readUInt32BE(from) & 0x7fffffff : 0;
      from += 4;
    } else if ((this.#flags & PRIORITY) !== 0) from += 5;
    this.#block_broken = this.#skip > 0; // its end is not read
    if (from > to) {
      this.lose('more padding than payload');
      return;
    }
    this.#payload.copyWithin(0, from, to);
    this.#payload_length = to - from;
    this.#block_stream = this.#stream;
    this.#block_ends_stream = this.#type === T.HEADERS && (this.#flags & END_STREAM) !== 0;
  }

  #endFrame(): void {
    this.#state = 'head';
    const ends = (this.#flags & END_HEADERS) !== 0;
    if (this.#block_stream === 0 || !ends) return;
    const stream = this.#block_stream;
    const block = this.#block_broken ? undefined : this.#payload.subarray(0, this.#payload_length);
    this.#block_stream = 0;
    this.#block_broken = false;
    if (this.#block_promised !== 0) this.#sink.promise(stream, this.#block_promised, block);
    else this.#sink.headers(stream, block, this.#block_ends_stream);
    if (this.#payload.length > 8 * BLOCK_FIRST) this.#payload = NOTHING;
  }
}

/** Payload bytes of a frame that are read: the first ones. The kernel side goes by the same rule (http2.bpf.h). */
export function wantOf(type: number, flags: number, length: number): number {
  if (type === T.DATA) return (flags & PADDED) !== 0 && length > 0 ? 1 : 0;
  if (type === T.GOAWAY) return Math.min(length, 8);
  const read =
    type === T.HEADERS ||
    type === T.CONTINUATION ||
    type === T.PUSH_PROMISE ||
    type === T.SETTINGS ||
    type === T.RST_STREAM;
  return read ? Math.min(length, WANT_MAX) : 0;
}

/** False: no peer sends a frame of this form. Types beyond those of the standard are extensions, and pass. */
function isFrame(type: number, flags: number, length: number, stream: number): boolean {
  switch (type) {
    case T.DATA:
    case T.HEADERS:
    case T.CONTINUATION:
      return stream !== 0 && ((flags & PADDED) === 0 || type === T.CONTINUATION || length > 0);
    case T.PRIORITY:
      return stream !== 0 && length === 5;
    case T.RST_STREAM:
      return stream !== 0 && length === 4;
    case T.SETTINGS:
      return stream === 0 && length % 6 === 0 && ((flags & ACK) === 0 || length === 0);
    case T.PUSH_PROMISE:
      return stream !== 0 && length >= 4;
    case T.PING:
      return stream === 0 && length === 8;
    case T.GOAWAY:
      return stream === 0 && length >= 8;
    case T.WINDOW_UPDATE:
      return length === 4;
    default:
      return true;
  }
}

/** Longer ones must be agreed upon, which hardly anybody does. */
const LENGTH_DEFAULT = 16384;
/** Frames of a piece that are looked at. */
const CHAIN_MAX = 8;

/**
 * True where these bytes begin with frames beyond reasonable doubt: how a reader that is lost finds the next head. The first
 * frame is of a standard type and form, and so are those behind it, up to the end of the bytes or CHAIN_MAX; one frame alone
 * must end just where the bytes end.
 */
export function startsWithFrames(bytes: Uint8Array): boolean {
  let at = 0;
  for (let n = 0; n < CHAIN_MAX && at < bytes.length; n += 1) {
    if (bytes.length - at < FRAME_HEAD) return n >= 2;
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    const type = bytes[at + 3]!;
    const stream = ((bytes[at + 5]! << 24) | (bytes[at + 6]! << 16)) >>> 0;
    const id = stream + ((bytes[at + 7]! << 8) | bytes[at + 8]!);
    if (length > LENGTH_DEFAULT || type > T.CONTINUATION || id > 0x7fffffff) return false;
    if (n === 0 && type === T.CONTINUATION) return false;
    if ((bytes[at + 4]! & ~FLAGS[type]!) !== 0) return false;
    if (!isFrame(type, bytes[at + 4]!, length, id)) return false;
    at += FRAME_HEAD + length;
    if (at > bytes.length) return n >= 1;
  }
  return at > 0;
}

/** The flags that each type of frame has. */
const FLAGS: readonly number[] = [
  END_STREAM | PADDED,
  END_STREAM | END_HEADERS | PADDED | PRIORITY,
  0,
  0,
  ACK,
  END_HEADERS | PADDED,
  ACK,
  0,
  0,
  END_HEADERS,
];
