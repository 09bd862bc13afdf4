// Checks of what sonde runs on: system, kernel release, processor, C library, clock, configuration.

import { type Check, fail, ok, skip, warn } from './check.ts';

/** Below this nobody has tried it. */
const RELEASE_MIN = [5, 10] as const;
const ARCHITECTURES = ['x64', 'arm64'];
const YEAR_MIN = 2025;

/** `6.1.0-rc3` → [6, 1]; undefined where there are no two numbers. */
export function releaseNumbers(release: string): readonly [number, number] | undefined {
  const match = /^(\d+)\.(\d+)/.exec(release);
  return match ? [Number(match[1]), Number(match[2])] : undefined;
}

export function isBefore(release: string, [major, minor]: readonly [number, number]): boolean {
  const found = releaseNumbers(release);
  return found !== undefined && (found[0] < major || (found[0] === major && found[1] < minor));
}

export const linux: Check = {
  id: 'linux',
  what: 'the system is Linux',
  why: 'the kernel collector sees through eBPF, which is part of Linux: elsewhere it sees nothing',
  cure: 'Run the collector on Linux. A reducer and the questions to it need no kernel rights.',
  look: ({ machine }) => {
    if (machine.platform === 'linux') return ok('Linux');
    return skip(`${machine.platform}: not running on Linux, metrics will be empty`);
  },
};

export const kernel_release: Check = {
  id: 'kernel-release',
  what: 'the kernel is 5.10 or later',
  why: 'older kernels lack the ring buffer or BTF-typed tracepoints and are past their end of life',
  cure: `Install a kernel of 5.10 or later. A distribution that carries the features back may do all the same: the
check \`source\` tells by trial.`,
  look: ({ machine }) => {
    const { release } = machine;
    if (releaseNumbers(release) === undefined) return warn(`${release}, which is no release`);
    return isBefore(release, RELEASE_MIN) ? warn(`${release}, untested`) : ok(release);
  },
};

export const architecture: Check = {
  id: 'architecture',
  what: 'the processor is x86-64 or arm64',
  why: 'the pinned Node comes for these two, and the programs are tried on these alone',
  cure: 'Run it on x86-64 or arm64.',
  look: ({ machine: { arch } }) => (ARCHITECTURES.includes(arch) ? ok(arch) : warn(arch)),
};

export const libc: Check = {
  id: 'libc',
  what: 'the C library is glibc',
  why: 'the pinned Node and the embedded store are built against glibc',
  cure: 'Use an image with glibc (Debian, Ubuntu, Fedora) in place of one with musl (Alpine).',
  look: ({ machine: { glibc } }) => (glibc === undefined ? fail('no glibc') : ok(`glibc ${glibc}`)),
};

export const clock: Check = {
  id: 'clock',
  what: 'the clock is right',
  why: 'rows carry the time of this machine: with a clock in the past retention deletes them, and certificates are not yet valid',
  cure: `Set the clock, and keep it by NTP:
  timedatectl set-ntp true`,
  look: ({ machine: { now_ms } }) => {
    const now = new Date(now_ms);
    const found = `${now.toISOString().slice(0, 19)}Z`;
    return now.getUTCFullYear() < YEAR_MIN ? fail(`it is ${found}, which is past`) : ok(found);
  },
};

export const configuration: Check = {
  id: 'configuration',
  what: 'the configuration is understood whole',
  why: 'a key or a variable that sonde does not know does not do what it was written for',
  cure: `Correct what is named; docs/configuration.md lists every key, variable and flag. The configuration
in force stands in the log at start.`,
  look: ({ config_file, config_warnings }) => {
    const from = config_file === '' ? 'no file; variables, flags and defaults' : config_file;
    if (config_warnings.length === 0) return ok(from);
    return warn(config_warnings.join('; '));
  },
};
