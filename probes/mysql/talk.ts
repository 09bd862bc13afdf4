// A connection to MySQL or MariaDB: each command of the client, and which packets of the server answer it. A client may send
// the next before the answer came; sequence numbers, which begin anew with each command, tell that both are still together.

import { Fifo } from '../db/fifo.ts';
import {
  addAnswer,
  type Command,
  eachMessage,
  missedBytes,
  newCommand,
  type Talk,
  type TalkSink,
  type Understood,
} from '../db/talk.ts';
import { Answer, ERROR, isEof, OK, type Server, type Taken } from './answer.ts';
import { kindOf, mayBegin } from './commands.ts';
import { ANSWER_KEPT, abilitiesOf, errorOf, keywordOf, PacketScanner } from './packets.ts';

/** Of a command, kept: the beginning of a statement. */
const COMMAND_KEPT = 512;
const STATEMENTS_MAX = 1024;
/** First byte of the greeting. */
const GREETING = 10;
/** Abilities. */
const COMPRESS = 1 << 5;
const PROTOCOL_41 = 1 << 9;
const SSL = 1 << 11;
const DEPRECATE_EOF = 1 << 24;
const ZSTD = 1 << 26;
/** Of a login, before the names; of this length it is a request for TLS. */
const LOGIN_HEAD = 32;
/** The number of an error that is none: it tells how far the server is. */
const PROGRESS = '65535';
/** Stands for the statement that was prepared last. */
const LAST = 0xffff_ffff;

interface Expected {
  readonly command: Command;
  readonly answer: Answer;
  /** First word of what is prepared. */
  readonly word: string;
  /** Of the last packet of either side. */
  sequence: number;
}

export class MysqlTalk implements Talk {
  readonly #sink: TalkSink;
  readonly #asks = new PacketScanner(COMMAND_KEPT);
  readonly #answers = new PacketScanner(ANSWER_KEPT);
  readonly #expected = new Fifo<Expected>();
  readonly #server: Server = { sends_eof: undefined };
  /** First words of prepared statements, by the server's number; and of the one that was last sent. */
  readonly #statements = new Map<number, string>();
  #last_word = '';
  #ask_ns = 0;
  #answer_ns = 0;
  #phase: 'greeting' | 'login' | 'commands' = 'greeting';
  /** At the beginning: of the last packet of either side; whether the client has said what it can; what both can. */
  #sequence = 255;
  #told = false;
  #abilities = 0;
  /** A statement that is prepared, but for an EOF that may follow. */
  #ending: Expected | undefined;
  /** The client sends a file for it. */
  #copying: Expected | undefined;

  constructor(sink: TalkSink) {
    this.#sink = sink;
  }

  get waiting(): number {
    return this.#expected.length;
  }

  get settled(): boolean {
    if (this.#phase !== 'commands' || this.#ending !== undefined) return false;
    return this.#asks.complete && this.#answers.complete && this.#expected.length === 0;
  }

  mayBegin(bytes: Uint8Array): boolean {
    return mayBegin(bytes);
  }

  restart(): void {
    this.#asks.restart();
    this.#answers.restart();
    this.#expected.take();
    this.#statements.clear();
    this.#last_word = '';
    this.#phase = 'commands';
    this.#server.sends_eof = undefined;
    this.#ending = undefined;
    this.#copying = undefined;
  }

  takeWaiting(): readonly Command[] {
    const waiting = this.#expected.take().map(({ command }) => command);
    if (this.#ending !== undefined) waiting.unshift(this.#ending.command);
    this.#ending = undefined;
    return waiting;
  }

  asked(bytes: Uint8Array, time_ns: number): Understood {
    const scanner = this.#asks;
    const begins = () => {
      this.#ask_ns = time_ns;
    };
    return eachMessage(scanner, bytes, begins, () => this.#ask(scanner));
  }

  answered(bytes: Uint8Array, time_ns: number): Understood {
    const scanner = this.#answers;
    const begins = () => {
      this.#answer_ns = time_ns;
    };
    return eachMessage(scanner, bytes, begins, () => this.#said(scanner, time_ns));
  }

  skippable(request: boolean): number {
    return (request ? this.#asks : this.#answers).skippable;
  }

  missed(request: boolean, count: number, time_ns: number): Understood {
    const asks = this.#asks;
    const answers = this.#answers;
    if (request) return missedBytes(asks, count, () => this.#ask(asks));
    return missedBytes(answers, count, () => this.#said(answers, time_ns));
  }

  #said(scanner: PacketScanner, time_ns: number): Understood {
    return this.#phase === 'commands' ? this.#answer(scanner, time_ns) : this.#begins(scanner);
  }

  /** The server's part of greeting and login. */
  #begins({ first, body, first_sequence, sequence }: PacketScanner): Understood {
    if (first === ERROR) return 'ok'; // refused: it ends the connection
    if (first_sequence !== follows(this.#sequence)) return 'lost';
    this.#sequence = sequence;
    if (this.#phase === 'greeting') {
      if (first !== GREETING) return 'over';
      this.#abilities = abilitiesOf(body);
      this.#phase = 'login';
      return 'ok';
    }
    if (first !== OK) return 'ok'; // more of the login
    this.#phase = 'commands';
    this.#server.sends_eof = (this.#abilities & DEPRECATE_EOF) === 0;
    return (this.#abilities & (COMPRESS | ZSTD)) === 0 ? 'ok' : 'over';
  }

  #ask(scanner: PacketScanner): Understood {
    const { sequence, length } = scanner;
    if (this.#phase !== 'commands') {
      this.#sequence = sequence;
      return this.#told ? 'ok' : this.#tells(scanner);
    }
    if (this.#copying !== undefined) {
      this.#copying.command.bytes_request += length;
      this.#copying.sequence = sequence;
      if (scanner.payload_length === 0) this.#copying = undefined;
      return 'ok';
    }
    if (scanner.first_sequence === 0) return this.#command(scanner);
    const { head } = this.#expected;
    if (head === undefined || !head.answer.logs_in) return 'lost';
    head.sequence = sequence;
    head.command.bytes_request += length;
    return 'ok';
  }

  /** What the client can: whether the rest can be read. */
  #tells({ body, payload_length }: PacketScanner): Understood {
    this.#told = true;
    const can = body.length < 4 ? 0 : body.readUInt32LE(0);
    if (payload_length < LOGIN_HEAD || (can & PROTOCOL_41) === 0) return 'over'; // before 4.1
    if ((can & SSL) !== 0 && payload_length === LOGIN_HEAD) return 'over';
    this.#abilities = this.#abilities === 0 ? can : this.#abilities & can;
    return 'ok';
  }

  #command(scanner: PacketScanner): Understood {
    const { body, length, first } = scanner;
    if (first < 0) return 'lost';
    const { name, form } = kindOf(first);
    const command = newCommand(this.#operation(name, body), this.#ask_ns, length);
    if (form === 'none' || form === 'stream') {
      this.#sink.done(command);
      return form === 'none' ? 'ok' : 'over';
    }
    const answer = new Answer(form, this.#server);
    this.#expected.push({ command, answer, word: this.#last_word, sequence: scanner.sequence });
    return 'ok';
  }

  #operation(name: string, body: Buffer): string {
    const number = body.length < 5 ? 0 : body.readUInt32LE(1);
    switch (name) {
      case 'QUERY':
        return queryOf(body);
      case 'STMT_PREPARE':
        this.#last_word = keywordOf(body, 1);
        return name;
      case 'STMT_EXECUTE':
      case 'STMT_BULK_EXECUTE':
        return (number === LAST ? this.#last_word : this.#statements.get(number)) || 'EXECUTE';
      case 'STMT_CLOSE':
        this.#statements.delete(number);
        return name;
      case 'CHANGE_USER':
      case 'RESET_CONNECTION':
        this.#statements.clear();
        return name;
      default:
        return name;
    }
  }

  #answer(scanner: PacketScanner, time_ns: number): Understood {
    if (this.#ending !== undefined && this.#endsPrepared(this.#ending, scanner, time_ns))
      return 'ok';
    const { head } = this.#expected;
    const { first, length } = scanner;
    if (head === undefined) {
      if (first !== ERROR) return 'lost';
      this.#sink.note('db_errors_unasked', 1); // such as: the connection was silent for too long
      return 'ok';
    }
    if (first !== ERROR && scanner.first_sequence !== follows(head.sequence)) return 'lost';
    head.sequence = scanner.sequence;
    if (first === ERROR && errorOf(scanner.body) === PROGRESS) {
      head.command.bytes_response += length;
      return 'ok';
    }
    addAnswer(head.command, this.#answer_ns, time_ns, length);
    if (first === ERROR) head.command.error = errorOf(scanner.body);
    return this.#took(head, head.answer.take(scanner));
  }

  #took(head: Expected, taken: Taken): Understood {
    if (taken === 'lost') return 'lost';
    if (taken === 'file') this.#copying = head;
    if (taken !== 'last' && taken !== 'perhaps_last') return 'ok';
    this.#expected.shift();
    if (this.#copying === head) this.#copying = undefined;
    const { statement } = head.answer;
    if (statement !== undefined) this.#keep(statement, head.word);
    if (taken === 'last') this.#sink.done(head.command);
    else this.#ending = head;
    return 'ok';
  }

  /** True: the packet is the EOF that may follow; else that is known to be none. */
  #endsPrepared({ command, sequence }: Expected, packet: PacketScanner, time_ns: number): boolean {
    const ends = isEof(packet) && packet.sequence === follows(sequence);
    this.#ending = undefined;
    this.#server.sends_eof = ends;
    if (ends) addAnswer(command, this.#answer_ns, time_ns, packet.length);
    this.#sink.done(command);
    return ends;
  }

  #keep(number: number, word: string): void {
    if (this.#statements.size >= STATEMENTS_MAX && !this.#statements.has(number)) {
      this.#statements.clear();
      this.#sink.note('db_statements_forgotten', 1);
    }
    this.#statements.set(number, word);
  }
}

const follows = (sequence: number): number => (sequence + 1) & 255;

/** Attributes may stand before the text: how many, in how many sets; no text begins with such bytes. */
function queryOf(body: Buffer): string {
  if (body[2] !== 1 || body[1]! >= 0x20) return keywordOf(body, 1);
  return body[1] === 0 ? keywordOf(body, 3) : '';
}
