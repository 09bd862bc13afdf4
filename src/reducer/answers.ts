// What a reducer answers over Flight: tables and queries as Arrow (DoGet, ListFlights, GetSchema), and the actions
// query, flush, health and control, whose bodies and answers are JSON unless said otherwise.

import { setTimeout as delay } from 'node:timers/promises';
import type { Store } from '../store/client.ts';
import type { StoreFailure } from '../store/failure.ts';
import { collect, isOutputFormat } from '../store/query.ts';
import { identifier } from '../store/sql.ts';
import { ledgerTable } from '../table/ledger.ts';
import {
  type ActionHandler,
  FlightError,
  type FlightListing,
  type FlightRequest,
  type ReadHandlers,
} from '../wire/answers.ts';
import { type FlightMessage, splitStream } from '../wire/ipc.ts';
import type { ControlCall, FlushBoard } from './flush.ts';

export interface AnswerParts {
  readonly store: Store;
  readonly board: FlushBoard;
  readonly health: () => unknown;
  /** Stores what the reducer itself has to say: at the end of a flush, and before its ledger is read. */
  readonly settle: () => Promise<void>;
  /** Why the store takes nothing now; empty: it does. */
  readonly trouble: () => string;
}

const FLUSH_MS_DEFAULT = 10_000;
const FLUSH_MS_MAX = 60_000;
/** What the reducer's own ledger may take at least, when the collectors have used up the time. */
const SETTLE_MS_MIN = 1000;
const ID = /^[A-Za-z0-9_.:@-]{1,128}$/;
const HOST_LENGTH_MAX = 256;

export function answers(parts: AnswerParts): ReadHandlers {
  return {
    get: (request, signal) => get(parts, request, signal),
    list: (signal) => list(parts.store, signal),
    describe: (request, signal) => describe(parts.store, request, signal),
    actions: {
      query: {
        description: 'body {"sql", "format": "table" | "json" | "csv" | "arrow"}; answers in that',
        run: (body, signal) => query(parts, body, signal),
      },
      flush: {
        description: 'body {"timeout_ms"}; asks all collectors to deliver, and says which did',
        run: (body) => flush(parts, body),
      },
      health: {
        description: 'state of the reducer',
        run: async () => json(parts.health()),
      },
      control: controlAction(parts.board),
    },
  };
}

function controlAction(board: FlushBoard): ActionHandler {
  return {
    description:
      'for collectors: body {"collector_id", "host", "flushed", "leaving"}; waits for {"flush": n}',
    run: async (body, signal) => {
      const { collector_id, host, flushed, leaving } = parse(body);
      if (typeof collector_id !== 'string' || !ID.test(collector_id)) {
        throw new FlightError('invalid', 'collector_id is missing or no id');
      }
      const call: ControlCall = {
        collector_id,
        host: typeof host === 'string' ? host.slice(0, HOST_LENGTH_MAX) : '',
        ...(typeof flushed === 'number' && { flushed }),
        ...((leaving === 'delivered' || leaving === 'undelivered') && { leaving }),
      };
      return json(await board.control(call, signal));
    },
  };
}

async function query(
  parts: AnswerParts,
  body: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { sql, format = 'json' } = parse(body);
  if (typeof sql !== 'string') throw new FlightError('invalid', 'sql is missing');
  if (typeof format !== 'string' || !isOutputFormat(format)) {
    throw new FlightError('invalid', 'format is none of table, json, csv, arrow');
  }
  await settleFor(parts, sql);
  const output = await collect(await parts.store.query(sql, format, {}, signal));
  if (!Buffer.isBuffer(output)) throw flightError(output);
  return output;
}

/** Who asks for the ledger is told of all that is stored by now, not as of the last minute. */
async function settleFor(parts: AnswerParts, sql: string): Promise<void> {
  if (sql.includes(ledgerTable.name)) await settled(parts, SETTLE_MS_MIN);
}

/** False: not within this time. An insertion into a full store may take minutes, and the ledger's waits behind it. */
function settled({ settle }: AnswerParts, limit_ms: number): Promise<boolean> {
  return Promise.race([settle().then(() => true), delay(limit_ms, false, { ref: false })]);
}

async function flush(parts: AnswerParts, body: Uint8Array): Promise<Uint8Array> {
  const { timeout_ms } = parse(body);
  const asked = typeof timeout_ms === 'number' ? timeout_ms : FLUSH_MS_DEFAULT;
  const limit_ms = Math.min(Math.max(asked, 0), FLUSH_MS_MAX);
  const begin_ms = performance.now();
  const report = await parts.board.flush(limit_ms);
  const left_ms = Math.max(begin_ms + limit_ms - performance.now(), SETTLE_MS_MIN);
  const is_settled = await settled(parts, left_ms);
  const complete = report.complete && is_settled;
  const trouble = parts.trouble();
  const words = [
    report.message,
    ...(is_settled ? [] : ["the reducer's own ledger is not stored yet"]),
    ...(complete || trouble === '' ? [] : [`the store refuses rows: ${trouble}`]),
  ];
  return json({ ...report, complete, message: words.join('; ') });
}

/** `line 2, column 5: …` where the place is known. */
export function failureText(failure: StoreFailure): string {
  const { position, message } = failure;
  return position === undefined
    ? message
    : `line ${position.line}, column ${position.column}: ${message}`;
}

function flightError(failure: StoreFailure): FlightError {
  const passing = ['busy', 'memory', 'disk_full', 'engine', 'closed'].includes(failure.reason);
  return new FlightError(
    passing ? 'unavailable' : 'invalid',
    `${failure.reason}: ${failureText(failure)}`,
  );
}

async function* get(
  parts: AnswerParts,
  request: FlightRequest,
  signal: AbortSignal,
): AsyncGenerator<FlightMessage> {
  const { store } = parts;
  const sql = sqlOf(store, request);
  await settleFor(parts, sql);
  const { schema, messages } = await arrowOf(store, sql, signal);
  yield { data_header: schema, data_body: new Uint8Array() };
  yield* messages;
}

async function arrowOf(store: Store, sql: string, signal: AbortSignal) {
  const output = await collect(await store.query(sql, 'arrow', {}, signal));
  if (!Buffer.isBuffer(output)) throw flightError(output);
  const split = splitStream(output);
  if (!split.ok) throw new Error(`The engine's Arrow is none: ${split.reason}`);
  return split.value;
}

/** Also the names of rollups, which have no definition of their own. */
function tableNames(store: Store): readonly string[] {
  return [...store.schemas.values()].flatMap(({ base, dependents }) => [
    base.name,
    ...dependents.map(({ table }) => table.name),
  ]);
}

function sqlOf(store: Store, request: FlightRequest): string {
  if (request.kind === 'sql') return request.sql;
  if (!tableNames(store).includes(request.table)) {
    throw new FlightError('not_found', `no table is called "${request.table}"`);
  }
  // Rows of a rollup that are not merged yet are merged for the reader.
  const final = store.schemas.has(request.table) ? '' : ' FINAL';
  return `SELECT * FROM ${identifier(request.table)}${final}`;
}

async function list(store: Store, signal: AbortSignal): Promise<readonly FlightListing[]> {
  const listings: FlightListing[] = [];
  for (const table of tableNames(store)) {
    const sql = sqlOf(store, { kind: 'table', table });
    const { schema } = await arrowOf(store, `${sql} LIMIT 0`, signal);
    const counted = await collect(
      await store.query(`SELECT count() AS rows FROM ${identifier(table)}`, 'csv', {}, signal),
    );
    const rows = Buffer.isBuffer(counted) ? Number(counted.toString().split('\n')[1]) : undefined;
    listings.push({ table, schema, ...(rows !== undefined && { rows }) });
  }
  return listings;
}

async function describe(
  store: Store,
  request: FlightRequest,
  signal: AbortSignal,
): Promise<FlightListing | undefined> {
  const table = request.kind === 'table' ? request.table : '';
  if (request.kind === 'table' && !tableNames(store).includes(table)) return undefined;
  const sql = `SELECT * FROM (${sqlOf(store, request)}\n) LIMIT 0`;
  const { schema } = await arrowOf(store, sql, signal);
  return { table, schema };
}

function parse(body: Uint8Array): Record<string, unknown> {
  if (body.length === 0) return {};
  try {
    const value: unknown = JSON.parse(Buffer.from(body).toString('utf8'));
    if (typeof value === 'object' && value !== null) return { ...value };
  } catch {
    // Answered below, like JSON that is no object.
  }
  throw new FlightError('invalid', 'the body is no JSON object');
}

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value), 'utf8');
}
