// The names that addresses were looked up by, from the DNS answers that came to this host: for each network namespace, an
// address and the name that was asked for. Filled by who sees the answers, asked by who reports connections.

const DOMAINS_MAX = 65_536;
const FLOWS_MAX = 65_536;
/** A connection is reported some time after it began, at the latest with the interval's sweep. */
const LAG_MS = 90_000;

interface Domain {
  readonly name: string;
  readonly until_ms: number;
}

/** Answers by network namespace and address, each as long as its TTL says. Bounded: the oldest go first. */
export class DomainCache {
  readonly #max: number;
  readonly #domains = new Map<string, Domain>();

  constructor(max: number = DOMAINS_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#domains.size;
  }

  /** In the namespace `netns`, `name` was found to be at `ip`; of two names the last one asked for stays. */
  note(netns: number, ip: string, name: string, ttl_s: number, now_ms: number): void {
    const key = `${netns} ${ip}`;
    const known = this.#domains.delete(key); // to the end, as the youngest
    if (!known && this.#domains.size >= this.#max) {
      for (const oldest of this.#domains.keys()) {
        this.#domains.delete(oldest);
        break;
      }
    }
    this.#domains.set(key, { name, until_ms: now_ms + ttl_s * 1000 + LAG_MS });
  }

  /** The name that this address was looked up by; empty: by none that still holds. */
  find(netns: number, ip: string, now_ms: number): string {
    if (this.#domains.size === 0) return '';
    const key = `${netns} ${ip}`;
    const domain = this.#domains.get(key);
    if (domain === undefined) return '';
    if (domain.until_ms >= now_ms) return domain.name;
    this.#domains.delete(key);
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
