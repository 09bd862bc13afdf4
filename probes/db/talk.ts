// What the reader of one database's protocol tells of a connection, and what it is asked.

/** A command, and what came of it. */
export interface Command {
  operation: string;
  /** Empty: none. */
  error: string;
  /** Of the first byte of the command. */
  readonly begin_ns: number;
  /** Of the first byte of the answer; not a number: there was none. */
  first_ns: number;
  /** Of the last byte of the answer. */
  last_ns: number;
  bytes_request: number;
  bytes_response: number;
}

export function newCommand(operation: string, begin_ns: number, bytes_request: number): Command {
  return {
    ...{ operation, error: '', begin_ns, bytes_request, bytes_response: 0 },
    ...{ first_ns: Number.NaN, last_ns: Number.NaN },
  };
}

/** Bytes of an answer that begin and end at these times. */
export function addAnswer(to: Command, from_ns: number, to_ns: number, bytes: number): void {
  if (Number.isNaN(to.first_ns)) to.first_ns = from_ns;
  to.last_ns = to_ns;
  to.bytes_response += bytes;
}

export interface TalkSink {
  /** The command is whole: counted. */
  done(command: Command): void;
  note(what: string, count: number): void;
}

/**
 * How it goes on. `lost`: these are no bytes that may stand here; `over`: what follows is not for this reader, being
 * encrypted, or no commands and answers.
 */
export type Understood = 'ok' | 'lost' | 'over';

/** The reader of one connection. Bytes of each side come in order, cut anywhere, and none is missing. */
export interface Talk {
  asked(bytes: Uint8Array, time_ns: number): Understood;
  answered(bytes: Uint8Array, time_ns: number): Understood;
  /** `count` bytes of a side are not here. `ok`: they are all of one value, and nothing in them is asked for. */
  missed(request: boolean, count: number, time_ns: number): Understood;
  /** So many of the next bytes of a side may be missing. */
  skippable(request: boolean): number;
  /** Things that are waited for: what the reader's memory grows by. */
  readonly waiting: number;
  /** Both sides stand between messages, and every command has its answer. */
  readonly settled: boolean;
  /** Whether these bytes may be the first of a command on a connection that is not new. */
  mayBegin(bytes: Uint8Array): boolean;
  /** Begins anew with a connection that is not new. */
  restart(): void;
  /** Nothing more will come: takes what waits for an answer. */
  takeWaiting(): readonly Command[];
}

/** What cuts the bytes of one side into messages. */
interface Scanner {
  /** It stands between messages. */
  readonly complete: boolean;
  readonly malformed: boolean;
  /** Takes bytes from `at` on, to the end of a message at most; gives where it stopped. */
  feed(bytes: Uint8Array, at: number): number;
  /** So many of the next bytes are not asked for: all of one value. */
  readonly skippable: number;
  /** Passes over no more of them than that, which are not here. */
  skip(count: number): void;
}

/** Feeds all bytes: `begins` is called before each message, `ends` behind each that is whole; what it says but `ok` ends it. */
export function eachMessage(
  scanner: Scanner,
  bytes: Uint8Array,
  begins: () => void,
  ends: () => Understood,
): Understood {
  let at = 0;
  while (at < bytes.length) {
    if (scanner.complete) begins();
    at = scanner.feed(bytes, at);
    if (scanner.malformed) return 'lost';
    if (!scanner.complete) break;
    const understood = ends();
    if (understood !== 'ok') return understood;
  }
  return 'ok';
}

/** Bytes that are not here: `ends` is called if a message is whole with them. */
export function missedBytes(scanner: Scanner, count: number, ends: () => Understood): Understood {
  if (count > scanner.skippable) return 'lost';
  scanner.skip(count);
  return scanner.complete ? ends() : 'ok';
}
