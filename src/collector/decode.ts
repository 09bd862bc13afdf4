// What the kernel side reports, turned into rows: records of the ring and entries of maps, each by the decoder that its
// probe names. The folds are here, one a table.

import { record_kind } from '../../probes/layout.gen.ts';
import { MapBuffer } from '../bpf/map.ts';
import type { Batch } from '../table/columns.ts';
import type { TableDefinition } from '../table/definition.ts';
import { Fold, type FoldCounts } from '../table/fold.ts';
import { bookFold, type Ledger } from '../table/ledger.ts';
import type { LineOutlet } from '../table/outlet.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapSource,
  Probe,
  ProbeOptions,
  RecordDecoder,
} from '../table/probe.ts';
import type { RecordSink } from './drain.ts';
import type { Identity } from './identity.ts';
import type { Kernel } from './kernel.ts';

export interface DecodeOptions {
  /** Those that are on. */
  readonly probes: readonly Probe[];
  readonly kernel: Kernel;
  readonly identity: Identity;
  readonly ledger: Ledger;
  readonly options: Readonly<ProbeOptions>;
  readonly outlet?: LineOutlet | undefined;
  readonly statistics?: (line: string) => void;
}

interface MapReader {
  readonly source: MapSource;
  readonly buffer: MapBuffer;
  readonly decoder: MapDecoder;
  readonly key_size: number;
  readonly value_stride: number;
}

export interface DecodeTotals {
  /** Records that became rows, by their decoders. */
  decoded: number;
  processes: number;
  bad: number;
  /** Rows that left in batches. */
  rows: number;
}

export class Decode implements RecordSink {
  readonly #options: DecodeOptions;
  readonly #folds = new Map<TableDefinition, Fold>();
  readonly #fold_counts = new Map<Fold, FoldCounts>();
  /** By kind of record. */
  readonly #decoders: (RecordDecoder | undefined)[] = [];
  readonly #opened: RecordDecoder[] = [];
  readonly #readers: MapReader[] = [];
  #bytes: Uint8Array = new Uint8Array(0);
  #decoded = 0;
  #processes = 0;
  #bad = 0;
  now_ms = Date.now();

  constructor(options: DecodeOptions) {
    this.#options = options;
    const context = this.#context();
    for (const probe of options.probes) {
      for (const { kind, open } of probe.records ?? []) {
        if (this.#decoders[kind] !== undefined) continue; // shared with another probe
        const decoder = open(context);
        this.#decoders[kind] = decoder;
        this.#opened.push(decoder);
      }
      for (const source of probe.map_sources ?? []) this.#openMap(source, context);
    }
  }

  get totals(): DecodeTotals {
    let rows = 0;
    for (const fold of this.#folds.values()) rows += fold.counts.closed;
    return { decoded: this.#decoded, processes: this.#processes, bad: this.#bad, rows };
  }

  over(bytes: Uint8Array): void {
    this.#bytes = bytes;
    for (const decoder of this.#opened) decoder.over(bytes);
  }

  record(kind: number, at: number, length: number): void {
    if (kind === record_kind.RECORD_PROCESS) {
      this.#processes += 1;
      this.#options.identity.announce(this.#bytes, at, this.now_ms);
    } else if (this.#decoders[kind]?.decode(at, length, this.now_ms) === true) {
      this.#decoded += 1;
    } else {
      this.#bad += 1;
    }
  }

  bad(): void {
    this.#bad += 1;
  }

  /** Before the folds close at the end of an interval: what the kernel keeps in maps, and what decoders remember. */
  tick(now_ms: number): void {
    for (const reader of this.#readers) this.#read(reader, now_ms);
    for (const decoder of this.#opened) decoder.tick?.(now_ms);
  }

  /** The rows so far, one batch a table that has any. */
  close(now_ms: number): Batch[] {
    const batches: Batch[] = [];
    for (const fold of this.#folds.values()) {
      const batch = fold.close(now_ms);
      if (batch !== undefined) batches.push(batch);
    }
    return batches;
  }

  book(): void {
    const { ledger } = this.#options;
    for (const fold of this.#folds.values()) {
      this.#fold_counts.set(fold, bookFold(ledger, fold, this.#fold_counts.get(fold)));
    }
  }

  #context(): DecodeContext {
    const { identity, options, ledger, outlet, statistics } = this.#options;
    return {
      ...(outlet !== undefined && { outlet }),
      ...(statistics !== undefined && { statistics }),
      fold: (table) => this.#fold(table),
      owner: identity.lookup,
      options,
      note: (what, count) => {
        ledger.seen('decode', what, count);
        ledger.kept('decode', what, count);
      },
      dropped: (what, reason, count) => {
        ledger.seen('decode', what, count);
        ledger.dropped('decode', what, reason, count);
      },
    };
  }

  #fold(table: TableDefinition): Fold {
    const known = this.#folds.get(table);
    if (known !== undefined) return known;
    const fold = new Fold(table);
    this.#folds.set(table, fold);
    return fold;
  }

  #openMap(source: MapSource, context: DecodeContext): void {
    const map = this.#options.kernel.map(source.map);
    this.#readers.push({
      source,
      buffer: new MapBuffer(map),
      decoder: source.open(context),
      key_size: map.keySize,
      value_stride: map.valueStride,
    });
  }

  #read({ source, buffer, decoder, key_size, value_stride }: MapReader, now_ms: number): void {
    const count = source.read === 'drain' ? buffer.drain() : buffer.read();
    if (count === 0) return;
    const { keys, values } = buffer;
    decoder.rows({ count, keys, values, key_size, value_stride }, now_ms);
  }
}
