// Whose traffic is captured: what is written into the maps that probes/capture/capture.bpf.h goes by. Selected are
// processes, or cgroups and pods with all below them; the ports on which selected processes listen follow from them, since the first
// request of a connection comes before any process has read from it.

import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { modeBits } from '../../probes/capture/capture.ts';
import type { BpfMap } from '../bpf/map.ts';
import type { Kernel } from './kernel.ts';

export type Mode = 'ingress' | 'egress' | 'all';
/** A process by its id on the host; a cgroup by its path from the root of cgroup v2, or by its id; a pod by its UID. */
export type Selected =
  | { readonly tgid: number }
  | { readonly cgroup: string | number }
  | { readonly pod: string };

const GROUPS_MAX = 4096;
const DEPTH_MAX = 16;
/** kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod<UID>.slice, and one. */
const POD_DEPTH_MAX = 5;
const FILES_MAX = 65_536;
const LISTEN = '0A';

export class CaptureSelection {
  readonly #procs: BpfMap;
  readonly #groups: BpfMap;
  readonly #ports: BpfMap;
  readonly #proc: string;
  readonly #cgroup_root: string;
  readonly #selected = new Map<string, { what: Selected; mode: Mode }>();
  /** Entries of `capture_ports` that the last refresh did not find again: gone if the next does not, either. */
  #doubtful = new Set<string>();
  /** Selections that a full map turned away. */
  refused = 0;

  constructor(kernel: Kernel, proc: string, cgroup_root: string) {
    this.#procs = kernel.map('capture_procs');
    this.#groups = kernel.map('capture_groups');
    this.#ports = kernel.map('capture_ports');
    this.#proc = proc;
    this.#cgroup_root = cgroup_root;
    const conns = kernel.map('capture_conns'); // those of a predecessor are to be announced again
    for (const map of [this.#procs, this.#groups, this.#ports, conns]) clear(map);
  }

  /** From now on; a mode that was given before is replaced. */
  select(what: Selected, mode: Mode): void {
    this.#selected.set(JSON.stringify(what), { what, mode });
    this.refresh();
  }

  unselect(what: Selected): void {
    if (!this.#selected.delete(JSON.stringify(what))) return;
    if ('tgid' in what) this.#procs.delete(bytes32(what.tgid));
    else for (const id of this.#groupsOf(what)) this.#groups.delete(bytes64(id));
    this.refresh();
    this.refresh(); // ports that were its own are gone at once
  }

  /** Each interval: new cgroups below selected ones, processes that are gone, ports that listen by now. */
  refresh(): void {
    const ports = new Map<string, { key: Uint8Array; bits: number }>();
    for (const [name, { what, mode }] of this.#selected) {
      const bits = modeBits(mode);
      if (!('tgid' in what)) {
        for (const id of this.#groupsOf(what)) this.#put(this.#groups, bytes64(id), bits);
      } else if (this.#lives(what.tgid)) {
        this.#put(this.#procs, bytes32(what.tgid), bits);
        for (const key of this.#listening(what.tgid)) ports.set(hex(key), { key, bits });
      } else {
        this.#selected.delete(name); // its number will be another's
        this.#procs.delete(bytes32(what.tgid));
      }
    }
    for (const { key, bits } of ports.values()) this.#put(this.#ports, key, bits);
    this.#forgetPorts(ports);
  }

  #put(map: BpfMap, key: Uint8Array, bits: number): void {
    try {
      map.update(key, bytes32(bits));
    } catch {
      this.refused += 1; // full
    }
  }

  /** What listen() added since the look at the processes is not found yet: it stays for a round. */
  #forgetPorts(found: ReadonlyMap<string, unknown>): void {
    const doubtful = new Set<string>();
    for (const key of keysOf(this.#ports)) {
      const name = hex(key);
      if (found.has(name)) continue;
      if (this.#doubtful.has(name)) this.#ports.delete(key);
      else doubtful.add(name);
    }
    this.#doubtful = doubtful;
  }

  #lives(tgid: number): boolean {
    try {
      return statSync(join(this.#proc, String(tgid))).isDirectory();
    } catch {
      return false; // gone
    }
  }

  #groupsOf(what: Exclude<Selected, { tgid: number }>): readonly number[] {
    if ('cgroup' in what) return this.#idsOf(what.cgroup);
    return this.#foldersOf(what.pod).flatMap((folder) => this.#idsOf(folder));
  }

  /** Those of a pod, wherever the kubelet and its runtime put it: `…pod<UID>`, in slices with `_` for `-`. */
  #foldersOf(uid: string): readonly string[] {
    const names = [`pod${uid}`, `pod${uid.replaceAll('-', '_')}.slice`];
    const found: string[] = [];
    const walk = (path: string, depth: number): void => {
      for (const name of foldersIn(join(this.#cgroup_root, path))) {
        if (names.some((end) => name === end || name.endsWith(`-${end}`))) {
          found.push(`${path}/${name}`);
        } else if (depth < POD_DEPTH_MAX) {
          walk(`${path}/${name}`, depth + 1);
        }
      }
    };
    walk('', 1);
    return found;
  }

  /** The cgroup and all below it. */
  #idsOf(cgroup: string | number): readonly number[] {
    if (typeof cgroup === 'number') return [cgroup];
    const ids: number[] = [];
    const walk = (folder: string, depth: number): void => {
      if (ids.length >= GROUPS_MAX || depth > DEPTH_MAX) return;
      try {
        ids.push(statSync(folder).ino);
      } catch {
        return; // gone while we looked
      }
      for (const name of foldersIn(folder)) walk(join(folder, name), depth + 1);
    };
    walk(join(this.#cgroup_root, cgroup), 0);
    return ids;
  }

  /** Keys of `capture_ports`: network namespace and port of each listening socket of the process. */
  #listening(tgid: number): readonly Uint8Array[] {
    const folder = join(this.#proc, String(tgid));
    const keys: Uint8Array[] = [];
    try {
      const netns = Number(/\d+/.exec(readlinkSync(join(folder, 'ns/net')))?.[0]);
      const sockets = this.#sockets(folder);
      for (const table of ['net/tcp', 'net/tcp6']) {
        for (const line of readFileSync(join(folder, table), 'latin1').split('\n').slice(1)) {
          const words = line.trim().split(/\s+/);
          if (words[3] !== LISTEN || !sockets.has(words[9] ?? '')) continue;
          const port = Number.parseInt(words[1]?.split(':')[1] ?? '', 16);
          keys.push(new Uint8Array(Uint32Array.of(netns, port).buffer));
        }
      }
    } catch {
      // gone, or hidden from us
    }
    return keys;
  }

  /** Inode numbers of the sockets that the process has open. */
  #sockets(folder: string): ReadonlySet<string> {
    const inodes = new Set<string>();
    for (const file of readdirSync(join(folder, 'fd')).slice(0, FILES_MAX)) {
      try {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(join(folder, 'fd', file)))?.[1];
        if (inode !== undefined) inodes.add(inode);
      } catch {
        // closed meanwhile
      }
    }
    return inodes;
  }
}

/** Names; none if it is gone. */
function foldersIn(folder: string): readonly string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return [];
  }
}

function keysOf(map: BpfMap): readonly Uint8Array[] {
  const keys: Uint8Array[] = [];
  let last: Uint8Array | null = null;
  for (let n = 0; n < map.maxEntries; n += 1) {
    const next = new Uint8Array(map.keySize);
    if (!map.getNextKey(last, next)) break;
    keys.push(next);
    last = next;
  }
  return keys;
}

function clear(map: BpfMap): void {
  for (const key of keysOf(map)) map.delete(key);
}

function bytes32(number: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(number).buffer);
}

function bytes64(number: number): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(number)).buffer);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
