// The probe of TCP states as data, and its decoders; the kernel part is tcpstate.bpf.h.

import { defineTable } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  Probe,
} from '../../src/table/probe.ts';
import { front, frontOf, pair } from '../kernel_maps.ts';
import { conn, owner, tcpstate_change, tcpstate_key, tcpstate_slot } from '../layout.gen.ts';
import { ProcessColumns, processDimensions, u64, viewOf } from '../process_columns.ts';
import { addSlots } from '../slots.ts';

/** By the kernel's number (include/net/tcp_states.h), spelled as `ss` and RFC 9293 do. */
const STATES = [
  ...['', 'ESTABLISHED', 'SYN-SENT', 'SYN-RECEIVED', 'FIN-WAIT-1', 'FIN-WAIT-2', 'TIME-WAIT'],
  ...['CLOSED', 'CLOSE-WAIT', 'LAST-ACK', 'LISTEN', 'CLOSING', 'NEW-SYN-RECEIVED', 'BOUND'],
] as const;
const OTHER = '<other>';
const NAMES: readonly string[] = [...STATES.slice(1), OTHER];
const MISSES = 'how long TIME-WAIT and the handshake of a server last: they have no socket';
const STATES_MAX = 16;
/** Position of the first column behind those of the process. */
const NETNS = processDimensions.length;
/** Pairs of process and state that are remembered, to say when one has no connection left. */
const GROUPS_MAX = 65_536;

export const tcpStateTable = defineTable({
  name: 'tcp_state',
  help: 'changes of state of TCP sockets, by the process that has the connection',
  kind: 'fold',
  dimensions: [
    ...processDimensions,
    {
      name: 'netns',
      type: 'u32',
      help: 'network namespace: inode number; 0: beyond a limit, folded',
    },
    { name: 'old_state', type: 'string', values: NAMES, help: 'state that ended' },
    { name: 'new_state', type: 'string', values: NAMES, help: 'state that began' },
  ],
  measures: [
    { name: 'transitions', type: 'u64', unit: '1', fold: 'sum', help: 'changes of state' },
    {
      name: 'lasted',
      type: 'u64',
      unit: 'ns',
      fold: 'histogram',
      scale: 0,
      help: 'how long the ended state lasted, of connections that began while sonde ran',
    },
  ],
  rows_max: 8192,
});

export const tcpConnectionsTable = defineTable({
  name: 'tcp_connections',
  help: 'TCP connections that are open at the end of the interval, by process and state',
  kind: 'fold',
  dimensions: [
    ...processDimensions,
    { name: 'state', type: 'string', values: NAMES, help: 'state that they are in' },
  ],
  measures: [
    {
      name: 'connections',
      type: 'u64',
      unit: '1',
      fold: 'last',
      help: 'connections now; 0 is said once, when the last has gone',
    },
  ],
  rows_max: 65536,
});

function stateName(state: number): string {
  return STATES[state] || OTHER;
}

class ChangeDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #dims = new Float64Array(tcpStateTable.dimensions.length);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(tcpStateTable);
    this.#process = new ProcessColumns(context, this.#fold);
  }

  rows({ count, keys, values, key_size, value_stride }: MapEntries): void {
    const key_view = viewOf(keys);
    const view = viewOf(values);
    const dims = this.#dims;
    for (let i = 0; i < count; i += 1) {
      const key = i * key_size;
      const at = i * value_stride;
      const changes = u64(view, at + tcpstate_change.count);
      if (changes === 0) continue; // made by a program that another kept from its first count
      this.#process.fill(dims, view, at + tcpstate_change.owner_start_ns, owner);
      dims[NETNS] = key_view.getUint32(key + tcpstate_key.netns, true);
      const states = key_view.getUint8(key + tcpstate_key.change);
      dims[NETNS + 1] = this.#state(states >> 4);
      dims[NETNS + 2] = this.#state(states & 15);
      const row = this.#fold.addRow(dims, Float64Array.of(changes, Number.NaN), 0);
      addSlots(this.#fold, row, 1, view, at + tcpstate_change.lasted_sum);
    }
  }

  #state(state: number): number {
    return this.#process.word(stateName(state));
  }
}

interface Group {
  connections: number;
  /** A copy of the struct owner of one of them. */
  readonly owner: DataView;
  readonly state: number;
}

/** Counts the entries of the tcp probe's map. */
class ConnectionDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #groups = new Map<number, Group>();
  readonly #dims = new Float64Array(tcpConnectionsTable.dimensions.length);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(tcpConnectionsTable);
    this.#process = new ProcessColumns(context, this.#fold);
  }

  rows({ count, values, value_stride }: MapEntries): void {
    const view = viewOf(values);
    for (const group of this.#groups.values()) group.connections = 0;
    for (let i = 0; i < count; i += 1) this.#count(view, i * value_stride);
    for (const [key, group] of this.#groups) {
      this.#add(group);
      if (group.connections === 0) this.#groups.delete(key);
    }
  }

  #count(view: DataView, at: number): void {
    const state = view.getUint32(at + conn.tcp_state, true);
    if (state === 0 || state >= STATES_MAX) return; // made after the sweep
    const pid = view.getUint32(at + conn.owner_tgid, true);
    const key = pid * STATES_MAX + state;
    const group = this.#groups.get(key);
    if (group !== undefined) group.connections += 1;
    else if (this.#groups.size < GROUPS_MAX) this.#groups.set(key, this.#group(view, at, state));
  }

  #group(view: DataView, at: number, state: number): Group {
    const begin = view.byteOffset + at + conn.owner_start_ns;
    const bytes = new Uint8Array(view.buffer).slice(begin, begin + owner.SIZE);
    return { connections: 1, owner: viewOf(bytes), state };
  }

  #add({ connections, owner: bytes, state }: Group): void {
    const dims = this.#dims;
    this.#process.fill(dims, bytes, 0, owner);
    dims[processDimensions.length] = this.#process.word(stateName(state));
    this.#fold.add(dims, Float64Array.of(connections));
  }
}

export const tcpChanges: MapSource = {
  map: 'tcpstate',
  read: 'turns',
  front: front('tcpstate', tcpstate_slot, tcpstate_change.count),
  open: (context) => new ChangeDecoder(context),
};

export const tcpConnections: MapSource = {
  map: 'tcp_conns',
  read: 'copy',
  open: (context) => new ConnectionDecoder(context),
};

export const tcpstate: Probe = {
  name: 'tcpstate',
  help: 'TCP states: changes, how long each lasted, connections of each process now',
  tables: [tcpStateTable, tcpConnectionsTable],
  enabled_variable: 'tcpstate_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'changes',
      help: 'every change of state; times and connections need the tcp source as well',
      required: true,
      variants: [
        {
          name: 'tp_btf',
          programs: ['tcp_state'],
          needs: ['tp:inet_sock_set_state', 'atomics'],
          misses: MISSES,
        },
        {
          name: 'tp_btf without atomics',
          programs: ['tcp_state_510'],
          needs: ['tp:inet_sock_set_state', 'no-atomics'],
          misses: MISSES,
        },
      ],
    },
  ],
  sweeps: [],
  map_sources: [tcpChanges, tcpConnections],
  own_maps: [...pair('tcpstate'), frontOf('tcpstate')],
};
