// The network namespaces of the host, each by a process that is in it: /proc/PID/net shows the counters of that namespace
// without entering it. One that only a mount keeps, with no process in it, is not seen.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Netns } from '../table/probe.ts';
import { NO_CGROUP, readCgroup } from './proc.ts';

/** Beyond these the rest is not looked at. */
const NETNS_MAX = 1024;
const FILES = ['snmp', 'netstat', 'snmp6'] as const;
const PID = /^[1-9]\d*$/;

/** What the counters of each say now. */
export function readNetns(proc: string): readonly Netns[] {
  const found = new Map<number, Netns>();
  for (const pid of readdirSync(proc)) {
    if (!PID.test(pid)) continue;
    const inode = netnsOf(proc, pid);
    if (inode === undefined || found.has(inode)) continue;
    const counters = FILES.map((name) => readText(join(proc, pid, 'net', name)));
    if (counters[0] === '') continue; // gone meanwhile
    const { path, container_id } = readCgroup(Number(pid), proc) ?? NO_CGROUP;
    found.set(inode, { inode, counters, path, container_id });
    if (found.size === NETNS_MAX) break;
  }
  return [...found.values()];
}

function netnsOf(proc: string, pid: string): number | undefined {
  try {
    const inode = /^net:\[(\d+)\]$/.exec(readlinkSync(join(proc, pid, 'ns/net')))?.[1];
    return inode === undefined ? undefined : Number(inode);
  } catch {
    return undefined; // gone, or another user's
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // gone, or a kernel without IPv6
  }
}
