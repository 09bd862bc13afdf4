// DNS over TCP: messages with a length before each, cut by the network into segments anywhere. Segments come with as many
// of their bytes as the kernel side copied (dns.bpf.h), perhaps again, perhaps out of order.

const PREFIX = 2;
const MESSAGE_MIN = 12;
/** Bytes of a message that are kept: what the parser looks at. The rest is only counted. */
const KEPT_MAX = 2048;
const STREAMS_MAX = 4096;
/** Segments of a stream that wait for one before them. */
const HELD_MAX = 8;

export interface Segment {
  readonly seq: number;
  /** Bytes of the payload, of which the first `captured` are known. */
  readonly length: number;
  readonly captured: number;
  /** Where these are. */
  readonly bytes: Uint8Array;
  readonly at: number;
}

/** A message, or its beginning. */
export interface Piece {
  readonly bytes: Uint8Array;
  /** The whole message's length. */
  readonly length: number;
}

interface Stream {
  /** Sequence number of the next byte. */
  next: number;
  /** Prefix and message so far; `have` counts also what was not kept. */
  readonly kept: Uint8Array;
  have: number;
  known: number;
  held: Segment[];
}

/** All streams, each direction one. Bounded: the longest idle one goes first. */
export class DnsStreams {
  readonly #streams = new Map<string, Stream>();
  /** Times that the place of the next message in a stream was lost. */
  lost = 0;

  get size(): number {
    return this.#streams.size;
  }

  /** The messages that end with this segment. */
  feed(key: string, segment: Segment): readonly Piece[] {
    const stream = this.#stream(key, segment.seq);
    const pieces: Piece[] = [];
    this.#take(stream, segment, pieces);
    while (this.#takeHeld(stream, pieces)) {
      // one more
    }
    return pieces;
  }

  #stream(key: string, seq: number): Stream {
    const known = this.#streams.get(key);
    this.#streams.delete(key);
    if (known === undefined && this.#streams.size >= STREAMS_MAX) {
      for (const oldest of this.#streams.keys()) {
        this.#streams.delete(oldest);
        break;
      }
    }
    const stream = known ?? {
      next: seq,
      kept: new Uint8Array(PREFIX + KEPT_MAX),
      have: 0,
      known: 0,
      held: [],
    };
    this.#streams.set(key, stream); // as the youngest
    return stream;
  }

  #take(stream: Stream, segment: Segment, pieces: Piece[]): void {
    const from = (stream.next - segment.seq) | 0; // numbers wrap around
    if (from >= segment.length) return; // all of it came before
    if (from < 0) {
      this.#hold(stream, segment);
      return;
    }
    let at = from;
    while (at < segment.length) {
      const taken = this.#some(stream, segment, at);
      if (taken === 0) break;
      at += taken;
      if (stream.have >= PREFIX && stream.have === wanted(stream)) pieces.push(finish(stream));
    }
    if (at < segment.length) this.#restart(stream);
    stream.next = (segment.seq + segment.length) | 0;
  }

  /** Takes bytes from `at` on, as far as the message goes; 0: where it ends cannot be known. */
  #some(stream: Stream, segment: Segment, at: number): number {
    const want = stream.have < PREFIX ? PREFIX : wanted(stream);
    if (want < PREFIX + MESSAGE_MIN && stream.have >= PREFIX) return 0; // no DNS
    const taken = Math.min(want - stream.have, segment.length - at);
    const there = Math.max(0, Math.min(taken, segment.captured - at));
    if (stream.have < PREFIX && there < taken) return 0; // the length itself is unknown
    if (stream.known === stream.have) {
      const fits = Math.min(there, stream.kept.length - stream.known);
      const from = segment.at + at;
      stream.kept.set(segment.bytes.subarray(from, from + fits), stream.known);
      stream.known += fits;
    }
    stream.have += taken;
    return taken;
  }

  #hold(stream: Stream, segment: Segment): void {
    if (stream.held.length >= HELD_MAX) {
      this.#restart(stream); // what is missing does not come
      stream.held.sort((a, b) => (a.seq - b.seq) | 0);
      stream.next = stream.held[0]!.seq;
    }
    const { at, captured } = segment;
    stream.held.push({ ...segment, bytes: segment.bytes.slice(at, at + captured), at: 0 });
  }

  /** True: one of those that waited could be taken, and others may follow. */
  #takeHeld(stream: Stream, pieces: Piece[]): boolean {
    const place = stream.held.findIndex(({ seq }) => ((stream.next - seq) | 0) >= 0);
    if (place < 0) return false;
    const [segment] = stream.held.splice(place, 1);
    this.#take(stream, segment!, pieces);
    return true;
  }

  /** The next segment is believed to begin with a message. */
  #restart(stream: Stream): void {
    this.lost += 1;
    stream.have = 0;
    stream.known = 0;
  }
}

/** Length of prefix and message. */
function wanted(stream: Stream): number {
  return PREFIX + ((stream.kept[0]! << 8) | stream.kept[1]!);
}

function finish(stream: Stream): Piece {
  const length = stream.have - PREFIX;
  const bytes = stream.kept.slice(PREFIX, stream.known);
  stream.have = 0;
  stream.known = 0;
  return { bytes, length };
}
