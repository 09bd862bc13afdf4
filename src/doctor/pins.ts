// Checks of what collectors left or hold: pins without a collector, more than one collector on the machine.

import { findMount } from '../bpf/features.ts';
import { type Check, ok, type Place, skip, warn } from './check.ts';
import { mountsOf } from './mounts.ts';
import { collectorLocks, holderName, holdersOf } from './processes.ts';

export const pins: Check = {
  id: 'pins',
  what: 'no programs are left without a collector',
  why: 'after kill -9 programs go on counting for a successor, and cost what they cost until one comes or they are removed',
  cure: `Start the collector again, which takes them over without a gap, or remove them:
  sonde detach`,
  look: async ({ machine, config, running }) => {
    const { pin_path } = config.collector;
    const bpffs = findMount('bpf', mountsOf(machine));
    if (bpffs === undefined) return skip('no BPF file system');
    const hidden = [bpffs, pin_path].find((path) => machine.has(path) && !machine.enterable(path));
    if (hidden !== undefined) return skip(`${hidden} cannot be read by ${machine.user}`);
    const names = machine.list(pin_path);
    if (names.length === 0) return ok(`nothing in ${pin_path}`);
    if (await running.pinsHeld()) return ok(`${pin_path}, in use by a collector`);
    return warn(`${names.length} entries in ${pin_path}, and no collector runs`);
  },
};

export const collector: Check = {
  id: 'collector',
  what: 'at most one collector runs on this machine',
  why: 'each one loads its own programs: two cost twice, and their rows count everything twice',
  cure: 'Stop all but one. A second one on purpose needs its own collector.pin_path and data_dir.',
  look: (place) => {
    const names = runningCollectors(place);
    if (names.length === 0) return ok('none runs now');
    const found = names.join(', ');
    return names.length === 1 ? ok(found) : warn(`${names.length} run: ${found}`);
  },
};

function runningCollectors({ machine }: Place): readonly string[] {
  const locks = [...new Set(collectorLocks(machine.read('/proc/net/unix') ?? ''))];
  const holders = holdersOf(new Set(locks), machine);
  return locks.map((inode) => {
    const holder = holders.get(inode);
    return holder === undefined ? "another user's process" : holderName(holder);
  });
}
