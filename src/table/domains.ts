// The names that addresses were looked up by, from the DNS answers that came to this host: for each network namespace, an
// address and the name that was asked for. Filled by who sees the answers, asked by who reports connections.

const DOMAINS_MAX = 65_536;
const FLOWS_MAX = 65_536;
/** Names of one address, which many may share: the oldest go first. */
const NAMES_MAX = 16;
/** A request is reported some time after it began, at the latest with the interval's sweep. */
const LAG_MS = 90_000;
/** A program connects a moment after the answer, also where its TTL is 0. */
const GRACE_NS = 1e9;

interface Domain {
  readonly name: string;
  /** When the answer came, and how long it holds: CLOCK_MONOTONIC. */
  readonly from_ns: number;
  until_ns: number;
  /** For who does not know when it began. */
  until_ms: number;
}

/** When an answer came: by the collector's clock, and CLOCK_MONOTONIC of the packet. */
export interface Heard {
  readonly now_ms: number;
  readonly time_ns: number;
}

/** Answers by network namespace and address, each as long as its TTL says. Bounded: the oldest go first. */
export class DomainCache {
  readonly #max: number;
  readonly #domains = new Map<string, Domain[]>();

  constructor(max: number = DOMAINS_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#domains.size;
  }

  /** In the namespace `netns`, `name` was found to be at `ip`. */
  note(netns: number, ip: string, name: string, ttl_s: number, { now_ms, time_ns }: Heard): void {
    const key = `${netns} ${ip}`;
    const known = this.#domains.get(key);
    this.#domains.delete(key); // to the end, as the youngest
    if (known === undefined && this.#domains.size >= this.#max) {
      for (const oldest of this.#domains.keys()) {
        this.#domains.delete(oldest);
        break;
      }
    }
    const names = known ?? [];
    this.#domains.set(key, names);
    const until_ns = time_ns + ttl_s * 1e9 + GRACE_NS;
    const until_ms = now_ms + ttl_s * 1000 + LAG_MS;
    const last = names.at(-1);
    if (last?.name === name && last.until_ns >= time_ns) {
      last.until_ns = Math.max(last.until_ns, until_ns);
      last.until_ms = Math.max(last.until_ms, until_ms);
      return;
    }
    if (names.length >= NAMES_MAX) names.shift();
    names.push({ name, from_ns: time_ns, until_ns, until_ms });
  }

  /**
   * The name that this address was looked up by last, before `begin_ns`, by CLOCK_MONOTONIC; empty: by none that still held
   * then. `begin_ns` 0: not known; a name counts then until a report that lags behind must have come.
   */
  find(netns: number, ip: string, now_ms: number, begin_ns = 0): string {
    if (this.#domains.size === 0) return '';
    const key = `${netns} ${ip}`;
    const names = this.#domains.get(key) ?? [];
    for (let i = names.length - 1; i >= 0; i -= 1) {
      const { name, from_ns, until_ns, until_ms } = names[i]!;
      const held = from_ns <= begin_ns && begin_ns <= until_ns;
      if (begin_ns === 0 ? until_ms >= now_ms : held) return name;
    }
    if (begin_ns === 0) this.#domains.delete(key); // all are over
    return '';
  }
}

/**
 * Names of flows that go on: a connection keeps the name that held when it began, however long it lives. Bounded: the oldest
 * go first, and a flow that goes on after that has no name any more.
 */
export class FlowDomains {
  readonly #max: number;
  readonly #names = new Map<string, string>();

  constructor(max: number = FLOWS_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#names.size;
  }

  get(flow: string): string | undefined {
    return this.#names.get(flow);
  }

  set(flow: string, name: string): void {
    if (this.#names.size >= this.#max) {
      for (const oldest of this.#names.keys()) {
        this.#names.delete(oldest);
        break;
      }
    }
    this.#names.set(flow, name);
  }

  delete(flow: string): void {
    this.#names.delete(flow);
  }
}
