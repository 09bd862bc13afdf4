// A connection to Redis: commands, each with the answer that is its own. Answers come in the order of the commands; what
// comes between them (messages of channels, invalidations) is told apart by its type, or by what was subscribed to.

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
import { RespScanner, TYPE } from './resp.ts';

const ASTERISK = TYPE.array;
const PUSH = TYPE.push;
const OTHER = '<other>';
const MESSAGES = new Set(['message', 'pmessage', 'smessage']);
const CONFIRMS = new Map(
  ['subscribe', 'psubscribe', 'ssubscribe', 'unsubscribe', 'punsubscribe', 'sunsubscribe'].map(
    (kind) => [kind, kind.toUpperCase()] as const,
  ),
);
const SUBSCRIBES = new Set(CONFIRMS.values());
/** What follows these is a stream of another kind. */
const REPLICATES = new Set(['SYNC', 'PSYNC']);
/** With what a line may begin that is a command; CR and LF: an empty one. */
const INLINE = /^[\r\n "'A-Za-z]/;
const NAMES_MAX = 1024;

interface Asked extends Command {
  /** Of a subscription: confirmations that are still to come. */
  left: number;
}

/** Names as clients write them → as rows show them; all connections have the same. */
const names = new Map<string, string>();

function nameOf(text: string): string {
  const known = names.get(text);
  if (known !== undefined) return known;
  if (names.size >= NAMES_MAX) names.clear();
  const name = text.toUpperCase();
  names.set(text, name);
  return name;
}

export class RedisTalk implements Talk {
  readonly #sink: TalkSink;
  readonly #commands = new RespScanner(true);
  readonly #answers = new RespScanner(false);
  readonly #waiting = new Fifo<Asked>();
  #command_ns = 0;
  #answer_ns = 0;
  /** CLIENT REPLY: off, or for the next command. */
  #silent = false;
  #skips_next = false;
  /** Messages of channels come as arrays: a version 2 connection that subscribed. */
  #subscribed = false;

  constructor(sink: TalkSink) {
    this.#sink = sink;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get settled(): boolean {
    return this.#waiting.length === 0 && this.#commands.complete && this.#answers.complete;
  }

  /** A line could be anything. */
  mayBegin(bytes: Uint8Array): boolean {
    return bytes[0] === ASTERISK;
  }

  restart(): void {
    this.#commands.restart();
    this.#answers.restart();
    this.#waiting.take();
    this.#silent = false;
    this.#skips_next = false;
    this.#subscribed = false;
  }

  takeWaiting(): readonly Command[] {
    return this.#waiting.take();
  }

  asked(bytes: Uint8Array, time_ns: number): Understood {
    const scanner = this.#commands;
    let at = 0;
    while (at < bytes.length) {
      if (scanner.complete) {
        this.#command_ns = time_ns;
        if (bytes[at] !== ASTERISK && !INLINE.test(String.fromCharCode(bytes[at]!))) return 'lost';
      }
      at = scanner.feed(bytes, at);
      if (scanner.malformed) return 'lost';
      if (scanner.complete && !this.#command(scanner)) return 'over';
    }
    return 'ok';
  }

  answered(bytes: Uint8Array, time_ns: number): Understood {
    const scanner = this.#answers;
    const begins = () => {
      this.#answer_ns = time_ns;
    };
    return eachMessage(scanner, bytes, begins, () => this.#answer(scanner, time_ns));
  }

  skippable(request: boolean): number {
    return (request ? this.#commands : this.#answers).skippable;
  }

  missed(request: boolean, count: number, time_ns: number): Understood {
    const commands = this.#commands;
    const answers = this.#answers;
    if (request)
      return missedBytes(commands, count, () => (this.#command(commands) ? 'ok' : 'over'));
    return missedBytes(answers, count, () => this.#answer(answers, time_ns));
  }

  /** False: what follows is not for us. */
  #command(scanner: RespScanner): boolean {
    const words = scanner.type === TYPE.inline ? scanner.line().trim().split(/\s+/) : undefined;
    const count = words === undefined ? scanner.elements : words.length;
    const word = words?.[0] ?? scanner.word(0);
    if (count < 1 || (words !== undefined && word === '')) return true; // nothing was asked
    const name = words === undefined && scanner.isCut(0) ? OTHER : nameOf(word);
    const command: Asked = {
      ...newCommand(name, this.#command_ns, scanner.length),
      left: SUBSCRIBES.has(name) ? Math.max(1, count - 1) : 0,
    };
    if (name === 'RESET') this.#forgetModes();
    if (REPLICATES.has(name)) {
      this.#sink.done(command);
      return false;
    }
    if (this.#isSilent(name, count, words ?? scanner)) this.#sink.done(command);
    else this.#waiting.push(command);
    return true;
  }

  #forgetModes(): void {
    this.#silent = false;
    this.#skips_next = false;
    this.#subscribed = false;
  }

  /** Whether no answer comes: what CLIENT REPLY said, or says now. */
  #isSilent(name: string, count: number, words: readonly string[] | RespScanner): boolean {
    const skipped = this.#skips_next;
    this.#skips_next = false;
    if (name !== 'CLIENT' || count !== 3) return this.#silent || skipped;
    const word = (i: number): string =>
      (words instanceof RespScanner ? words.word(i) : (words[i] ?? '')).toUpperCase();
    if (word(1) !== 'REPLY') return this.#silent || skipped;
    switch (word(2)) {
      case 'ON':
        this.#silent = false;
        return false;
      case 'OFF':
        this.#silent = true;
        return true;
      case 'SKIP':
        this.#skips_next = !this.#silent;
        return true;
      default:
        return this.#silent || skipped;
    }
  }

  #answer(scanner: RespScanner, time_ns: number): Understood {
    const { type } = scanner;
    if (type === PUSH || (type === ASTERISK && scanner.elements >= 3)) {
      const kind = scanner.word(0);
      if (type === ASTERISK && this.#subscribed && MESSAGES.has(kind)) return 'ok';
      if (this.#isConfirmation(type, kind)) {
        this.#confirmed(scanner, kind, time_ns);
        return 'ok';
      }
      if (type === PUSH) return 'ok';
    }
    const command = this.#waiting.shift();
    if (command === undefined) {
      if (type !== TYPE.error) return 'lost';
      this.#sink.note('db_errors_unasked', 1); // such as: too many clients
      return 'ok';
    }
    addAnswer(command, this.#answer_ns, time_ns, scanner.length);
    if (type === TYPE.error) command.error = firstWord(scanner.line());
    else if (type === TYPE.bulk_error) command.error = firstWord(scanner.word(0));
    this.#sink.done(command);
    return command.operation === 'MONITOR' && command.error === '' ? 'over' : 'ok';
  }

  #isConfirmation(type: number, kind: string): boolean {
    const name = CONFIRMS.get(kind);
    if (name === undefined) return false;
    return type === PUSH || this.#subscribed || this.#waiting.head?.operation === name;
  }

  /** One for each channel; those that nobody waits for are of a command that named none. */
  #confirmed(scanner: RespScanner, kind: string, time_ns: number): void {
    if (scanner.type !== PUSH) this.#subscribed = scanner.integer > 0;
    const { head } = this.#waiting;
    if (head === undefined || head.operation !== CONFIRMS.get(kind)) return;
    addAnswer(head, this.#answer_ns, time_ns, scanner.length);
    head.left -= 1;
    if (head.left > 0) return;
    this.#waiting.shift();
    this.#sink.done(head);
  }
}

function firstWord(text: string): string {
  const word = /^[^\s]*/.exec(text)?.[0] ?? '';
  return word === '' || word.length > 32 ? OTHER : word.toUpperCase();
}
