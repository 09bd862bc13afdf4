// One way to speak to ClickHouse, wherever it runs: `@clickhouse/client`, whose connection is the embedded engine (chDB)
// or HTTP. What differs stands here and nowhere else: how Arrow gets in, and how a session gets its settings.

import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import {
  type ClickHouseClient,
  ClickHouseLogLevel,
  type ClickHouseSettings,
  createClient,
} from '@clickhouse/client';
import { killedAt } from './cancel.ts';
import { StoreOperatorError } from './failure.ts';
import { literal } from './sql.ts';

export interface ServerTarget {
  readonly url: string;
  readonly username?: string;
  readonly password?: string;
  readonly database?: string;
}

export type Settings = Readonly<Record<string, string | number>>;

/** An Arrow stream and where it lies: the embedded engine reads the file, a server gets the bytes. */
export interface ArrowSource {
  readonly bytes: Uint8Array;
  /** Needed by the embedded engine alone. */
  readonly path?: string;
}

const REQUEST_TIMEOUT_MS = 120_000;
const CONNECTIONS_MAX = 16;

export interface Engine {
  readonly kind: 'embedded' | 'server';
  /** Runs `use` with a client of its own session: settings do not leak to others. */
  session<T>(use: (client: ClickHouseClient) => Promise<T>): Promise<T>;
  /** Runs one text with its own settings, until `signal`; its output as a stream. The text names its format. */
  output(sql: string, settings: Settings, signal?: AbortSignal): Promise<Readable>;
  /** `INSERT INTO … SELECT … FROM <source of Arrow rows>`; `structure` names and types its columns. */
  insertArrow(insert: ArrowInsert): Promise<void>;
  close(): Promise<void>;
}

export interface ArrowInsert {
  /** `INSERT INTO t (…) SELECT …`, to which the source is appended. */
  readonly statement: string;
  readonly structure: string;
  readonly source: ArrowSource;
  readonly settings: Settings;
}

/** Opens the engine in a folder, or a server. Throws StoreOperatorError for what only the operator can mend. */
export async function openEngine(target: { dir: string } | ServerTarget): Promise<Engine> {
  return 'dir' in target ? await openEmbedded(target.dir) : await openServer(target);
}

/**
 * How often the engine's threads look for work that nobody told them of. By default each table is looked at ten times a second,
 * which takes 2 % of a processor for ever; merges are told of with each insert.
 */
const ENGINE_ARGUMENTS = [
  '--background_processing_pool_thread_sleep_seconds_if_nothing_to_do=10',
  '--background_move_processing_pool_thread_sleep_seconds_if_nothing_to_do=60',
  '--background_streaming_processing_pool_thread_sleep_seconds_if_nothing_to_do=60',
  '--memory_worker_period_ms=1000',
];

/** The part of chDB that we use; its own types need `@clickhouse/client-common`, which is not ours. */
type ConnectionFactory = (options: { path: string }) => NonNullable<ClientConnection>;
type ClientConnection = Parameters<typeof createClient>[0] extends infer C
  ? C extends { connection?: infer K }
    ? K
    : never
  : never;

interface Embedded {
  /** Starts the engine, which stops with its last connection. */
  open(path: string): { close(): void };
  readonly connection: ConnectionFactory;
}

async function loadEmbedded(): Promise<Embedded> {
  try {
    const [{ Session }, { createChdbConnection }] = await Promise.all([
      import('chdb'),
      import('chdb/connection'),
    ]);
    return {
      open: (path) => new Session(path, { connectionArgs: ENGINE_ARGUMENTS }),
      // The two packages each bring a copy of the interface; they are the same text.
      connection: createChdbConnection as unknown as ConnectionFactory,
    };
  } catch (error) {
    throw new StoreOperatorError(
      'STORE_ENGINE_MISSING',
      'Cannot load the embedded engine (chdb)',
      'run npm install --include=optional on Linux with glibc, or set the URL of a ClickHouse server',
      error,
    );
  }
}

async function openEmbedded(dir: string): Promise<Engine> {
  const { open, connection } = await loadEmbedded();
  const path = join(dir, 'engine');
  const connect = () => createClient({ connection: connection({ path }) });
  let anchor: { close(): void };
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const pid = lockOwner(join(path, 'status'));
    if (pid !== undefined) throw inUse(path, pid);
    anchor = open(path); // held to the end
  } catch (error) {
    throw error instanceof StoreOperatorError ? error : openError(path, error);
  }
  const session = async <T>(use: (client: ClickHouseClient) => Promise<T>): Promise<T> => {
    const client = connect();
    try {
      return await use(client);
    } finally {
      await client.close();
    }
  };
  return {
    kind: 'embedded',
    session,
    // Settings go in ahead of the text, so that the engine's positions are those of the text.
    output: (sql, settings, signal) =>
      session(async (client) => {
        const mark = randomUUID();
        await client.command({ query: setStatement({ log_comment: mark, ...settings }) });
        signal?.throwIfAborted();
        const running = client.exec({ query: sql });
        return (await killedAt(signal, running, { session, mark })).stream;
      }),
    insertArrow: async ({ statement, structure, source, settings }) => {
      const file = `file(${literal(source.path ?? '')}, 'ArrowStream', ${literal(structure)})`;
      const query = `${statement} FROM ${file}`;
      await session((client) => client.command({ query, clickhouse_settings: toClient(settings) }));
    },
    close: async () => anchor.close(),
  };
}

/** The engine says why only on stderr; its lock file tells the one case that operators meet. */
function openError(path: string, error: unknown): StoreOperatorError {
  const pid = lockHolder(join(path, 'status'));
  if (pid !== undefined) return inUse(path, pid, error);
  return new StoreOperatorError(
    'STORE_UNUSABLE',
    `Cannot open the store in "${path}"`,
    "see the engine's message above; check that the folder can be written and the disk has space",
    error,
  );
}

function inUse(path: string, pid: number, cause?: unknown): StoreOperatorError {
  return new StoreOperatorError(
    'STORE_IN_USE',
    `Cannot open the store in "${path}", process ${pid} is using it`,
    'stop that reducer, or give this one another data directory',
    cause,
  );
}

/**
 * Who holds the engine's lock by the kernel's list, so that the engine, which would write about it to standard error, need not
 * be asked. Undefined where the list does not tell: it names files of some file systems otherwise.
 */
function lockOwner(status: string): number | undefined {
  const file = statSync(status, { bigint: true, throwIfNoEntry: false });
  if (file === undefined || !existsSync('/proc/locks')) return undefined;
  const hex = (part: bigint) => part.toString(16).padStart(2, '0');
  const major = ((file.dev >> 8n) & 0xfffn) | ((file.dev >> 32n) & ~0xfffn);
  const minor = (file.dev & 0xffn) | ((file.dev >> 12n) & ~0xffn);
  const place = `${hex(major)}:${hex(minor)}:${file.ino}`;
  // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:10010774 0 EOF
  const lines = readFileSync('/proc/locks', 'utf8').split('\n');
  const held = lines.map((line) => line.split(/\s+/)).find((words) => words[5] === place);
  const pid = Number(held?.[4] ?? 0);
  return pid > 0 && pid !== process.pid ? pid : undefined;
}

function lockHolder(status: string): number | undefined {
  if (!existsSync(status)) return undefined;
  const found = /PID:\s*(\d+)/.exec(readFileSync(status, 'utf8'));
  const pid = Number(found?.[1] ?? 0);
  return pid > 0 && pid !== process.pid && existsSync(`/proc/${pid}`) ? pid : undefined;
}

async function openServer(target: ServerTarget): Promise<Engine> {
  const { url, username, password, database } = target;
  const client = createClient({
    url,
    request_timeout: REQUEST_TIMEOUT_MS,
    max_open_connections: CONNECTIONS_MAX,
    // Every failure reaches the caller as a value: the client need not write it to the console as well.
    log: { level: ClickHouseLogLevel.OFF },
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(database !== undefined && { database }),
  });
  const reached = await client.ping({ select: true });
  if (!reached.success) {
    await client.close();
    throw new StoreOperatorError(
      'STORE_UNREACHABLE',
      `Cannot use the ClickHouse server at ${url}: ${reasonOf(reached.error)}`,
      'check the URL, the user and the password, and that the server runs',
      reached.error,
    );
  }
  return {
    kind: 'server',
    session: (use) => use(client),
    output: async (sql, settings, signal) => {
      // Without waiting, an error after the first rows would be a part of the output.
      const http = { wait_end_of_query: 1, cancel_http_readonly_queries_on_client_close: 1 };
      const clickhouse_settings = toClient({ ...http, ...settings });
      const abort = signal === undefined ? {} : { abort_signal: signal };
      return (await client.exec({ query: sql, clickhouse_settings, ...abort })).stream;
    },
    insertArrow: async ({ statement, structure, source, settings }) => {
      const query = `${statement} FROM input(${literal(structure)}) FORMAT ArrowStream`;
      const values = Readable.from([Buffer.from(source.bytes)], { objectMode: false });
      const { stream } = await client.exec({
        query,
        values,
        clickhouse_settings: toClient(settings),
      });
      stream.resume();
    },
    close: () => client.close(),
  };
}

/** A refused connection may have a code and no message. */
function reasonOf(error: Error): string {
  return error.message || ('code' in error ? String(error.code) : error.name);
}

function setStatement(settings: Settings): string {
  const pairs = Object.entries(settings).map(
    ([name, value]) => `${name} = ${typeof value === 'number' ? value : literal(value)}`,
  );
  return `SET ${pairs.join(', ')}`;
}

/** The client types each setting; ours are checked by the engine. */
export function toClient(settings: Settings): ClickHouseSettings {
  return settings as ClickHouseSettings;
}
