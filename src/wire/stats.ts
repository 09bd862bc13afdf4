// What the server refused, by reason. A hostile peer can move these numbers and nothing else.

/** Why something was refused. `details` of a gRPC status begins with it. */
export const refusals = [
  'unauthenticated',
  'too_large',
  'malformed',
  'timeout',
  'too_many_streams',
  'too_many_connections',
  'too_many_tables',
  'not_http2',
  'tls_failed',
  'tls_to_plain',
  'unimplemented',
  'unavailable',
  'cancelled',
  'failed',
] as const;

export type Refusal = (typeof refusals)[number];

export interface ServerStats {
  readonly refused: Record<Refusal, number>;
  connections_open: number;
  connections: number;
  streams_open: number;
  streams: number;
  batches: number;
  repeats: number;
  rejected: number;
  bytes: number;
}

/** One line about each reason in `LOG_PERIOD_MS`: a flood of refusals is no flood of lines. */
const LOG_PERIOD_MS = 60_000;

export class Counters {
  readonly stats: ServerStats;
  private readonly log: (line: string) => void;
  private readonly logged = new Map<Refusal, { at_ms: number; count: number }>();

  constructor(log: ((line: string) => void) | undefined) {
    this.log = log ?? (() => undefined);
    // The list above names every key of the record.
    const refused = Object.fromEntries(refusals.map((name) => [name, 0])) as Record<
      Refusal,
      number
    >;
    this.stats = {
      refused,
      connections_open: 0,
      connections: 0,
      streams_open: 0,
      streams: 0,
      batches: 0,
      repeats: 0,
      rejected: 0,
      bytes: 0,
    };
  }

  refuse(reason: Refusal, peer: string): void {
    this.stats.refused[reason]++;
    const now = performance.now();
    const before = this.logged.get(reason);
    if (before && now - before.at_ms < LOG_PERIOD_MS) return;
    const count = this.stats.refused[reason];
    const since = count - (before?.count ?? 0);
    this.logged.set(reason, { at_ms: now, count });
    this.log(`flight: refused ${since} as ${reason}, the last from ${peer}`);
  }
}
