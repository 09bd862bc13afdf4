// The network probe as data, and its decoders; the kernel part is network.bpf.h. Bytes and packets by process are rows of
// `netflow`, by cgroup of `cgroup_packets`; the rows here are about network namespaces, and about what the kernel dropped.

import { defineTable } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  Netns,
  Poller,
  PollSource,
  Probe,
} from '../../src/table/probe.ts';
import { podUid } from '../cgroup/path.ts';
import { front, frontOf, pair } from '../kernel_maps.ts';
import { drop_key, drop_sums, net_drops_slot } from '../layout.gen.ts';
import { u64, viewOf } from '../process_columns.ts';
import { measuresOf, networkMeasures, parseCounters } from './counters.ts';

const REASONS = 'skb_drop_reason';
const REASON_PREFIX = /^SKB_(DROP_REASON_)?/;
/** As the kernel part packs them (`drop_reason`). */
const REASON_BITS = 12;
const REASON_OTHER = 0xffff;
const SUBSYSTEM_SHIFT = 16;
const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [0, ''],
  [0x0800, 'IPv4'],
  [0x0806, 'ARP'],
  [0x86dd, 'IPv6'],
]);

export const networkTable = defineTable({
  name: 'network',
  help: 'protocol counters of each network namespace that a process is in',
  kind: 'fold',
  dimensions: [
    { name: 'netns', type: 'u32', help: 'network namespace: inode number' },
    { name: 'container_id', type: 'string', help: 'container of a process in it' },
    { name: 'k8s_pod_uid', type: 'string', help: 'pod of a process in it' },
  ],
  measures: networkMeasures,
  rows_max: 4096,
});

export const networkDropsTable = defineTable({
  name: 'network_drops',
  help: 'packets that the kernel threw away',
  kind: 'fold',
  dimensions: [
    { name: 'netns', type: 'u32', help: 'network namespace: inode number; 0: not known' },
    {
      name: 'reason',
      type: 'string',
      help: "the kernel's enum skb_drop_reason: NO_SOCKET …; empty: this kernel gives none",
    },
    {
      name: 'protocol',
      type: 'string',
      help: 'IPv4, IPv6, ARP, or the number of another; empty: not of a network (local sockets)',
    },
  ],
  measures: [
    { name: 'packets', type: 'u64', unit: '1', fold: 'sum', help: 'packets thrown away' },
    {
      name: 'bytes',
      type: 'u64',
      unit: 'By',
      fold: 'sum',
      help: 'their bytes, from the layer on that threw them away',
    },
  ],
  rows_max: 16_384,
});

class DropDecoder implements MapDecoder {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #dims = new Float64Array(networkDropsTable.dimensions.length);
  #reasons: ReadonlyMap<number, string> | undefined;

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(networkDropsTable);
  }

  rows({ count, keys, values, key_size, value_stride }: MapEntries): void {
    const key_view = viewOf(keys);
    const view = viewOf(values);
    const dims = this.#dims;
    for (let i = 0; i < count; i += 1) {
      const key = i * key_size;
      const packets = u64(view, i * value_stride + drop_sums.packets);
      if (packets === 0) continue; // made by a program that another kept from its first count
      dims[0] = key_view.getUint32(key + drop_key.netns, true);
      dims[1] = this.#fold.intern(this.#reason(key_view.getUint16(key + drop_key.reason, true)));
      dims[2] = this.#fold.intern(protocol(key_view.getUint16(key + drop_key.protocol, true)));
      const bytes = u64(view, i * value_stride + drop_sums.bytes);
      this.#fold.add(dims, Float64Array.of(packets, bytes));
    }
  }

  /** Reasons above 16 bits are numbers of a subsystem (mac80211, openvswitch), which has an enum of its own. */
  #reason(packed: number): string {
    if (packed === 0) return '';
    if (packed === REASON_OTHER) return '<other>';
    const number = packed & ((1 << REASON_BITS) - 1);
    const subsystem = packed >>> REASON_BITS;
    const reason = subsystem * (1 << SUBSYSTEM_SHIFT) + number;
    this.#reasons ??= this.#context.kernelEnum?.(REASONS) ?? new Map();
    const name = this.#reasons.get(reason)?.replace(REASON_PREFIX, '');
    if (name !== undefined) return name;
    return subsystem === 0 ? `reason ${number}` : `subsystem ${subsystem}: ${number}`;
  }
}

function protocol(number: number): string {
  return PROTOCOLS.get(number) ?? `0x${number.toString(16).padStart(4, '0')}`;
}

/** Differences of the counters of each namespace since the last look. */
export class NetworkPoller implements Poller {
  readonly #context: DecodeContext;
  readonly #fold: Fold;
  readonly #dims = new Float64Array(networkTable.dimensions.length);
  /** Undefined before the first look, which only notes what there was before sonde. */
  #before: ReadonlyMap<number, Float64Array> | undefined;

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#fold = context.fold(networkTable);
    this.poll();
  }

  poll(): void {
    const now = new Map<number, Float64Array>();
    for (const netns of this.#context.netns?.() ?? []) {
      const counted = measuresOf(parseCounters(...netns.counters));
      now.set(netns.inode, counted);
      if (this.#before !== undefined) this.#add(netns, counted, this.#before.get(netns.inode));
    }
    this.#before = now;
  }

  /** A namespace that was not there before counts from its own start. */
  #add({ inode, path, container_id }: Netns, now: Float64Array, before?: Float64Array): void {
    const anew = before === undefined || now.some((value, i) => value < before[i]!);
    const deltas = now.map((value, i) => (anew ? value : value - before[i]!));
    if (deltas.every((delta) => delta === 0)) return;
    this.#dims[0] = inode;
    this.#dims[1] = this.#fold.intern(container_id);
    this.#dims[2] = this.#fold.intern(podUid(path));
    this.#fold.add(this.#dims, deltas);
  }
}

export const networkDrops: MapSource = {
  map: 'net_drops',
  read: 'turns',
  front: front('net_drops', net_drops_slot, drop_sums.packets),
  open: (context) => new DropDecoder(context),
};

export const networkCounters: PollSource = { open: (context) => new NetworkPoller(context) };

export const network: Probe = {
  name: 'network',
  help: 'drops with their reason, and counters of each network namespace: retransmits, resets, listen overflows',
  tables: [networkTable, networkDropsTable],
  enabled_variable: 'network_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'drops',
      help: 'packets that the kernel throws away',
      required: true,
      variants: [
        {
          name: 'tp_btf',
          programs: ['net_drop'],
          needs: ['tp:kfree_skb', 'enum:skb_drop_reason'],
        },
        {
          name: 'tp_btf without reason',
          programs: ['net_drop_510'],
          needs: ['tp:kfree_skb'],
          misses: 'why: the kernel gives no reason before 5.17',
        },
      ],
    },
  ],
  sweeps: [],
  map_sources: [networkDrops],
  polls: [networkCounters],
  own_maps: [...pair('net_drops'), frontOf('net_drops')],
};
