// One connection to a database: its two sides put in order, and read by the protocol's reader as long as its place in them is
// certain. A connection that is older than sonde, or has lost bytes, is read again only behind a pause of both sides, and only
// counted once all that was asked since then has its answer, one for one.

import type { SegmentBudget } from '../capture/segments.ts';
import type { DbEnds } from './rows.ts';
import { Side } from './side.ts';
import type { Command, Talk, TalkSink, Understood } from './talk.ts';

/** So long nothing may have been said before a command that the place is sought at. */
export const QUIET_NS = 50e6;
/** Commands that are not counted yet while the place is not certain. */
const TRIED_MAX = 1024;

/** Why a connection is not followed any further. */
export type LostReason = 'place_lost' | 'bytes_missing' | 'too_many_waiting' | 'open_at_end';

export interface DbConnectionSink {
  done(ends: DbEnds, command: Command): void;
  note(what: string, count: number): void;
  dropped(what: string, reason: string, count: number): void;
}

export class DbConnection implements TalkSink {
  readonly ends: DbEnds;
  /** Of the last byte that was said, whichever side. */
  last_ns: number;
  /** Both sides, or one of them at once, have ended it. */
  ended = 0;
  /** The record in `ends` is of a packet that came in. */
  ends_certain = false;
  readonly #sink: DbConnectionSink;
  readonly #talk: Talk;
  readonly #sides: readonly [Side, Side];
  #state: 'known' | 'trying' | 'lost' | 'over';
  #tried: Command[] = [];

  /** `fresh`: its first bytes are still to come. */
  constructor(
    ends: DbEnds,
    sink: DbConnectionSink,
    budget: SegmentBudget,
    of: { talk: (sink: TalkSink) => Talk; fresh: boolean; last_ns: number },
  ) {
    this.ends = ends;
    this.last_ns = of.last_ns;
    this.#sink = sink;
    this.#talk = of.talk(this);
    this.#state = of.fresh ? 'known' : 'lost';
    const side = (request: boolean): Side =>
      new Side(
        {
          bytes: (bytes, time_ns) => this.#heard(request, bytes, time_ns),
          missed: (count, time_ns) => this.#missed(request, count, time_ns),
          skippable: () => (this.#follows ? this.#talk.skippable(request) : 0),
        },
        budget,
      );
    this.#sides = [side(true), side(false)];
  }

  get waiting(): number {
    return this.#talk.waiting + this.#tried.length;
  }

  side(request: boolean): Side {
    return this.#sides[request ? 0 : 1];
  }

  get #follows(): boolean {
    return this.#state === 'known' || this.#state === 'trying';
  }

  done(command: Command): void {
    if (this.#state === 'known') this.#sink.done(this.ends, command);
    else if (this.#state === 'trying') this.#tried.push(command);
  }

  note(what: string, count: number): void {
    if (this.#state === 'known') this.#sink.note(what, count);
  }

  /** Forgets its place. */
  lose(reason: LostReason): void {
    this.#lose(reason);
  }

  /** It is over: what was asked and not answered is counted so. */
  close(): void {
    for (const side of this.#sides) side.finish();
    if (this.#state === 'known') {
      for (const command of this.#talk.takeWaiting()) this.#sink.done(this.ends, command);
    } else this.#lose('place_lost');
    this.#state = 'over';
  }

  tick(now_ns: number): void {
    for (const side of this.#sides) side.tick(now_ns);
  }

  #heard(request: boolean, bytes: Uint8Array, time_ns: number): void {
    const quiet = time_ns - this.last_ns >= QUIET_NS;
    this.last_ns = Math.max(this.last_ns, time_ns);
    if (this.#state === 'over') return;
    if (this.#state === 'lost') {
      if (!request || !quiet || !this.#talk.mayBegin(bytes)) {
        this.#sink.dropped('db_packets', 'place_unknown', 1);
        return;
      }
      this.#talk.restart();
      this.#state = 'trying';
    }
    const talk = this.#talk;
    this.#went(request ? talk.asked(bytes, time_ns) : talk.answered(bytes, time_ns));
  }

  /** Bytes of one large value may be missing: its length is known. */
  #missed(request: boolean, count: number, time_ns: number): void {
    this.last_ns = Math.max(this.last_ns, time_ns);
    if (!this.#follows) return;
    const understood = this.#talk.missed(request, count, time_ns);
    if (understood === 'lost') {
      this.#lose('bytes_missing');
      return;
    }
    this.#sink.note('db_bytes_passed_over', count);
    this.#went(understood);
  }

  #went(understood: Understood): void {
    if (understood === 'ok') {
      if (this.#state !== 'trying') return;
      if (this.#tried.length > TRIED_MAX) this.#lose('place_lost');
      else if (this.#talk.settled && this.#tried.length > 0) this.#found();
    } else if (understood === 'lost') {
      this.#lose('place_lost');
    } else {
      this.#giveUp('not_followed');
      this.#state = 'over';
      this.#sink.note('db_not_followed', 1);
    }
  }

  #found(): void {
    this.#state = 'known';
    for (const command of this.#tried) this.#sink.done(this.ends, command);
    this.#tried = [];
    this.#sink.note('db_place_found', 1);
  }

  #lose(reason: LostReason): void {
    if (!this.#follows) return;
    if (this.#state === 'known' && reason !== 'open_at_end') this.#sink.note('db_place_lost', 1);
    this.#giveUp(reason);
    this.#state = 'lost';
  }

  #giveUp(reason: string): void {
    const waiting = this.#talk.takeWaiting().length + this.#tried.length;
    this.#tried = [];
    this.#sink.dropped('db_commands', reason, waiting);
    this.#talk.restart();
  }
}
