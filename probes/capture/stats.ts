// The counters of capture: a line of statistics each interval under the names that operators know, and the same as a table.

import { defineTable, type Measure } from '../../src/table/definition.ts';

/** Since the start. */
export interface CaptureTotals {
  /** Records of begins and ends of connections. */
  readonly control_events: number;
  /** Records with bytes. */
  readonly data_events: number;
  readonly requests_parsed: number;
  readonly request_errors: number;
  readonly response_errors: number;
  readonly events_lost: number;
  readonly requests_sent: number;
  readonly events_dropped_queue: number;
  readonly events_dropped_parsing: number;
  /** The most that waited at once so far: no sum. */
  readonly event_queue_max: number;
  readonly exchanges_seen: number;
  readonly exchanges_incomplete: number;
  readonly exchanges_dropped: number;
  readonly bodies_cut: number;
  readonly values_redacted: number;
  readonly connections: number;
}

type Name = keyof CaptureTotals;

const HELP: readonly (readonly [Name, string])[] = [
  ['control_events', 'ControlEventReceived: begins and ends of connections, from the kernel'],
  ['data_events', 'DataEventReceived: pieces of messages, from the kernel'],
  ['requests_parsed', 'TotalRequestsParsed: requests'],
  ['request_errors', 'ReqParsingErrors: times that a request could not be read'],
  ['response_errors', 'ResParsingErrors: times that a response could not be read'],
  ['events_lost', 'EventLost: records that found the ring full'],
  ['requests_sent', 'TotalRequestsSent: exchanges handed to the reader'],
  ['events_dropped_queue', 'TotalEventsDroppedAtEventQueueLimit: pieces that found the queue full'],
  ['events_dropped_parsing', 'TotalEventsDroppedAtParsing: pieces that belong to no message'],
  ['exchanges_seen', 'exchanges that came to an end'],
  ['exchanges_incomplete', 'of them: a part of a message, or the response, was not seen'],
  ['exchanges_dropped', 'of them: not sent, for want of a reader, of room, or of a known owner'],
  ['bodies_cut', 'bodies that are not here whole, for a limit or a loss'],
  ['values_redacted', 'values taken out of what was sent'],
  ['connections', 'connections captured'],
];

export const captureStats = defineTable({
  name: 'capture_stats',
  help: 'what capture of whole HTTP messages did, by the counters of its statistics line',
  kind: 'fold',
  rows_max: 1,
  dimensions: [],
  measures: [
    ...HELP.map(([name, help]): Measure => ({ name, type: 'u64', unit: '1', fold: 'sum', help })),
    {
      name: 'event_queue_max',
      type: 'u64',
      unit: '1',
      fold: 'max',
      help: 'KprobeEventMaxQueueSizeTillNow: most pieces that waited at once',
    },
  ],
});

/** One row: the differences since `before`; of the queue, its highest mark. */
export function statsRow(now: CaptureTotals, before: CaptureTotals): Float64Array {
  return Float64Array.from(captureStats.measures, (measure) => {
    const name = measure.name as Name; // the measures are made of the names, above
    return measure.fold === 'max' ? now[name] : now[name] - before[name];
  });
}

export function statsLine(now: CaptureTotals): string {
  return `stats ${JSON.stringify({
    ControlEventReceived: now.control_events,
    DataEventReceived: now.data_events,
    TotalRequestsParsed: now.requests_parsed,
    ReqParsingErrors: now.request_errors,
    ResParsingErrors: now.response_errors,
    EventLost: now.events_lost,
    TotalRequestsSent: now.requests_sent,
    TotalEventsDroppedAtEventQueueLimit: now.events_dropped_queue,
    TotalEventsDroppedAtParsing: now.events_dropped_parsing,
    KprobeEventMaxQueueSizeTillNow: now.event_queue_max,
  })}`;
}

/** Each kernel program with how often it was entered and left. */
export function probeLine(programs: Readonly<Record<string, readonly [number, number]>>): string {
  return `probe stat ${JSON.stringify(programs)}`;
}
