// "Fresh" answers: the reducer asks every connected collector to drain its kernel and deliver. A collector keeps one
// call of the action `control` open; the answer to it is the wish. It then drains, appends to its spool, waits until the
// spool is acknowledged (which means stored), and says so in its next call. No reply in time is said, not hidden.

import type { ControlReply, FlushReport } from '../wire/ask.ts';

export interface ControlCall {
  readonly collector_id: string;
  readonly host: string;
  /** The number of the last wish that was fulfilled. */
  readonly flushed?: number;
  /** Its last call: it ends, and has delivered all or keeps a rest for its next start. */
  readonly leaving?: 'delivered' | 'undelivered';
}

interface Collector {
  readonly collector_id: string;
  readonly host: string;
  seen_ms: number;
  /** `leaving`: its open call ended, it has stopped or calls again at once. `gone`: it said so, or did not call again. */
  state: 'here' | 'leaving' | 'gone';
  leaving: NodeJS.Timeout | undefined;
  /** 0: none. */
  asked: number;
  flushed: number;
  /** The open call, if there is one. */
  answer: ((reply: ControlReply) => void) | undefined;
}

const COLLECTORS_MAX = 4096;
/** An open call is answered after so long, so that a dead peer's is not kept. */
const POLL_MS = 20_000;
/** A collector that has not called for so long is no longer connected. */
const GONE_MS = 60_000;
/** One whose open call ended is awaited for so long. */
const LEFT_MS = 3000;
/** Of those that fell silent without an end, named. */
const SILENT_SHOWN = 3;

export class FlushBoard {
  readonly #collectors = new Map<string, Collector>();
  readonly #poll_ms: number;
  readonly #waiting = new Set<{ check(): void; done(): void }>();
  /** Numbers of a reducer that ran before must not answer ours. */
  #last = Date.now();

  constructor(poll_ms = POLL_MS) {
    this.#poll_ms = poll_ms;
  }

  get connected(): number {
    const since_ms = performance.now() - GONE_MS;
    return [...this.#collectors.values()].filter((one) => isConnected(one, since_ms)).length;
  }

  /**
   * A collector's call; resolves with a wish, or with nothing after a while. `signal` ends with the caller: a collector that
   * stopped, or will call again within `LEFT_MS`.
   */
  async control(call: ControlCall, signal?: AbortSignal): Promise<ControlReply> {
    const collector = this.#collector(call);
    if (collector === undefined) return {};
    collector.seen_ms = performance.now();
    collector.state = call.leaving === undefined ? 'here' : 'gone';
    clearTimeout(collector.leaving);
    const flushed = call.leaving === 'delivered' ? collector.asked : (call.flushed ?? 0);
    if (flushed > collector.flushed && flushed <= collector.asked) collector.flushed = flushed;
    this.#check();
    // A second call of the same collector means that the first one's connection is gone.
    collector.answer?.({});
    collector.answer = undefined;
    if (call.leaving !== undefined) return {};
    if (collector.asked > collector.flushed) return { flush: collector.asked };
    return await new Promise((resolve) => {
      const timer = setTimeout(() => answer({}), this.#poll_ms);
      const answer = (reply: ControlReply) => {
        clearTimeout(timer);
        if (collector.answer === answer) collector.answer = undefined;
        collector.seen_ms = performance.now();
        resolve(reply);
      };
      collector.answer = answer;
      signal?.addEventListener('abort', () => {
        if (collector.answer !== answer) return;
        answer({});
        this.#leave(collector);
      });
    });
  }

  #leave(collector: Collector): void {
    collector.state = 'leaving';
    collector.leaving = setTimeout(() => {
      collector.state = 'gone';
      this.#check();
    }, LEFT_MS);
    collector.leaving.unref();
  }

  #check(): void {
    for (const { check } of this.#waiting) check();
  }

  /** A batch of it came: it has no call open while it delivers what a wish has brought, which may take long. */
  heard(collector_id: string): void {
    const collector = this.#collectors.get(collector_id);
    if (collector?.state === 'here') collector.seen_ms = performance.now();
  }

  /** Asks all connected collectors and waits for them. */
  async flush(timeout_ms: number): Promise<FlushReport> {
    this.#last += 1;
    const id = this.#last;
    const begin_ms = performance.now();
    const asked = [...this.#collectors.values()].filter((one) =>
      isConnected(one, begin_ms - GONE_MS),
    );
    const waited = new Map<string, number>();
    for (const collector of asked) {
      collector.asked = id;
      collector.answer?.({ flush: id });
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => done(), timeout_ms);
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(wait);
        resolve();
      };
      const check = () => {
        for (const { collector_id, flushed } of asked) {
          if (flushed < id || waited.has(collector_id)) continue;
          waited.set(collector_id, performance.now() - begin_ms);
        }
        if (asked.every((one) => one.state === 'gone' || waited.has(one.collector_id))) done();
      };
      const wait = { check, done };
      this.#waiting.add(wait);
      check();
    });
    return asked.length === 0 ? this.#nobody() : report(asked, waited, begin_ms, timeout_ms);
  }

  #nobody(): FlushReport {
    const silent = [...this.#collectors.values()].filter(({ state }) => state === 'here');
    const names = silent.slice(0, SILENT_SHOWN).map((collector) => {
      const silent_s = Math.round((performance.now() - collector.seen_ms) / 1000);
      return `${nameOf(collector)} was heard ${silent_s} s ago`;
    });
    const last = names.length === 0 ? '' : `; ${names.join(', ')}`;
    return { complete: true, collectors: [], message: `No collector is connected${last}` };
  }

  /** Ends all open calls, and the waits of those who asked. */
  close(): void {
    for (const { done } of this.#waiting) done();
    for (const { answer } of this.#collectors.values()) answer?.({});
  }

  #collector(call: ControlCall): Collector | undefined {
    const { collector_id, host } = call;
    const known = this.#collectors.get(collector_id);
    if (known !== undefined) return known;
    if (this.#collectors.size >= COLLECTORS_MAX) this.#forget();
    if (this.#collectors.size >= COLLECTORS_MAX) return undefined;
    const now = performance.now();
    const fresh = {
      state: 'here',
      leaving: undefined,
      asked: 0,
      flushed: 0,
      answer: undefined,
    } as const;
    const collector = { collector_id, host, seen_ms: now, ...fresh };
    this.#collectors.set(collector_id, collector);
    return collector;
  }

  #forget(): void {
    const since_ms = performance.now() - GONE_MS;
    for (const [id, collector] of this.#collectors) {
      if (!isConnected(collector, since_ms)) this.#collectors.delete(id);
    }
  }
}

function isConnected({ state, seen_ms }: Collector, since_ms: number): boolean {
  return state !== 'gone' && seen_ms >= since_ms;
}

function report(
  asked: readonly Collector[],
  waited: ReadonlyMap<string, number>,
  begin_ms: number,
  timeout_ms: number,
): FlushReport {
  const collectors = asked.map(({ collector_id, host }) => ({
    collector_id,
    host,
    flushed: waited.has(collector_id),
    waited_ms: waited.get(collector_id) ?? performance.now() - begin_ms,
  }));
  const late = asked.filter(({ collector_id }) => !waited.has(collector_id));
  const complete = late.length === 0;
  return {
    complete,
    collectors,
    message: complete ? `${asked.length} collectors delivered` : lateWords(late, timeout_ms),
  };
}

function lateWords(late: readonly Collector[], timeout_ms: number): string {
  const gone = late.filter(({ state }) => state === 'gone').map(nameOf);
  const silent = late.filter(({ state }) => state !== 'gone').map(nameOf);
  const within = silent.length > 0 ? ` within ${timeout_ms / 1000} s` : '';
  const words = [
    ...(silent.length > 0 ? [`no answer from ${silent.join(', ')}`] : []),
    ...(gone.length > 0 ? [`stopped before all was delivered: ${gone.join(', ')}`] : []),
  ];
  return `Not all has arrived${within}: ${words.join('; ')}`;
}

function nameOf({ host, collector_id }: { host: string; collector_id: string }): string {
  return `${host} (${collector_id})`;
}
