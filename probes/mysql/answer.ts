// The answer to one command, packet by packet: which is its last, as the form of the command and the answer itself say.

import type { Form } from './commands.ts';
import { countAt, numberLength, type PacketScanner, statusOfOk } from './packets.ts';

/** First bytes of packets. */
export const OK = 0;
const MORE_AUTH = 1;
const FILE = 0xfb;
const EOF = 0xfe;
export const ERROR = 0xff;
const EOF_LENGTH = 5;
/** From this length on, what begins like EOF is a row. */
const ROW_LENGTH = 0xff_ffff;
/** Of the server's status. */
const MORE_RESULTS = 8;
const CURSOR = 64;
const COLUMNS_MAX = 4096;

/** What all answers of a connection share. */
export interface Server {
  /** Whether EOF stands behind definitions for a prepared statement; undefined: not known yet. */
  sends_eof: boolean | undefined;
}

/**
 * `perhaps_last`: the last, unless EOF comes next. `file`: the client is to send one; the answer goes on when it has. `lost`:
 * no such packet may stand here.
 */
export type Taken = 'more' | 'last' | 'perhaps_last' | 'file' | 'lost';

type Step = Form | 'columns' | 'behind_columns' | 'definitions';

export class Answer {
  /** Of a statement that is prepared, its number. */
  statement: number | undefined;
  readonly #server: Server;
  #step: Step;
  /** Definitions that are to come; and of those of a prepared statement, in its second part. */
  #left = 0;
  #then = 0;

  constructor(form: Form, server: Server) {
    this.#step = form;
    this.#server = server;
  }

  get logs_in(): boolean {
    return this.#step === 'login';
  }

  take(packet: PacketScanner): Taken {
    const { first } = packet;
    if (first < 0) return 'lost';
    if (first === ERROR) return 'last';
    switch (this.#step) {
      case 'one':
        return 'last';
      case 'login':
        if (first === EOF || first === MORE_AUTH) return 'more';
        return first === OK ? 'last' : 'lost';
      case 'prepared':
        return this.#prepared(packet);
      case 'definitions':
        return this.#definition(packet);
      case 'columns':
        this.#left -= 1;
        if (this.#left === 0) this.#step = 'behind_columns';
        return first === EOF ? 'lost' : 'more';
      case 'behind_columns':
        return this.#behindColumns(packet);
      case 'rows':
        return this.#row(packet);
      default:
        return this.#result(packet);
    }
  }

  #result({ first, body, payload_length }: PacketScanner): Taken {
    if (first === OK) return this.#ends(statusOfOk(body));
    if (first === FILE) return 'file';
    const columns = countAt(body);
    // Behind the count: whether definitions follow, where both ends know that.
    const behind = payload_length - numberLength(first);
    if (columns < 1 || columns > COLUMNS_MAX || behind > 1) return 'lost';
    this.#left = behind === 1 && body[payload_length - 1] === 0 ? 0 : columns;
    this.#step = this.#left === 0 ? 'behind_columns' : 'columns';
    return 'more';
  }

  #behindColumns(packet: PacketScanner): Taken {
    this.#step = 'rows';
    if (!isEof(packet)) return this.#row(packet);
    if ((packet.body.readUInt16LE(3) & CURSOR) === 0) return 'more';
    return 'last'; // rows are fetched
  }

  #row(packet: PacketScanner): Taken {
    if (packet.first !== EOF || packet.payload_length >= ROW_LENGTH) return 'more';
    return this.#ends(isEof(packet) ? packet.body.readUInt16LE(3) : statusOfOk(packet.body));
  }

  #ends(status: number): Taken {
    if ((status & MORE_RESULTS) === 0) return 'last';
    this.#step = 'results';
    return 'more';
  }

  #prepared({ first, body }: PacketScanner): Taken {
    if (first !== OK || body.length < 9) return 'lost';
    this.statement = body.readUInt32LE(1);
    // No definitions follow, where both ends know that.
    const none = body.length > 12 && body[12] === 0;
    const columns = none ? 0 : body.readUInt16LE(5);
    const parameters = none ? 0 : body.readUInt16LE(7);
    this.#step = 'definitions';
    this.#left = parameters === 0 ? columns : parameters;
    this.#then = parameters === 0 ? 0 : columns;
    return this.#left === 0 ? 'last' : 'more';
  }

  /** Those of parameters, those of columns, and an EOF behind each. */
  #definition(packet: PacketScanner): Taken {
    const server = this.#server;
    if (isEof(packet)) {
      if (this.#left > 0) return 'lost';
      server.sends_eof = true;
      return this.#part() ? 'more' : 'last';
    }
    if (this.#left === 0) {
      if (!this.#part()) return 'lost';
      server.sends_eof = false;
    }
    this.#left -= 1;
    if (this.#left > 0 || this.#then > 0 || server.sends_eof === true) return 'more';
    return server.sends_eof === undefined ? 'perhaps_last' : 'last';
  }

  /** False: there is no second one. */
  #part(): boolean {
    this.#left = this.#then;
    this.#then = 0;
    return this.#left > 0;
  }
}

export function isEof({ first, payload_length }: PacketScanner): boolean {
  return first === EOF && payload_length === EOF_LENGTH;
}
