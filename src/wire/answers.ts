// The reading half of the Flight service and its actions: what a reducer answers besides DoPut.
import {
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import type {
  Action,
  ActionType,
  Decoded,
  FlightData,
  FlightDescriptor,
  FlightInfo,
  Handshake,
} from './flight.ts';
import { encapsulate, type FlightMessage } from './ipc.ts';
import type { Refusal } from './stats.ts';

/** What a ticket or a descriptor asks for. */
export type FlightRequest = { kind: 'sql'; sql: string } | { kind: 'table'; table: string };

export interface FlightListing {
  readonly table: string;
  /** The header of the schema message. */
  readonly schema: Uint8Array;
  /** Undefined when unknown. */
  readonly rows?: number;
  readonly bytes?: number;
}

/** Thrown by a handler to choose the status that the client sees; anything else is an internal failure. */
export class FlightError extends Error {
  readonly status: number;

  constructor(code: 'not_found' | 'invalid' | 'unavailable', message: string) {
    super(message);
    this.name = 'FlightError';
    const codes = {
      not_found: status.NOT_FOUND,
      invalid: status.INVALID_ARGUMENT,
      unavailable: status.UNAVAILABLE,
    };
    this.status = codes[code];
  }
}

export interface ReadHandlers {
  // `signal` ends with the client, everywhere.
  /** The schema message first, then dictionaries and record batches. */
  readonly get?: (request: FlightRequest, signal: AbortSignal) => AsyncIterable<FlightMessage>;
  readonly list?: (signal: AbortSignal) => Promise<readonly FlightListing[]>;
  /** For GetFlightInfo and GetSchema. Without it tables are looked up in `list`. */
  readonly describe?: (
    request: FlightRequest,
    signal: AbortSignal,
  ) => Promise<FlightListing | undefined>;
  readonly actions?: Readonly<Record<string, ActionHandler>>;
}

export interface ActionHandler {
  readonly description: string;
  readonly run: (body: Uint8Array, signal: AbortSignal) => Promise<Uint8Array>;
}

type Writable<Request, Response> = ServerWritableStream<Decoded<Request>, Response>;
type Unary<Request> = ServerUnaryCall<Decoded<Request>, unknown>;
type Refuse = (reason: Refusal, peer: string) => void;

const EMPTY = new Uint8Array(0);
const SQL_CHARS_MAX = 64 * 1024;
const TABLE = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;

/** A ticket is the name of a table or {"sql": "…"} or {"table": "…"}. */
export function parseRequest(bytes: Uint8Array): FlightRequest | undefined {
  if (bytes.length > SQL_CHARS_MAX) return undefined;
  const text = Buffer.from(bytes).toString('utf8');
  if (TABLE.test(text)) return { kind: 'table', table: text };
  try {
    const value: unknown = JSON.parse(text);
    if (value === null || typeof value !== 'object') return undefined;
    if ('sql' in value && typeof value.sql === 'string') return { kind: 'sql', sql: value.sql };
    if (!('table' in value) || typeof value.table !== 'string') return undefined;
    return TABLE.test(value.table) ? { kind: 'table', table: value.table } : undefined;
  } catch {
    // Neither a name nor JSON.
    return undefined;
  }
}

function ofDescriptor(descriptor: FlightDescriptor): FlightRequest | undefined {
  if (descriptor.path.length === 0) return parseRequest(descriptor.command);
  const table = descriptor.path.join('.');
  return TABLE.test(table) ? { kind: 'table', table } : undefined;
}

function ticketOf(request: FlightRequest): Buffer {
  return Buffer.from(request.kind === 'table' ? request.table : JSON.stringify(request));
}

function statusOf(error: unknown): { code: number; details: string } {
  if (error instanceof FlightError) return { code: error.status, details: error.message };
  const details = error instanceof Error ? error.message : String(error);
  return { code: status.INTERNAL, details: `failed: ${details}` };
}

function infoOf(request: FlightRequest, listing: FlightListing): FlightInfo {
  return {
    schema: encapsulate(listing.schema),
    descriptor:
      request.kind === 'table'
        ? { path: [request.table], command: EMPTY }
        : { path: [], command: ticketOf(request) },
    tickets: [ticketOf(request)],
    total_records: listing.rows ?? -1,
    total_bytes: listing.bytes ?? -1,
  };
}

/** Writes at the client's pace. False when the client went away. */
async function writeAll<T>(call: Writable<unknown, T>, values: AsyncIterable<T>): Promise<void> {
  for await (const value of values) {
    if (call.cancelled || call.destroyed) return;
    if (call.write(value)) continue;
    await new Promise<void>((resolve) => {
      call.once('drain', resolve);
      call.once('cancelled', resolve);
      call.once('close', resolve);
    });
  }
}

function goneWith(call: Writable<unknown, unknown> | Unary<FlightDescriptor>): AbortSignal {
  const gone = new AbortController();
  if (call.cancelled) gone.abort();
  call.once('cancelled', () => gone.abort());
  return gone.signal;
}

/** What each answer is made of, from the reducer's handlers. */
function sourcesOf(handlers: ReadHandlers) {
  async function describe(request: FlightRequest, signal: AbortSignal): Promise<FlightListing> {
    const found = handlers.describe
      ? await handlers.describe(request, signal)
      : (await handlers.list?.(signal))?.find(
          (one) => request.kind === 'table' && one.table === request.table,
        );
    if (!found) throw new FlightError('not_found', 'no such table');
    return found;
  }

  async function* get(call: Writable<Uint8Array, FlightData>, bytes: Uint8Array) {
    const request = parseRequest(bytes);
    if (!request) throw new FlightError('invalid', 'the ticket names neither a table nor a query');
    if (!handlers.get) throw new FlightError('not_found', 'nothing to read');
    for await (const message of handlers.get(request, goneWith(call))) {
      yield { descriptor: undefined, app_metadata: EMPTY, ...message };
    }
  }

  async function* list(call: Writable<Uint8Array, FlightInfo>) {
    for (const listing of (await handlers.list?.(goneWith(call))) ?? []) {
      yield infoOf({ kind: 'table', table: listing.table }, listing);
    }
  }

  async function* act(call: Writable<Action, unknown>, action: Action) {
    const { actions = {} } = handlers;
    if (!Object.hasOwn(actions, action.type)) {
      throw new FlightError('not_found', 'no such action');
    }
    yield await actions[action.type].run(action.body, goneWith(call));
  }

  async function* listActions() {
    for (const [type, { description }] of Object.entries(handlers.actions ?? {})) {
      yield { type, description } satisfies ActionType;
    }
  }

  return { describe, get, list, act, listActions };
}

/** The gRPC handlers of everything but DoPut. `refuse` counts by reason. */
export function readingService(handlers: ReadHandlers, refuse: Refuse) {
  const { describe, get, list, act, listActions } = sourcesOf(handlers);
  const unimplemented = { code: status.UNIMPLEMENTED, details: 'unimplemented: not offered here' };

  /** Streams what `source` yields, or ends with the error's status. */
  async function stream<Request, T>(
    call: Writable<Request, T>,
    source: (request: Request) => AsyncIterable<T>,
  ): Promise<void> {
    try {
      if (!call.request.ok) {
        refuse('malformed', call.getPeer());
        throw new FlightError('invalid', call.request.reason);
      }
      await writeAll(call, source(call.request.value));
      call.end();
    } catch (error) {
      call.emit('error', statusOf(error));
    }
  }

  async function unary<T>(
    call: Unary<FlightDescriptor>,
    reply: sendUnaryData<T>,
    answer: (request: FlightRequest, signal: AbortSignal) => Promise<T>,
  ): Promise<void> {
    try {
      const request = call.request.ok ? ofDescriptor(call.request.value) : undefined;
      if (!request) {
        refuse('malformed', call.getPeer());
        throw new FlightError('invalid', 'the descriptor names neither a table nor a query');
      }
      reply(null, await answer(request, goneWith(call)));
    } catch (error) {
      reply(statusOf(error));
    }
  }

  return {
    DoGet: (call: Writable<Uint8Array, FlightData>) => stream(call, (bytes) => get(call, bytes)),
    ListFlights: (call: Writable<Uint8Array, FlightInfo>) => stream(call, () => list(call)),
    DoAction: (call: Writable<Action, Uint8Array>) => stream(call, (action) => act(call, action)),
    ListActions: (call: Writable<undefined, ActionType>) => stream(call, listActions),
    GetFlightInfo: (call: Unary<FlightDescriptor>, reply: sendUnaryData<FlightInfo>) =>
      unary(call, reply, async (request, signal) =>
        infoOf(request, await describe(request, signal)),
      ),
    GetSchema: (call: Unary<FlightDescriptor>, reply: sendUnaryData<Uint8Array>) =>
      unary(call, reply, async (request, signal) =>
        encapsulate((await describe(request, signal)).schema),
      ),
    PollFlightInfo: (_call: Unary<FlightDescriptor>, reply: sendUnaryData<undefined>) =>
      reply(unimplemented),
    DoExchange: (call: ServerDuplexStream<Decoded<FlightData>, FlightData>) => {
      call.emit('error', unimplemented);
    },
    // The token travels in the metadata of each call, so there is nothing to shake hands about.
    Handshake: (call: ServerDuplexStream<Decoded<Handshake>, Handshake>) => {
      call.emit('error', unimplemented);
    },
  };
}
