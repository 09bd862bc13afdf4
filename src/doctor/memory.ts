// Checks of memory: what the maps and the ring take, against what there is.

import { heldCapabilities } from '../config/rights.ts';
import type { Config } from '../config/schema.ts';
import { bytes, type Check, fail, ok, skip, warn } from './check.ts';
import type { Machine } from './machine.ts';
import { isBefore } from './platform.ts';

/** From here on maps are charged to the cgroup's memory in place of the limit of locked memory. */
const RELEASE_OF_MEMCG = [5, 11] as const;
/** Key, value and the kernel's own part of a full map's entry, rounded up. */
const ENTRY_BYTES = { socket: 256, flow: 256, http: 1152, process: 512 } as const;
/** Share of the memory above which sonde would be in the way of what it watches. */
const SHARE_MAX = 0.25;

/** The most that the maps and the ring can take, bytes. */
export function kernelMemoryMax({ collector }: Config): number {
  const { sockets_max, processes_max } = collector.maps;
  const { socket, flow, http, process } = ENTRY_BYTES;
  const sockets = sockets_max * (socket + flow / 2 + http / 4); // as many entries as the probes say
  return collector.ring_bytes + sockets + processes_max * process;
}

export const memlock: Check = {
  id: 'memlock',
  what: 'maps may be locked in memory',
  why: 'before Linux 5.11 maps count against the limit of locked memory, and one too many is refused with "Operation not permitted"',
  cure: `Lift the limit: LimitMEMLOCK=infinity in the systemd unit, docker run --ulimit memlock=-1, or give the right to do so
(CAP_SYS_RESOURCE). In a shell:
  ulimit -l unlimited`,
  look: ({ machine, config }) => {
    if (!isBefore(machine.release, RELEASE_OF_MEMCG)) return ok('not limited on this kernel');
    const status = machine.read('/proc/self/status') ?? '';
    if (heldCapabilities(status).has('CAP_SYS_RESOURCE')) return ok('CAP_SYS_RESOURCE lifts it');
    const limits = machine.read('/proc/self/limits') ?? '';
    const hard = /^Max locked memory\s+\S+\s+(\S+)/m.exec(limits)?.[1];
    if (hard === undefined) return skip('/proc/self/limits cannot be read');
    if (hard === 'unlimited') return ok('unlimited');
    const need = kernelMemoryMax(config);
    const found = `${bytes(Number(hard))}, for maps of up to ${bytes(need)}`;
    return Number(hard) < need ? fail(found) : ok(found);
  },
};

/** Memory of the machine, or of this cgroup where that is less. */
function memoryOf(machine: Machine): number | undefined {
  const total = /^MemTotal:\s+(\d+) kB/m.exec(machine.read('/proc/meminfo') ?? '')?.[1];
  const limits = ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes']
    .map((path) => Number(machine.read(path)?.trim()))
    .filter((limit) => Number.isFinite(limit) && limit > 0);
  const all = total === undefined ? limits : [...limits, Number(total) * 1024];
  return all.length === 0 ? undefined : Math.min(...all);
}

export const ring_memory: Check = {
  id: 'ring-memory',
  what: 'ring and maps fit into memory',
  why: 'the ring is kernel memory that cannot be swapped out; too large a one is refused, or takes memory from what is watched',
  cure: 'Make the ring or the maps smaller: collector.ring_bytes, collector.maps.sockets_max, collector.maps.processes_max.',
  look: ({ machine, config }) => {
    const memory = memoryOf(machine);
    if (memory === undefined) return skip('/proc/meminfo cannot be read');
    const ring = config.collector.ring_bytes;
    const most = kernelMemoryMax(config);
    const found = `ring ${bytes(ring)}, with maps at most ${bytes(most)}, of ${bytes(memory)}`;
    if (ring > memory) return fail(found);
    return most > memory * SHARE_MAX ? warn(found) : ok(found);
  },
};
