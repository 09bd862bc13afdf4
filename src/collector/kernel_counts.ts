// The kernel side's own counters (bpf/ring.bpf.h: sonde_counts), booked into the ledger. What is booked stands beside the
// rows in the spool, so that what was lost while no collector lived is booked too, and nothing twice.

import { capture_count, kernel_count } from '../../probes/layout.gen.ts';
import type { BpfMap } from '../bpf/map.ts';
import type { Ledger } from '../table/ledger.ts';

const U32 = 2 ** 32;

/** Behind the counters of `kernel_count`: records of captured traffic that found no room. */
const CAPTURE_LOST = kernel_count.COUNT_MAX;

/** An array with a value of 8 bytes for each CPU. */
export type CountsMap = Pick<BpfMap, 'valueStride' | 'lookup'>;

export interface CountsMaps {
  /** `sonde_counts`. */
  readonly all: CountsMap;
  /** `capture_counts`, while that source is on. */
  readonly capture?: CountsMap | undefined;
}

export class KernelCounts {
  readonly #maps: CountsMaps;
  readonly #ledger: Ledger;
  readonly #key = new Uint32Array(1);
  readonly #value: Uint8Array;
  readonly #words: Uint32Array;
  #before: readonly number[];

  /** `told`: the counts that a predecessor booked. Undefined: it is not known what it booked, and nothing is booked twice. */
  constructor(maps: CountsMaps, ledger: Ledger, told?: readonly number[]) {
    this.#maps = maps;
    this.#ledger = ledger;
    this.#value = new Uint8Array(maps.all.valueStride);
    this.#words = new Uint32Array(this.#value.buffer);
    this.#before = told ?? this.read();
  }

  /** All that is booked, as `read` has it. */
  get told(): readonly number[] {
    return this.#before;
  }

  /** Sums over all CPUs since the programs were loaded, by `kernel_count`, and what capture lost. */
  read(): number[] {
    const { all, capture } = this.#maps;
    const { COUNT_MAX } = kernel_count;
    const sums = Array.from({ length: COUNT_MAX }, (_, what) => this.#read(all, what));
    const lost = capture === undefined ? 0 : this.#read(capture, capture_count.CAPTURE_LOST);
    return [...sums, lost];
  }

  book(): void {
    const now = this.read();
    const delta = (what: number) => Math.max(0, (now[what] ?? 0) - (this.#before[what] ?? 0));
    const kept = delta(kernel_count.COUNT_RECORDS);
    const full = delta(kernel_count.COUNT_RING_FULL);
    const names = delta(kernel_count.COUNT_PROC_FULL);
    const lines = delta(kernel_count.COUNT_BASH_FULL);
    const execs = delta(kernel_count.COUNT_EXEC_FULL);
    const ledger = this.#ledger;
    ledger.seen('kernel', 'records', kept + full + names + lines + execs);
    ledger.dropped('kernel', 'records', 'bash_ring_full', lines);
    ledger.dropped('kernel', 'records', 'exec_ring_full', execs);
    ledger.kept('kernel', 'records', kept);
    ledger.folded('kernel', 'records', full);
    ledger.dropped('kernel', 'records', 'process_name_ring_full', names);
    this.#drop('tls_calls', 'map_full', delta(kernel_count.COUNT_TLS_CONN_FULL));
    this.#drop('bash_lines', 'not_in_memory', delta(kernel_count.COUNT_BASH_UNREAD));
    this.#folded('udp_map_full', delta(kernel_count.COUNT_UDP_FULL));
    this.#folded('cgroup_map_full', delta(kernel_count.COUNT_CGROUP_FULL));
    this.#folded('syscall_map_full', delta(kernel_count.COUNT_SYSCALL_FULL));
    this.#folded('tcpstate_map_full', delta(kernel_count.COUNT_TCPSTATE_FULL));
    this.#drop('network_drops', 'map_full', delta(kernel_count.COUNT_DROP_FULL));
    this.#folded('totals_map_full', delta(kernel_count.COUNT_TOTALS_FULL));
    this.#drop('tasks', 'no_memory', delta(kernel_count.COUNT_TASK_FULL));
    this.#drop('oom_kills', 'map_full', delta(kernel_count.COUNT_OOM_FULL));
    this.#folded('syscalls_over_budget', delta(kernel_count.COUNT_SYSCALL_COARSE));
    this.#folded('udp_over_budget', delta(kernel_count.COUNT_UDP_COARSE));
    this.#drop('block_requests', 'map_full', delta(kernel_count.COUNT_BLOCK_FULL));
    this.#drop('process_events', 'ring_full', delta(kernel_count.COUNT_PROCESS_EVENTS));
    this.#note('owner_unknown', delta(kernel_count.COUNT_NO_OWNER));
    this.#note('owner_changes_untold', delta(kernel_count.COUNT_OWNER_CHANGES));
    this.#note('tcp_map_full', delta(kernel_count.COUNT_CONN_FULL));
    this.#note('tcp_mended', delta(kernel_count.COUNT_MENDED));
    this.#note('tcp_stale', delta(kernel_count.COUNT_STALE));
    this.#note('udp_peer_unknown', delta(kernel_count.COUNT_NO_PEER));
    this.#folded('http_records', delta(kernel_count.COUNT_HTTP_FULL));
    this.#folded('http_map_full', delta(kernel_count.COUNT_HTTP_CONN_FULL));
    this.#note('fragments_skipped', delta(kernel_count.COUNT_FRAGMENTS));
    this.#note('http2_not_followed', delta(kernel_count.COUNT_HTTP2_LOST));
    const frames = delta(kernel_count.COUNT_HTTP2_RING);
    ledger.seen('kernel', 'http2_records', frames);
    ledger.dropped('kernel', 'http2_records', 'ring_full', frames);
    const stateless = delta(kernel_count.COUNT_HTTP2_FULL);
    ledger.seen('kernel', 'http2_connections', stateless);
    ledger.dropped('kernel', 'http2_connections', 'no_memory', stateless);
    this.#note('nat_peer_unknown', delta(kernel_count.COUNT_NAT_LOST));
    const dns = delta(kernel_count.COUNT_DNS_FULL);
    ledger.seen('kernel', 'dns_packets_ring_full', dns);
    ledger.dropped('kernel', 'dns_packets_ring_full', 'ring_full', dns);
    this.#drop('db_packets', 'ring_full', delta(kernel_count.COUNT_DB_FULL));
    this.#drop('capture_records', 'ring_full', delta(CAPTURE_LOST));
    this.#before = now;
  }

  /** Kept in a total, without its key. */
  #folded(what: string, count: number): void {
    this.#ledger.seen('kernel', what, count);
    this.#ledger.folded('kernel', what, count);
  }

  /** Kept whole but for a detail that is named. */
  #note(what: string, count: number): void {
    this.#ledger.seen('kernel', what, count);
    this.#ledger.kept('kernel', what, count);
  }

  #drop(what: string, reason: string, count: number): void {
    this.#ledger.seen('kernel', what, count);
    this.#ledger.dropped('kernel', what, reason, count);
  }

  #read(map: CountsMap, what: number): number {
    this.#key[0] = what;
    if (!map.lookup(new Uint8Array(this.#key.buffer), this.#value)) return 0;
    let sum = 0;
    for (let i = 0; i < this.#words.length; i += 2) {
      sum += this.#words[i]! + this.#words[i + 1]! * U32;
    }
    return sum;
  }
}
