// Ends a query of the embedded engine. Its own interface has no interrupt: an abandoned call goes on in its thread. But the
// engine's SQL has one, KILL QUERY, from another session; the query is known by its `log_comment`.

import { setTimeout as delay } from 'node:timers/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { literal } from './sql.ts';

const KILL_EVERY_MS = 250;

interface Running {
  /** Runs `use` with a client of another session than the query's. */
  readonly session: (use: (client: ClickHouseClient) => Promise<unknown>) => Promise<unknown>;
  /** The `log_comment` of the query, of no other. */
  readonly mark: string;
}

/** Awaits `running`, whose query is killed at `signal`; it then ends with the engine's error, and its thread is free. */
export async function killedAt<T>(
  signal: AbortSignal | undefined,
  running: Promise<T>,
  { session, mark }: Running,
): Promise<T> {
  let over = false;
  const query = `KILL QUERY WHERE Settings['log_comment'] = ${literal(mark)} ASYNC`;
  const kill = async () => {
    // Again until it has ended: a thread may not have begun it yet, and then there is nothing to kill.
    while (!over) {
      await session((client) => client.command({ query })).catch(() => undefined); // tried again
      if (!over) await delay(KILL_EVERY_MS);
    }
  };
  const onAbort = () => void kill();
  signal?.addEventListener('abort', onAbort);
  try {
    return await running;
  } finally {
    over = true;
    signal?.removeEventListener('abort', onAbort);
  }
}
