// Who holds a socket: from the tables of /proc/net to the process, as far as this user may look.

import type { Machine } from './machine.ts';

export interface Holder {
  readonly pid: number;
  readonly command: readonly string[];
}

/** Socket inode → the process that has it open; those of other users are seen by root alone. */
export function holdersOf(
  inodes: ReadonlySet<number>,
  machine: Machine,
): ReadonlyMap<number, Holder> {
  const found = new Map<number, Holder>();
  if (inodes.size === 0) return found;
  for (const pid of machine.list('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const fd of machine.list(`/proc/${pid}/fd`)) {
      const target = machine.link(`/proc/${pid}/fd/${fd}`) ?? '';
      const inode = Number(/^socket:\[(\d+)\]$/.exec(target)?.[1]);
      if (inodes.has(inode))
        found.set(inode, { pid: Number(pid), command: commandOf(pid, machine) });
    }
    if (found.size === inodes.size) break;
  }
  return found;
}

function commandOf(pid: string, machine: Machine): readonly string[] {
  return (machine.read(`/proc/${pid}/cmdline`) ?? '').split('\0').filter((word) => word !== '');
}

/** What Node runs of sonde: the sources, or the bundle of one role. */
const PROGRAM = /\/(src\/cli\/main\.ts|build\/js\/[a-z-]+\.mjs)$/;

/** The role where it is a sonde, else undefined. */
export function sondeRole({ command }: Holder): string | undefined {
  const main = command.findIndex((word) => PROGRAM.test(word));
  return main < 0 ? undefined : (command[main + 1] ?? '');
}

/** `sonde reducer (pid 7)`, `nginx (pid 12)` */
export function holderName(holder: Holder): string {
  const role = sondeRole(holder);
  const name = role === undefined ? (holder.command[0] ?? 'a process') : `sonde ${role}`;
  return `${name.slice(name.lastIndexOf('/') + 1)} (pid ${holder.pid})`;
}

const LISTENING = '0A';

/** Inodes of sockets that listen on the port, of any address. Text of /proc/net/tcp and tcp6. */
export function listeners(text: string, port: number): readonly number[] {
  return text
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => state === LISTENING && portOf(local ?? '') === port)
    .map((fields) => Number(fields[9]));
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
}

/** Inodes of the locks that collectors hold. Text of /proc/net/unix; src/collector/pin_lock.ts has the name. */
export function collectorLocks(text: string): readonly number[] {
  return text
    .split('\n')
    .map((line) => /\s(\d+)\s@sonde-[0-9a-f]{16}\0*$/.exec(line)?.[1])
    .filter((inode) => inode !== undefined)
    .map(Number);
}
