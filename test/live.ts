// What live tests share: a collector of the test's own (pins, data, reducer), and the sums of what it delivered.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import { probes, tables } from '../probes/index.ts';
import { netflow } from '../probes/netflow.ts';
import { findMount } from '../src/bpf/features.ts';
import { Collector } from '../src/collector/collector.ts';
import { Pins } from '../src/collector/pins.ts';
import { loadConfig } from '../src/config/load.ts';
import type { Config } from '../src/config/schema.ts';
import { decodeBatch } from '../src/table/batch.ts';
import { type Batch, isHistogramColumn, isStringColumn } from '../src/table/columns.ts';
import type { Fold } from '../src/table/definition.ts';
import { isWanted } from '../src/table/probe.ts';
import { Dedup } from '../src/wire/dedup.ts';
import { joinStream } from '../src/wire/ipc.ts';
import { FlightServer } from '../src/wire/server.ts';
import type { Cleanup } from './traffic/traffic.ts';

/** Why the live tests cannot run here; false: they can, and must. */
export const NO_LIVE: string | false =
  process.platform !== 'linux'
    ? 'needs Linux'
    : process.getuid?.() !== 0
      ? 'needs root, to load programs into the kernel'
      : findMount('bpf') === undefined
        ? 'needs bpffs: mount -t bpf bpf /sys/fs/bpf'
        : false;

/** Far more than anything here takes on a busy machine: reaching it is a failure, not slowness. */
const PATIENCE_MS = 60_000;

export type Sums = Readonly<Record<string, number>>;

/**
 * A row by column name. In a table that folds, measures hold what all rows with these dimensions come to: their sum, or the
 * greatest, least or last; of a histogram `<name>_count`, `<name>_sum`, `<name>_bucket_<index>`. Rows of an event table stay as they came.
 */
export type FlowRow = Readonly<Record<string, string | number>>;
export type Match = Readonly<Record<string, string | number | readonly (string | number)[]>>;

interface Kept {
  readonly dims: FlowRow;
  readonly values: Map<string, number>;
}

/** By table, by dimensions. */
type KeptTables = Map<string, Map<string, Kept>>;

const VIEW = ['direction', 'src_port', 'dst_port', 'pid', 'process_name'] as const;
const TCP_SUMS = ['tcp_established', 'tcp_closed', 'bytes_read', 'bytes_written'];
const UDP_SUMS = ['packets_read', 'packets_written', 'bytes_read', 'bytes_written'];

/** Stands for the reducer: takes batches once each and adds their rows up. Tables are `netflow` unless another is named. */
export class Sink {
  readonly #kept: KeptTables;
  readonly #server: FlightServer;

  /** `port`: 0 for any that is free. */
  static async listen(port = 0): Promise<Sink> {
    const kept: KeptTables = new Map();
    const server = await FlightServer.listen(
      { host: '127.0.0.1', port },
      {
        dedup: new Dedup(),
        put: async (_, batch) => {
          const decoded = decodeBatch(joinStream(batch), (name) =>
            tables.find((table) => table.name === name),
          );
          assert.ok(decoded.ok, `a batch of ${batch.table} cannot be read`);
          addRows(kept, decoded.batch);
          return { ok: true };
        },
        get: async function* () {
          yield* [];
        },
        list: async () => [],
        actions: {},
      },
    );
    return new Sink(server, kept);
  }

  private constructor(server: FlightServer, kept: KeptTables) {
    this.#server = server;
    this.#kept = kept;
  }

  get port(): number {
    return this.#server.port;
  }

  /** Rows whose columns have these values (a list: any of them). */
  rows(match: Match, table = netflow.name): readonly FlowRow[] {
    return [...(this.#kept.get(table)?.values() ?? [])]
      .filter(({ dims }) => matches(dims, match))
      .map(({ dims, values }) => ({ ...dims, ...Object.fromEntries(values) }));
  }

  /** All that was seen at a port, whoever had it: one row for each process and direction, zeros left out. */
  views(transport: 'tcp' | 'udp', port: number): readonly FlowRow[] {
    const at_port = [
      ...this.rows({ transport, src_port: port }),
      ...this.rows({ transport, dst_port: port }),
    ];
    const views = new Map<string, Record<string, string | number>>();
    for (const row of at_port) {
      const key = JSON.stringify(VIEW.map((name) => row[name]));
      const view = views.get(key) ?? Object.fromEntries(VIEW.map((name) => [name, row[name]!]));
      views.set(key, view);
      for (const name of transport === 'tcp' ? TCP_SUMS : UDP_SUMS) {
        view[name] = Number(view[name] ?? 0) + Number(row[name]);
      }
    }
    return sorted([...views.values()]);
  }

  /** Sums over such rows of those measures that `of` names. */
  total(match: Match, of: readonly string[], table = netflow.name): Sums {
    const rows = this.rows(match, table);
    return Object.fromEntries(
      of.map((name) => [name, rows.reduce((sum, row) => sum + Number(row[name] ?? 0), 0)]),
    );
  }

  async close(): Promise<void> {
    await this.#server.close();
  }
}

export function sorted(rows: readonly FlowRow[]): readonly FlowRow[] {
  const key = (row: FlowRow): string => `${row.direction} ${row.pid} ${row.process_name}`;
  return [...rows].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function matches(dims: FlowRow, match: Match): boolean {
  return Object.entries(match).every(([name, value]) => {
    const is = dims[name];
    assert.ok(is !== undefined, `no column ${name}`);
    return Array.isArray(value) ? value.includes(is) : is === value;
  });
}

function addRows(tables_kept: KeptTables, batch: Batch): void {
  const { name: table, kind, dimensions, measures } = batch.definition;
  const kept = tables_kept.get(table) ?? new Map<string, Kept>();
  tables_kept.set(table, kept);
  for (let r = 0; r < batch.rows; r += 1) {
    const dims = Object.fromEntries(
      batch.dimensions.map((column, i) => [
        dimensions[i]!.name,
        isStringColumn(column) ? column.dictionary[column.ids[r]!]! : column.values[r]!,
      ]),
    );
    const key = kind === 'event' ? String(kept.size) : JSON.stringify(dims);
    const row = kept.get(key) ?? { dims, values: new Map() };
    kept.set(key, row);
    for (const [i, { name, fold }] of measures.entries()) {
      addMeasure(row.values, name, fold, batch.measures[i]!, r);
    }
  }
}

function addMeasure(
  values: Map<string, number>,
  name: string,
  fold: Fold,
  column: Batch['measures'][number],
  r: number,
): void {
  if (isHistogramColumn(column)) {
    let count = 0;
    for (let at = column.offsets[r]!; at < column.offsets[r + 1]!; at += 1) {
      count += column.counts[at]!;
      const bucket = `${name}_bucket_${column.buckets[at]!}`;
      values.set(bucket, (values.get(bucket) ?? 0) + column.counts[at]!);
    }
    values.set(`${name}_count`, (values.get(`${name}_count`) ?? 0) + count);
    values.set(`${name}_sum`, (values.get(`${name}_sum`) ?? 0) + column.sums[r]!);
    return;
  }
  const value = column.values[r]!;
  const before = values.get(name);
  if (Number.isNaN(value)) return;
  if (before === undefined || fold === 'last' || fold === 'mean') values.set(name, value);
  else if (fold === 'sum') values.set(name, before + value);
  else values.set(name, fold === 'max' ? Math.max(before, value) : Math.min(before, value));
}

type Section = Config['collector'];

/** What a test changes of the section `collector`; of the sizes of maps, those that it is about. */
export type LiveOptions = Partial<Omit<Section, 'maps'>> & {
  readonly maps?: Partial<Section['maps']>;
};

/** A configuration of the test's own; `flags` and `collector` change what the test is about. */
export function liveConfig(
  data_dir: string,
  pin_path: string,
  collector: LiveOptions = {},
): Config {
  const sources = probes.map(({ name }) => name);
  const { config } = loadConfig({ role: 'run', flags: { '--data-dir': data_dir }, sources });
  const maps = { ...config.collector.maps, ...collector.maps };
  const own = { ...config.collector, pin_path, interval: 3_600_000, ...collector, maps };
  return { ...config, collector: own };
}

let made = 0;

const FOLDER = /^sonde-test-(\d+)-/;

/** What a test left that was killed: its programs would go on running, and cost every packet of the machine. */
function clearAbandoned(bpffs: string): void {
  for (const name of readdirSync(bpffs)) {
    const pid = FOLDER.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) new Pins(join(bpffs, name), '').clear();
  }
}

/** Folders of the test's own: removed at its end, whatever that is. */
export function liveFolders(t: Cleanup): { data_dir: string; pin_path: string } {
  if (made === 0) clearAbandoned(findMount('bpf')!);
  made += 1;
  const pin_path = join(findMount('bpf')!, `sonde-test-${process.pid}-${made}`);
  const data_dir = mkdtempSync(join(tmpdir(), 'sonde-live-'));
  t.after(() => {
    rmSync(pin_path, { recursive: true, force: true });
    rmSync(data_dir, { recursive: true, force: true });
  });
  return { data_dir, pin_path };
}

export interface Live {
  readonly sink: Sink;
  readonly collector: Collector;
  readonly config: Config;
}

/** Starts a collector in this process. It flushes when asked; its own interval is an hour. */
export async function startLive(
  t: Cleanup,
  options: { collector?: LiveOptions } = {},
): Promise<Live> {
  const sink = await Sink.listen();
  let collector: Collector | undefined;
  t.after(async () => {
    await collector?.stop(1000);
    await sink.close();
  });
  const { data_dir, pin_path } = liveFolders(t);
  const config = liveConfig(data_dir, pin_path, options.collector);
  collector = await startCollector(config, sink);
  for (const { source, state, reason } of collector.kernel.plan.sources) {
    const failing = config.collector.fail_sources.includes(source);
    const probe = probes.find(({ name }) => name === source)!;
    const wanted = isWanted(probe, config.collector.probes) ? 'on' : 'off';
    if (state === 'unsupported') continue; // tests of that source ask `lacks`
    assert.equal(state, failing ? 'failed' : wanted, `${source}: ${reason}`);
  }
  return { sink, collector, config };
}

/** Why this kernel has not the source, or its part; false: it has. For a test to skip by. */
export function lacks({ collector }: Live, source: string, part?: string): string | false {
  const report = collector.kernel.plan.sources.find((one) => one.source === source);
  if (report?.state !== 'on') return `${source}: ${report?.reason}`;
  const one = report.parts.find((each) => each.part === part);
  return one === undefined || one.state === 'on' ? false : `${source}, ${part}: ${one.reason}`;
}

export function startCollector(config: Config, sink: Sink): Promise<Collector> {
  const log = pino({ level: process.env.SONDE_TEST_LOG ?? 'silent' }, pino.destination(2));
  const intake = { host: '127.0.0.1', port: sink.port };
  return Collector.start({ config, log, version: 'test', to: { intake } });
}

/**
 * Flushes until `actual` is `expected`, then once more: sums that pass by the right value are wrong. The last ends of
 * connections may come after their programs' ends, since the kernel acknowledges in its own time.
 */
export async function settles<Value>(
  flush: () => Promise<void>,
  actual: () => Value,
  expected: Value,
): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    await flush();
    if (same(actual(), expected) || Date.now() > end) break;
    await delay(100);
  }
  await flush();
  assert.deepEqual(actual(), expected);
}

function same(a: unknown, b: unknown): boolean {
  try {
    assert.deepEqual(a, b);
    return true;
  } catch {
    return false;
  }
}
