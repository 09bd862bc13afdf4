// The reducer: takes batches from collectors, stores them, answers. Read with intake.ts: this file only wires the parts.

import { hostname } from 'node:os';
import { type PrometheusOptions, PrometheusOutlet } from '../outlet/prometheus.ts';
import { Store } from '../store/client.ts';
import type { ServerTarget } from '../store/engine.ts';
import type { Retention } from '../store/schema.ts';
import type { TableDefinition } from '../table/definition.ts';
import { Ledger, ledgerTable } from '../table/ledger.ts';
import { Dedup } from '../wire/dedup.ts';
import { FlightServer, type ServerLimits, type ServerTls } from '../wire/server.ts';
import { answers } from './answers.ts';
import { addressTypes, type Enricher } from './enrich.ts';
import { FlushBoard } from './flush.ts';
import { alive, type HttpPort, servePages } from './http.ts';
import { Intake } from './intake.ts';
import { LedgerWriter } from './ledger-writer.ts';
import { registerSelf } from './self.ts';

export interface ReducerOptions {
  /** Where collectors deliver and clients read. Port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Where /metrics is; absent: nowhere. */
  readonly metrics?: { readonly host: string; readonly port: number };
  /** A folder (usually `<data_dir>/store`) or a ClickHouse server. */
  readonly store: { readonly dir: string } | ServerTarget;
  readonly tables: readonly TableDefinition[];
  readonly retention?: Retention;
  readonly enrichers?: readonly Enricher[];
  readonly prometheus?: PrometheusOptions;
  readonly tls?: ServerTls;
  readonly token?: string;
  readonly allow_plaintext?: boolean;
  readonly limits?: Partial<ServerLimits>;
  readonly collectors_max?: number;
  readonly log?: (line: string) => void;
}

/** How often the reducer's own ledger goes to the store. */
const LEDGER_MS = 60_000;

export class Reducer {
  /** The ports in use. */
  readonly port: number;
  readonly metrics_port: number | undefined;
  readonly store: Store;
  readonly intake: Intake;
  readonly ledger: Ledger;
  readonly server: FlightServer;
  readonly #http: HttpPort | undefined;
  readonly #board: FlushBoard;
  readonly #writer: LedgerWriter;

  private constructor(parts: ReducerParts) {
    this.port = parts.server.port;
    this.metrics_port = parts.http?.port;
    this.store = parts.store;
    this.intake = parts.intake;
    this.ledger = parts.ledger;
    this.server = parts.server;
    this.#http = parts.http;
    this.#board = parts.board;
    this.#writer = parts.writer;
  }

  /**
   * Opens the store, then the ports: what is acknowledged has a place. Throws the operator errors of store and wire
   * (`code`, `message`, `cure`), and system errors of the metrics port.
   */
  static async start(options: ReducerOptions): Promise<Reducer> {
    const defs = withLedger(options.tables);
    const { store: target, retention } = options;
    const store = await Store.open({ target, tables: defs, ...(retention && { retention }) });
    const closers: (() => Promise<void>)[] = [() => store.close()];
    try {
      return await startOver(store, defs, options, closers);
    } catch (error) {
      for (const close of closers.reverse()) await close();
      throw error;
    }
  }

  /** Used by `startOver` alone. */
  static of(parts: ReducerParts): Reducer {
    return new Reducer(parts);
  }

  /** Stops to listen, lets what is being stored finish, writes the ledger, closes the store. */
  async close(): Promise<void> {
    this.#board.close();
    await this.server.close();
    await this.#http?.close();
    await this.#writer.close();
    await this.store.close();
  }
}

interface ReducerParts {
  readonly store: Store;
  readonly intake: Intake;
  readonly ledger: Ledger;
  readonly server: FlightServer;
  readonly http: HttpPort | undefined;
  readonly board: FlushBoard;
  readonly writer: LedgerWriter;
}

async function startOver(
  store: Store,
  defs: readonly TableDefinition[],
  options: ReducerOptions,
  closers: (() => Promise<void>)[],
): Promise<Reducer> {
  const log = options.log ?? (() => undefined);
  const tables = new Map(defs.map((def) => [def.name, def]));
  const ledger = new Ledger();
  const outlet = options.metrics ? new PrometheusOutlet(defs, options.prometheus) : undefined;
  const enrichers = options.enrichers ?? [addressTypes];
  const intake = new Intake({ store, ledger, tables, enrichers, outlet, log });
  const dedup = await seededDedup(store, options.collectors_max);
  const board = new FlushBoard();
  const writer = await LedgerWriter.start(
    { store, ledger, host: hostname(), log, outlet },
    LEDGER_MS,
  );
  closers.push(() => writer.close());
  const health = () => ({
    ok: intake.stats.last_failure === '',
    intake: intake.stats,
    store: { kind: store.kind, ...store.stats() },
    collectors: board.connected,
  });
  const settle = () => writer.write();
  const server = await listen(options, log, {
    ...answers({ store, board, health, settle, trouble: () => intake.stats.last_failure }),
    dedup,
    put: (sender, batch) => {
      board.heard(sender.collector_id);
      return intake.put(sender, batch);
    },
  });
  closers.push(() => server.close());
  if (outlet !== undefined) registerSelf(outlet, { store, intake, server, dedup, board });
  const http = outlet && (await serveMetrics(options, outlet, health));
  return Reducer.of({ store, intake, ledger, server, http, board, writer });
}

function withLedger(tables: readonly TableDefinition[]): readonly TableDefinition[] {
  return tables.some(({ name }) => name === ledgerTable.name) ? tables : [...tables, ledgerTable];
}

async function seededDedup(store: Store, collectors_max: number | undefined): Promise<Dedup> {
  const dedup = new Dedup(collectors_max === undefined ? {} : { collectors_max });
  for (const [collector_id, seqs] of await store.maxSeqs()) {
    dedup.seed([...seqs].map(([table, seq]) => ({ collector_id, table, seq })));
  }
  return dedup;
}

function listen(
  options: ReducerOptions,
  log: (line: string) => void,
  handlers: Parameters<typeof FlightServer.listen>[1],
): Promise<FlightServer> {
  const { listen: at, tls, token, allow_plaintext, limits } = options;
  return FlightServer.listen(
    {
      ...at,
      log,
      ...(tls && { tls }),
      ...(token !== undefined && { token }),
      ...(allow_plaintext !== undefined && { allow_plaintext }),
      ...(limits && { limits }),
    },
    handlers,
  );
}

async function serveMetrics(
  options: ReducerOptions,
  outlet: PrometheusOutlet,
  health: () => { readonly ok: boolean },
): Promise<HttpPort | undefined> {
  if (options.metrics === undefined) return undefined;
  const healthPage = {
    content_type: 'application/json',
    text: async () => `${JSON.stringify(health())}\n`,
    isWell: () => health().ok,
  };
  return await servePages(
    options.metrics,
    new Map([
      ['/metrics', { content_type: outlet.content_type, text: () => outlet.text() }],
      ['/healthz', healthPage],
      ['/livez', alive],
    ]),
  );
}
