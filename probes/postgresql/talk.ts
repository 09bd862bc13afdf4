// A connection to PostgreSQL: what each message of the client asks for, and which answers of the server are its own. Counted
// is each statement that the server ran or refused: those of a simple query one by one, each Execute of the extended one, and
// what failed before it came to that.

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
import { isFatal, keywordOf, MessageScanner, sqlstateOf, tagOf, textAt } from './messages.ts';

const FRONTEND = 'QPBDCESHFdcfpX';
const BACKEND = '123CDENASTtnIsZGHWdcRKVv';
const FIRST = new Set(Buffer.from('QPBE'));
const VERSION_3 = 3;
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const STATEMENTS_MAX = 1024;
const LENGTH_AT = 1;
const FIRST_LENGTH_MAX = 1 << 24;

interface Expected {
  /** Type of the client's message; `startup`: all before the first query. */
  readonly kind: string;
  /** Of Q and F the statement that is answered now, behind an error none; else that of which the message is a part; of S none. */
  command: Command | undefined;
}

export class PostgresqlTalk implements Talk {
  readonly #sink: TalkSink;
  readonly #asks = new MessageScanner(FRONTEND, 'QPBDE', 'startup');
  readonly #answers = new MessageScanner(BACKEND, 'CE', 'messages');
  readonly #expected = new Fifo<Expected>();
  /** First words of statements and portals, by name. */
  readonly #statements = new Map<string, string>();
  readonly #portals = new Map<string, string>();
  #ask_ns = 0;
  #answer_ns = 0;
  /** Of the extended query, what is being put together; and what was before it since the last Sync. */
  #group: Command | undefined;
  #executed: Command | undefined;
  /** Answered, but for what may follow at its end. */
  #done: Command | undefined;
  /** The server takes rows for it: it ignores Sync meanwhile. */
  #copying: Command | undefined;
  /** An error is answered, and the Sync to which the server skips was not sent yet. */
  #skipping = false;

  constructor(sink: TalkSink) {
    this.#sink = sink;
  }

  get waiting(): number {
    return this.#expected.length;
  }

  get settled(): boolean {
    const { complete } = this.#asks;
    return complete && this.#answers.complete && this.#expected.length === 0 && !this.#done;
  }

  mayBegin(bytes: Uint8Array): boolean {
    if (bytes.length < 5 || !FIRST.has(bytes[0]!)) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return view.getUint32(LENGTH_AT) <= FIRST_LENGTH_MAX;
  }

  restart(): void {
    this.#asks.restart('messages');
    this.#answers.restart('messages');
    this.#expected.take();
    this.#statements.clear();
    this.#portals.clear();
    this.#group = undefined;
    this.#executed = undefined;
    this.#done = undefined;
    this.#copying = undefined;
    this.#skipping = false;
  }

  /** Those that were to be run. */
  takeWaiting(): readonly Command[] {
    const waiting = new Set<Command>();
    if (this.#done !== undefined) waiting.add(this.#done);
    for (const { kind, command } of this.#expected.take()) {
      if (command !== undefined && (kind === 'Q' || kind === 'F' || kind === 'E'))
        waiting.add(command);
    }
    this.#done = undefined;
    return [...waiting];
  }

  asked(bytes: Uint8Array, time_ns: number): Understood {
    const scanner = this.#asks;
    let at = 0;
    while (at < bytes.length) {
      if (scanner.complete) this.#ask_ns = time_ns;
      at = scanner.feed(bytes, at);
      // before the first message: TLS that is not asked for, or an older version
      if (scanner.malformed) return scanner.framing === 'startup' ? 'over' : 'lost';
      if (!scanner.complete) break;
      if (this.#said(scanner) === 'over') return 'over';
    }
    return 'ok';
  }

  answered(bytes: Uint8Array, time_ns: number): Understood {
    const scanner = this.#answers;
    const begins = () => {
      this.#answer_ns = time_ns;
      scanner.framing = this.#expected.head?.kind === 'encryption' ? 'byte' : 'messages';
    };
    return eachMessage(scanner, bytes, begins, () =>
      this.#answer(String.fromCharCode(scanner.type), time_ns),
    );
  }

  skippable(request: boolean): number {
    return (request ? this.#asks : this.#answers).skippable;
  }

  missed(request: boolean, count: number, time_ns: number): Understood {
    const asks = this.#asks;
    const answers = this.#answers;
    if (request) return missedBytes(asks, count, () => this.#said(asks));
    return missedBytes(answers, count, () =>
      this.#answer(String.fromCharCode(answers.type), time_ns),
    );
  }

  #said(scanner: MessageScanner): Understood {
    if (scanner.framing === 'startup') return this.#starts(scanner) ? 'ok' : 'over';
    this.#ask(String.fromCharCode(scanner.type), scanner);
    return 'ok';
  }

  /** False: nothing of what follows can be read. */
  #starts(scanner: MessageScanner): boolean {
    const code = scanner.body.length < 4 ? 0 : scanner.body.readUInt32BE(0);
    if (code === SSL_REQUEST || code === GSS_REQUEST) {
      this.#expect('encryption', undefined);
      return true;
    }
    if (code >>> 16 !== VERSION_3) return false; // a request to cancel has no answer
    scanner.framing = 'messages';
    this.#expect('startup', undefined);
    return true;
  }

  #expect(kind: string, command: Command | undefined): void {
    this.#expected.push({ kind, command });
  }

  #ask(type: string, scanner: MessageScanner): void {
    if (type === 'd' || type === 'c' || type === 'f') {
      if (this.#copying !== undefined) this.#copying.bytes_request += scanner.length;
      if (type !== 'd') this.#copying = undefined;
      return;
    }
    if (type === 'p' || type === 'X' || (type === 'S' && this.#copying !== undefined)) return;
    if (this.#skipping && type !== 'S') {
      if ('EQF'.includes(type)) this.#sink.note('db_commands_skipped', 1);
      return;
    }
    switch (type) {
      case 'Q':
        this.#expect('Q', newCommand(keywordOf(scanner.body, 0), this.#ask_ns, scanner.length));
        break;
      case 'F':
        this.#expect('F', newCommand('FUNCTION_CALL', this.#ask_ns, scanner.length));
        break;
      case 'S':
      case 'H':
        this.#syncs(type, scanner.length);
        break;
      default:
        this.#extends(type, scanner);
    }
  }

  #syncs(type: string, length: number): void {
    const last = this.#group ?? this.#executed;
    if (last !== undefined) last.bytes_request += length;
    if (type === 'H') return;
    this.#group = undefined;
    this.#executed = undefined;
    this.#skipping = false;
    this.#expect('S', undefined);
  }

  #extends(type: string, scanner: MessageScanner): void {
    const group = this.#group ?? newCommand('', this.#ask_ns, 0);
    this.#group = group;
    group.bytes_request += scanner.length;
    const word = this.#operation(type, scanner.body);
    if (word !== '') group.operation = word;
    this.#expect(type, group);
    if (type !== 'E') return;
    this.#executed = group;
    this.#group = undefined;
  }

  /** First word of the statement that the message is about; '': not known. */
  #operation(type: string, body: Buffer): string {
    if (type === 'P') {
      const name = textAt(body, 0);
      const word = name === undefined ? '' : keywordOf(body, name.next);
      this.#keep(this.#statements, name?.text, word);
      return word;
    }
    if (type === 'B') {
      const portal = textAt(body, 0);
      const statement = portal && textAt(body, portal.next);
      const word = (statement && this.#statements.get(statement.text)) ?? '';
      this.#keep(this.#portals, portal?.text, word);
      return word;
    }
    if (type === 'E') return this.#portals.get(textAt(body, 0)?.text ?? '') ?? '';
    if (type !== 'D') return '';
    const name = textAt(body, 1)?.text ?? '';
    return (body[0] === 0x53 ? this.#statements : this.#portals).get(name) ?? ''; // S: a statement
  }

  #keep(words: Map<string, string>, name: string | undefined, word: string): void {
    if (name === undefined) return;
    if (words.size >= STATEMENTS_MAX && !words.has(name)) {
      words.clear();
      this.#sink.note('db_statements_forgotten', 1);
    }
    words.set(name, word);
  }

  #answer(type: string, time_ns: number): Understood {
    const { head } = this.#expected;
    if (head?.kind === 'encryption') return this.#encrypts(type);
    if (type === 'N' || type === 'A' || type === 'S') {
      const to = this.#done ?? head?.command;
      if (to !== undefined) to.bytes_response += this.#answers.length;
      return 'ok';
    }
    if (this.#done !== undefined && type !== 'Z' && !(type === 'E' && head?.kind === 'S'))
      this.#finish();
    if (head === undefined) {
      if (type !== 'E') return 'lost';
      this.#sink.note('db_errors_unasked', 1); // such as: the server shuts down
      return 'ok';
    }
    if (type === 'W') return 'over'; // replication
    if (!this.#answerTo(head, type, time_ns)) return 'lost';
    if (type === 'E' && this.#done !== undefined && isFatal(this.#answers.body)) this.#dies();
    return 'ok';
  }

  /** The server closes: neither a Sync nor the end of a query is answered any more. */
  #dies(): void {
    this.#finish();
    this.#expected.remove(({ command }) => command === undefined);
  }

  #encrypts(type: string): Understood {
    if (type === 'E') return 'over'; // a server that knows no such request closes
    this.#expected.shift();
    return type === 'N' ? 'ok' : 'over';
  }

  /** False: it is no answer to that. */
  #answerTo(head: Expected, type: string, time_ns: number): boolean {
    switch (head.kind) {
      case 'startup':
        if (type === 'Z') this.#expected.shift();
        return 'RKvEZ'.includes(type);
      case 'S':
        return this.#synced(type);
      case 'Q':
      case 'F':
        return this.#answerToQuery(head, type, time_ns);
      case 'E':
        return this.#answerToExecute(head, type, time_ns);
      default:
        return this.#answerToPart(head, type, time_ns);
    }
  }

  /** An error here is that of the transaction's end, which the last statement brought. */
  #synced(type: string): boolean {
    if (type === 'E') {
      if (this.#done !== undefined) {
        this.#done.error = sqlstateOf(this.#answers.body);
        this.#done.bytes_response += this.#answers.length;
      } else this.#sink.note('db_errors_unasked', 1);
      return true;
    }
    if (type !== 'Z') return false;
    this.#ready();
    return true;
  }

  #ready(): void {
    this.#expected.shift();
    if (this.#done === undefined) return;
    addAnswer(this.#done, this.#answer_ns, this.#answer_ns, this.#answers.length);
    this.#finish();
  }

  #answerToQuery(head: Expected, type: string, time_ns: number): boolean {
    const { command } = head;
    if (type === 'Z') {
      this.#ready();
      return true;
    }
    if (command === undefined) {
      if (type === 'E') this.#sink.note('db_errors_unasked', 1);
      return type === 'E';
    }
    if (!'TDdcHGCIEV'.includes(type)) return false;
    addAnswer(command, this.#answer_ns, time_ns, this.#answers.length);
    if (type === 'G') this.#copying = command;
    if (!'CIEV'.includes(type)) return true;
    this.#ends(command, type);
    // Perhaps the query has another statement, but for an error, which ends it.
    head.command = type === 'E' ? undefined : newCommand('', command.begin_ns, 0);
    return true;
  }

  #answerToExecute(head: Expected, type: string, time_ns: number): boolean {
    const command = head.command!;
    if (!'TDdcHGCIEs'.includes(type)) return false;
    addAnswer(command, this.#answer_ns, time_ns, this.#answers.length);
    if (type === 'G') {
      this.#copying = command;
      this.#expected.remove(({ kind }) => kind === 'S');
    }
    if (type === 'E') this.#fails(command);
    else if ('CIs'.includes(type)) {
      this.#expected.shift();
      this.#ends(command, type);
    }
    return true;
  }

  #answerToPart(head: Expected, type: string, time_ns: number): boolean {
    const command = head.command!;
    const { kind } = head;
    const last = { P: '1', B: '2', C: '3', D: 'Tn' }[kind] ?? '';
    if (!last.includes(type) && type !== 'E' && !(kind === 'D' && type === 't')) return false;
    addAnswer(command, this.#answer_ns, time_ns, this.#answers.length);
    if (type === 'E') this.#fails(command);
    else if (type !== 't') this.#expected.shift();
    return true;
  }

  #ends(command: Command, type: string): void {
    if (type === 'C') command.operation = tagOf(this.#answers.body) || command.operation;
    if (type === 'E') command.error = sqlstateOf(this.#answers.body);
    this.#copying = undefined;
    this.#done = command;
  }

  /** The server skips what follows up to the next Sync. */
  #fails(command: Command): void {
    this.#ends(command, 'E');
    while (this.#expected.length > 0 && this.#expected.head?.kind !== 'S') {
      const skipped = this.#expected.shift()!;
      if ('EQF'.includes(skipped.kind) && skipped.command !== command)
        this.#sink.note('db_commands_skipped', 1);
    }
    this.#skipping = this.#expected.length === 0;
    if (this.#skipping) {
      this.#group = undefined;
      this.#executed = command;
    }
  }

  #finish(): void {
    const done = this.#done;
    this.#done = undefined;
    if (done !== undefined) this.#sink.done(done);
  }
}
