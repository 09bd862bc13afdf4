// Checks of rights: capabilities by source, and SELinux, which may refuse what the capabilities allow.

import { heldCapabilities, missingRights } from '../config/rights.ts';
import { isWanted, type Probe } from '../table/probe.ts';
import { about, type Check, type Finding, fail, ok, type Place, skip, warn } from './check.ts';

export function isEnabled({ config }: Place, probe: Probe): boolean {
  return config.collector.enabled && isWanted(probe, config.collector.probes);
}

/** Those that the process lacks for this source. */
export function lacking({ machine }: Place, { rights }: Probe): readonly string[] {
  return missingRights(rights, heldCapabilities(machine.read('/proc/self/status') ?? ''));
}

function list(names: Iterable<string>, strip: boolean): string {
  return [...new Set(names)].map((name) => (strip ? name.replace('CAP_', '') : name)).join(', ');
}

/** Three ways to give exactly these rights. */
function giveRights(names: readonly string[]): string {
  const setcap = list(names, false).toLowerCase().replaceAll(', ', ',');
  const systemd = list(names, false).replaceAll(',', '');
  return `Run it as root (sudo ./sonde …), or give these rights alone. To a copy of Node that only sonde's group may start:
  sudo setcap ${setcap}+ep PATH_TO_NODE
In a systemd unit:
  AmbientCapabilities=${systemd}
In Kubernetes:
  securityContext: {capabilities: {add: [${list(names, true)}]}}`;
}

export const capabilities: Check = {
  id: 'capabilities',
  what: 'this process has the rights that a source needs',
  why: 'without them the kernel refuses its programs ("Operation not permitted")',
  cure: giveRights(['CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN']),
  look: (place) => place.probes.map((probe) => about(probe.name, rightsFor(place, probe))),
};

function rightsFor(place: Place, probe: Probe): Finding {
  if (!isEnabled(place, probe)) return skip('switched off by configuration');
  const missing = lacking(place, probe);
  if (missing.length === 0) return ok(`has ${probe.rights.join(', ')}`);
  const found = `user ${place.machine.user} lacks ${missing.join(', ')}`;
  return fail(found, giveRights(probe.rights));
}

const SELINUX_MODULE = `Allow BPF to the domain that sonde runs in; for privileged containers (spc_t) save this as sonde_bpf.te:
  module sonde_bpf 1.0;
  require { type spc_t; class bpf { map_create map_read map_write prog_load prog_run }; }
  allow spc_t self:bpf { map_create map_read map_write prog_load prog_run };
and load it:
  checkmodule -M -m -o sonde_bpf.mod sonde_bpf.te
  semodule_package -o sonde_bpf.pp -m sonde_bpf.mod
  semodule -i sonde_bpf.pp
What is refused stands in the audit log:
  ausearch -m AVC -c node`;

/** Domains that policies leave free. */
const FREE_DOMAINS = /:(unconfined_t|unconfined_service_t|initrc_t):/;

export const selinux: Check = {
  id: 'selinux',
  what: 'SELinux lets this process use BPF',
  why: 'an enforcing policy refuses BPF to confined domains, containers among them, whatever rights the process has',
  cure: SELINUX_MODULE,
  look: ({ machine }) => {
    const enforce = machine.read('/sys/fs/selinux/enforce')?.trim();
    if (enforce === undefined) return ok('not enabled');
    if (enforce !== '1') return ok('permissive');
    const context = (machine.read('/proc/self/attr/current') ?? '').replaceAll('\0', '').trim();
    if (FREE_DOMAINS.test(context)) return ok(`enforcing; this process is free (${context})`);
    return warn(
      `enforcing; this process runs as ${context === '' ? 'an unknown domain' : context}`,
    );
  },
};
