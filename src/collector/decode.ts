// What the kernel side reports, turned into rows: records of the ring and entries of maps, each by the decoder that its
// probe names. The folds are here, one a table.

import { ExecRecordView, exec_record, record_kind } from '../../probes/layout.gen.ts';
import { KernelBtf } from '../bpf/kernel-btf.ts';
import { MapBuffer } from '../bpf/map.ts';
import type { Batch } from '../table/columns.ts';
import type { TableDefinition } from '../table/definition.ts';
import { DomainCache } from '../table/domains.ts';
import { Fold, type FoldCounts } from '../table/fold.ts';
import { bookFold, type Ledger } from '../table/ledger.ts';
import type { NatLookup } from '../table/nat.ts';
import type { LineOutlet } from '../table/outlet.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  Poller,
  Probe,
  ProbeOptions,
  RecordDecoder,
} from '../table/probe.ts';
import type { RecordSink } from './drain.ts';
import { FrontReader } from './front.ts';
import type { Identity } from './identity.ts';
import type { Kernel } from './kernel.ts';
import { readNetns } from './netns.ts';
import { Turns } from './turns.ts';
import type { Users } from './users.ts';

export interface DecodeOptions {
  /** Those that are on. */
  readonly probes: readonly Probe[];
  readonly kernel: Kernel;
  readonly identity: Identity;
  readonly ledger: Ledger;
  readonly options: Readonly<ProbeOptions>;
  readonly users: Users;
  /** A process has called exec. */
  readonly on_exec: (pid: number) => void;
  readonly nat?: NatLookup | undefined;
  readonly outlet?: LineOutlet | undefined;
  readonly statistics?: (line: string) => void;
  /** procfs of the host. */
  readonly proc: string;
  readonly btf_path?: string | undefined;
  /** The last turn of the maps whose rows are safe from a run before this one. */
  readonly told_turn?: number | undefined;
}

interface MapReader {
  readonly source: MapSource;
  /** Two for `turns`, else one. */
  readonly buffers: readonly MapBuffer[];
  readonly front: FrontReader | undefined;
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
  readonly #pollers: Poller[] = [];
  readonly #turns: Turns;
  /** Rows were made of what stands in the idle maps, and are not safe yet. */
  #untold = false;
  #bytes: Uint8Array = new Uint8Array(0);
  readonly #exec = new ExecRecordView(this.#bytes);
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
      for (const { open } of probe.polls ?? []) this.#pollers.push(open(context));
    }
    const { kernel, told_turn: told } = options;
    const { taken_over } = kernel;
    this.#turns = new Turns({ map: kernel.map('sonde_turn'), taken_over, told });
    if (taken_over) this.#takeOver();
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
    } else if (kind === record_kind.RECORD_EXEC && length >= exec_record.SIZE) {
      this.#processes += 1;
      this.#options.on_exec(this.#exec.over(this.#bytes).move(at).tgid);
    } else if (this.#decoders[kind]?.decode(at, length, this.now_ms) === true) {
      this.#decoded += 1;
    } else {
      this.#bad += 1;
    }
  }

  bad(): void {
    this.#bad += 1;
  }

  /** A predecessor left totals that it did not tell: a `tick` takes those alone, and another is due. */
  get left(): boolean {
    return this.#takesTurns && this.#turns.left;
  }

  /** The last turn whose totals are in the rows until now; undefined: none. */
  get turn(): number | undefined {
    return this.#turns.reached;
  }

  /** Before the folds close at the end of an interval: what the kernel keeps in maps, and what decoders remember. */
  tick(now_ms: number, last = false): void {
    if (this.#takesTurns) this.#turns.end();
    this.#untold = true;
    for (const reader of this.#readers) this.#read(reader, now_ms);
    for (const decoder of this.#opened) decoder.tick?.(now_ms, last);
    for (const poller of this.#pollers) poller.poll(now_ms);
  }

  /** The rows until now are safe: what they tell of leaves the maps. */
  settle(): void {
    if (this.#untold) this.#clear(({ buffers }) => buffers[this.#turns.idle]!.count);
    this.#untold = false;
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
    const { identity, options, ledger, users, outlet, statistics, proc, btf_path, nat } =
      this.#options;
    return {
      ...(nat !== undefined && { nat }),
      ...(outlet !== undefined && { outlet }),
      ...(statistics !== undefined && { statistics }),
      fold: (table) => this.#fold(table),
      owner: identity.lookup,
      user: users.name,
      cgroup: identity.cgroup,
      kernelEnum: (name) => kernelEnum(name, btf_path),
      netns: () => readNetns(proc),
      options,
      domains: new DomainCache(options.dns.domains_max),
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

  get #takesTurns(): boolean {
    return this.#readers.some(({ source }) => source.read === 'turns');
  }

  #openMap(source: MapSource, context: DecodeContext): void {
    if (this.#readers.some((one) => one.source === source)) return; // shared with another probe
    const { map, read, front } = source;
    const names = read === 'turns' ? [`${map}_0`, `${map}_1`] : [map];
    const { kernel } = this.#options;
    if (!names.every((name) => kernel.hasMap(name))) return; // of a part that is off
    const maps = names.map((name) => kernel.map(name));
    this.#readers.push({
      source,
      buffers: maps.map((one) => new MapBuffer(one)),
      front: front && new FrontReader(kernel.map(front.map), front),
      decoder: source.open(context),
      key_size: maps[0]!.keySize,
      value_stride: maps[0]!.valueStride,
    });
  }

  #read(reader: MapReader, now_ms: number): void {
    const { source, buffers, front, decoder } = reader;
    const buffer = buffers[source.read === 'turns' ? this.#turns.idle : 0]!;
    const count = source.read === 'drain' ? buffer.drain() : this.#look(reader);
    const behind = entriesOf(reader, buffer, count);
    const entries = front?.joined(behind) ?? behind;
    // Of what stays, its end is news as well.
    if (entries.count === 0 && source.read !== 'copy') return;
    decoder.rows(entries, now_ms);
  }

  #takeOver(): void {
    for (const reader of this.#readers) {
      if (reader.source.read !== 'copy' || reader.decoder.begin === undefined) continue;
      const count = this.#look(reader);
      reader.decoder.begin(entriesOf(reader, reader.buffers[0]!, count));
    }
    // Told, and perhaps not all cleared any more.
    if (!this.#turns.left) this.#clear((reader) => this.#look(reader));
  }

  /** Reads what stays in the map; the number of entries. */
  #look({ source, buffers, front }: MapReader): number {
    if (source.read !== 'turns') return buffers[0]!.read();
    front?.read(this.#turns.idle);
    return buffers[this.#turns.idle]!.read();
  }

  /** Empties the idle maps, and the slots before them. `countOf`: how many entries there are. */
  #clear(countOf: (reader: MapReader) => number): void {
    for (const reader of this.#readers) {
      if (reader.source.read !== 'turns') continue;
      const count = countOf(reader);
      reader.front?.clear();
      if (count > 0) reader.buffers[this.#turns.idle]!.drain();
    }
  }
}

function entriesOf(
  { key_size, value_stride }: MapReader,
  { keys, values }: MapBuffer,
  count: number,
): MapEntries {
  return { count, keys, values, key_size, value_stride };
}

/** Read when it is first asked for: the file is large, and most never ask. */
function kernelEnum(name: string, btf_path: string | undefined): ReadonlyMap<number, string> {
  using btf = KernelBtf.open(btf_path);
  return btf.enumNames(name);
}
