// Queries that wait for their answers, and those that waited in vain. Time is the kernel's own (CLOCK_MONOTONIC): a decoder
// that starts late, or reads what a predecessor left, judges by when things happened.

import type { Fault } from './message.ts';

/** Queries that wait at once; beyond, the oldest one's outcome is given up and counted. */
const WAITING_MAX = 65_536;
/** Queries that are done with and remembered, so that a second answer to them is known as such; each by two names. */
const DONE_MAX = 2 * 16_384;
const DONE_NS = 60e9;

export interface Query {
  /** Socket, identifier, side, and at a server the client: what an answer has in common. */
  readonly key: string;
  /** Name, type and class, which an answer repeats; '': none. */
  readonly question: string;
  readonly time_ns: number;
  /** Of the peer: tells apart the servers that one socket asks with one identifier. */
  readonly peer: string;
  /** The head of the query's record: ends, owner, namespace. */
  readonly head: Buffer;
  readonly client: boolean;
  readonly domain: string;
  readonly query_type: string;
  readonly bytes: number;
  readonly fault: Fault;
  /** It repeats one that had no answer yet. */
  readonly repeated: boolean;
  /** Records were lost while it waited: no answer does not mean a time-out. */
  uncertain: boolean;
}

/** What an answer says of its query. */
export type AnswerTo = Pick<Query, 'key' | 'question' | 'peer' | 'client'>;

/** What became of an answer's query: `timed_out` and `answered`, it had been done with before. A transfer's answer goes on. */
export type Match = Query | Transfer | 'timed_out' | 'answered' | 'unknown';

/** Of a zone: its answer is of any number of messages. */
export interface Transfer {
  readonly transfer: Query;
}

interface Done {
  readonly timed_out: boolean;
  until_ns: number;
  /** Undefined: it was none. */
  readonly transfer: Query | undefined;
}

const TRANSFERS = ['AXFR', 'IXFR'];

export class Pending {
  /** In the order in which they came. */
  readonly #waiting = new Set<Query>();
  readonly #by_key = new Map<string, Query[]>();
  readonly #done = new Map<string, Done>();

  get size(): number {
    return this.#waiting.size;
  }

  isWaiting(key: string, question: string): boolean {
    return this.#by_key.get(key)?.some((query) => query.question === question) ?? false;
  }

  /** The query that had to go for this one, if there were too many. */
  add(query: Query): Query | undefined {
    const crowded = this.#waiting.size >= WAITING_MAX ? this.#oldest() : undefined;
    if (crowded !== undefined) this.#remove(crowded);
    this.#waiting.add(query);
    for (const name of doneNames(query)) this.#done.delete(name);
    const same = this.#by_key.get(query.key);
    if (same === undefined) this.#by_key.set(query.key, [query]);
    else same.push(query);
    return crowded;
  }

  /**
   * The query of an answer: that of its question, or any where it repeats none (''). Of several that could be meant, a
   * server answers the oldest first; a client asks again when it believes the first one lost, so that there it is the youngest.
   */
  answer(to: AnswerTo, time_ns: number): Match {
    const { key, question, peer, client } = to;
    const waiting = this.#by_key.get(key) ?? [];
    const same = question === '' ? waiting : waiting.filter((query) => query.question === question);
    if (same.length === 0) {
      const done = this.#done.get(doneName(key, question));
      if (done === undefined || done.until_ns < time_ns) return 'unknown';
      if (done.timed_out) return 'timed_out';
      if (done.transfer === undefined) return 'answered';
      done.until_ns = time_ns + DONE_NS;
      return { transfer: done.transfer };
    }
    const order = client ? same.toReversed() : same;
    const query = order.find((one) => one.peer === peer) ?? order[0]!;
    this.#finish(query, false, time_ns);
    return query;
  }

  /** Queries older than `timeout_ns`, taken out. */
  *expired(now_ns: number, timeout_ns: number): Generator<Query> {
    for (const query of this.#waiting) {
      if (now_ns - query.time_ns < timeout_ns) return;
      this.#finish(query, true, now_ns);
      yield query;
    }
  }

  /** Answers may have been lost: no query that waits now can be said to have timed out. */
  doubt(): void {
    for (const query of this.#waiting) query.uncertain = true;
  }

  /** Nobody will wait any more: forgets all, and says how many that were. */
  giveUp(): number {
    const { size } = this.#waiting;
    this.#waiting.clear();
    this.#by_key.clear();
    return size;
  }

  #oldest(): Query | undefined {
    for (const query of this.#waiting) return query;
    return undefined;
  }

  #finish(query: Query, timed_out: boolean, now_ns: number): void {
    this.#remove(query);
    const transfer = TRANSFERS.includes(query.query_type) ? query : undefined;
    const done: Done = { timed_out, until_ns: now_ns + DONE_NS, transfer };
    for (const name of doneNames(query)) {
      this.#done.delete(name);
      if (this.#done.size >= DONE_MAX) this.#forgetOldest();
      this.#done.set(name, done);
    }
  }

  #forgetOldest(): void {
    for (const oldest of this.#done.keys()) {
      this.#done.delete(oldest);
      return;
    }
  }

  #remove(query: Query): void {
    this.#waiting.delete(query);
    const rest = this.#by_key.get(query.key)?.filter((one) => one !== query) ?? [];
    if (rest.length === 0) this.#by_key.delete(query.key);
    else this.#by_key.set(query.key, rest);
  }
}

/** By its question, and by none: its answer may have it or not. */
function doneNames({ key, question }: Query): readonly string[] {
  const bare = doneName(key, '');
  return question === '' ? [bare] : [bare, doneName(key, question)];
}

function doneName(key: string, question: string): string {
  return `${key} ${question}`;
}
