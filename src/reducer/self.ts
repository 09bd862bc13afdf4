// What the reducer costs and does, at /metrics.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { PrometheusOutlet } from '../outlet/prometheus.ts';
import type { Store } from '../store/client.ts';
import type { Dedup } from '../wire/dedup.ts';
import type { FlightServer } from '../wire/server.ts';
import type { FlushBoard } from './flush.ts';
import type { Intake } from './intake.ts';

export interface SelfParts {
  readonly store: Store;
  readonly intake: Intake;
  readonly server: FlightServer;
  readonly dedup: Dedup;
  readonly board: FlushBoard;
}

type Row = readonly [name: string, type: 'counter' | 'gauge', help: string, read: () => number];

export function registerSelf(outlet: PrometheusOutlet, parts: SelfParts): void {
  const { server } = parts;
  for (const [name, type, help, read] of [...processRows(), ...pathRows(parts)]) {
    outlet.register(name, help, type, () => [{ labels: {}, value: read() }]);
  }
  outlet.register(
    'sonde_reducer_refused_total',
    'What was turned away at the intake, by reason',
    'counter',
    () =>
      Object.entries(server.stats.refused).map(([reason, value]) => ({
        labels: { reason },
        value,
      })),
  );
}

/** Milliseconds; shorter delays are seen by chance only. A finer look wakes an idle process more often than its work does. */
const LOOP_RESOLUTION_MS = 250;

function processRows(): readonly Row[] {
  const delay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  delay.enable();
  return [
    [
      'process_cpu_seconds_total',
      'counter',
      'User and system CPU time spent',
      () => {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1e6;
      },
    ],
    [
      'process_resident_memory_bytes',
      'gauge',
      'Resident memory size',
      () => process.memoryUsage.rss(),
    ],
    [
      'sonde_reducer_heap_used_bytes',
      'gauge',
      "Used part of JavaScript's heap",
      () => process.memoryUsage().heapUsed,
    ],
    [
      'sonde_reducer_loop_delay_seconds',
      'gauge',
      'Longest delay of the event loop since the last look',
      () => {
        // What it records is the time between two looks.
        const longest = Math.max(0, delay.max / 1e9 - LOOP_RESOLUTION_MS / 1000);
        delay.reset();
        return longest;
      },
    ],
  ];
}

function pathRows({ store, intake, server, dedup, board }: SelfParts): readonly Row[] {
  const { stats } = server;
  return [
    ['sonde_reducer_rows_total', 'counter', 'Rows stored', () => intake.stats.rows],
    ['sonde_reducer_batches_total', 'counter', 'Batches stored', () => intake.stats.batches],
    ['sonde_reducer_received_bytes_total', 'counter', 'Bytes of batches', () => stats.bytes],
    ['sonde_reducer_queue', 'gauge', 'Batches on their way to the store', () => intake.stats.queue],
    [
      'sonde_reducer_rejected_total',
      'counter',
      'Batches refused for good',
      () => intake.stats.rejected,
    ],
    [
      'sonde_reducer_repeats_total',
      'counter',
      'Batches that came again and were stored already',
      () => dedup.repeats,
    ],
    [
      'sonde_reducer_collectors_forgotten_total',
      'counter',
      'Collectors beyond the limit of those whose sequence is remembered',
      () => dedup.forgotten,
    ],
    ['sonde_reducer_collectors', 'gauge', 'Collectors that listen', () => board.connected],
    [
      'sonde_reducer_connections',
      'gauge',
      'Open connections at the intake',
      () => stats.connections_open,
    ],
    [
      'sonde_store_failures_total',
      'counter',
      'Insertions that failed',
      () => store.stats().failures,
    ],
    [
      'sonde_store_recovered_total',
      'counter',
      'Batches repaired after a crash or a failure',
      () => store.stats().recovered,
    ],
    ['sonde_store_queries', 'gauge', 'Queries being answered', () => store.stats().queries],
  ];
}
