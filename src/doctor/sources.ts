// Checks of the sources themselves: what loads and attaches here, by a real trial; or, while a collector runs, what that
// one says of itself, so that nothing is loaded beside it.

import type { SourceReport } from '../collector/plan.ts';
import type { Probe } from '../table/probe.ts';
import {
  about,
  type Check,
  type Finding,
  fail,
  ok,
  type Place,
  type SourceRow,
  skip,
  warn,
  wordsOf,
} from './check.ts';
import { isEnabled, lacking } from './rights.ts';

const OTHERS_GO_ON = 'The other sources go on.';
const TRACEPOINT = /no tracepoint (\w+)/;

export const source: Check = {
  id: 'source',
  what: 'the programs of a source load and attach',
  why: 'this is the proof: the kernel itself accepts them or says why not. One source that fails stops no other',
  cure: `The finding names the program and the verifier's last line, or what the kernel lacks. Where a tracepoint is missing,
see which ones there are:
  mount -t tracefs tracefs /sys/kernel/tracing
  grep inet_sock_set_state /sys/kernel/tracing/available_events
Switch a source off that you do not need: collector.probes.<source>.enabled: false`,
  look: async (place) => {
    const findings = new Map<string, Finding>();
    for (const probe of place.probes) {
      const missing = lacking(place, probe);
      if (!isEnabled(place, probe)) {
        findings.set(probe.name, skip('switched off by configuration'));
      } else if (missing.length > 0) {
        const cure = 'Run sonde doctor with the rights of the check `capabilities`.';
        findings.set(probe.name, skip(`not tried: needs ${missing.join(', ')}`, cure));
      }
    }
    const open = place.probes.filter(({ name }) => !findings.has(name));
    for (const [name, finding] of await tryOut(place, open)) findings.set(name, finding);
    return place.probes.map(({ name }) => about(name, findings.get(name) ?? skip('not tried')));
  },
};

/** Name of the source → finding. */
async function tryOut(place: Place, open: readonly Probe[]): Promise<ReadonlyMap<string, Finding>> {
  const all = (finding: Finding) => new Map(open.map(({ name }) => [name, finding]));
  if (open.length === 0) return new Map();
  if (await place.running.pinsHeld()) return await askCollector(place, open);
  const unbuilt = place.build.addon() ?? place.build.object();
  if (unbuilt !== undefined) return all(skip('not tried: see the checks `addon` and `object`'));
  try {
    const reports = await place.running.trial();
    return new Map(reports.map((report) => [report.source, findingOf(report)]));
  } catch (error) {
    return all(fail(`nothing can be loaded: ${wordsOf(error)}`));
  }
}

async function askCollector(
  { running }: Place,
  open: readonly Probe[],
): Promise<ReadonlyMap<string, Finding>> {
  try {
    const rows = await running.report();
    return new Map(open.map((probe) => [probe.name, findingOfRows(probe, rows)]));
  } catch (error) {
    const found = `a collector runs here, and no reducer gives its report: ${wordsOf(error)}`;
    const cure = 'Read its log (log.file_path), or start the reducer.';
    return new Map(open.map(({ name }) => [name, skip(found, cure)]));
  }
}

/** From a trial. */
export function findingOf(report: SourceReport): Finding {
  const { source: name, state, reason, parts } = report;
  if (state === 'off') return skip(reason);
  if (state !== 'on') return failedSource(name, reason);
  return partsFinding(parts, '');
}

/** From the rows of `sonde_source`: one for each part. */
export function findingOfRows({ name, parts }: Probe, rows: readonly SourceRow[]): Finding {
  const own = rows.filter((row) => row.source === name);
  if (own.length === 0) return skip('the running collector has not reported yet');
  const whole = own.find(({ part }) => part === '');
  if (whole !== undefined && whole.state === 'off') return skip(whole.reason);
  const lost = own.filter(({ state }) => state !== 'on');
  // A part that could be had stays idle when a required one could not: its row says on all the same.
  const required = new Set(parts.filter((part) => part.required).map((part) => part.name));
  const fatal = lost.filter(({ part }) => part === '' || required.has(part));
  if (fatal.length > 0) return failedSource(name, reasonsOf(fatal));
  return partsFinding(own, 'as the running collector says: ');
}

interface PartState {
  readonly part: string;
  readonly state: string;
  readonly variant: string;
  readonly reason: string;
}

function partsFinding(parts: readonly PartState[], head: string): Finding {
  const on = parts.filter(({ state }) => state === 'on');
  // nobody asked for them, or nobody runs what they look at
  const idle = parts.filter(({ state }) => state === 'off');
  const lost = parts.filter(({ state }) => state !== 'on' && state !== 'off');
  const words = on.map(({ part, variant, reason }) => {
    return `${part} by ${variant}${reason === '' ? '' : ` (${reason})`}`;
  });
  const off = idle.length === 0 ? '' : `; off: ${reasonsOf(idle)}`;
  const found = `${head}${words.join(', ')}${off}`;
  if (lost.length === 0) return ok(found);
  return warn(`${found}; without ${reasonsOf(lost)}`, cureOf(reasonsOf(lost)));
}

function reasonsOf(parts: readonly PartState[]): string {
  return parts.map(({ part, reason }) => `${part}: ${reason}`).join('; ');
}

function failedSource(name: string, reason: string): Finding {
  return fail(`Failed to load ${name} programs: ${reason}`, `${cureOf(reason)} ${OTHERS_GO_ON}`);
}

function cureOf(reason: string): string {
  if (reason.includes('fail_sources')) {
    return 'Take it out of collector.fail_sources (variable SONDE_FAIL_SOURCE).';
  }
  const tracepoint = TRACEPOINT.exec(reason)?.[1];
  if (tracepoint !== undefined) {
    return `Use a kernel that has the tracepoint:\n  grep ${tracepoint} /sys/kernel/tracing/available_events\n`;
  }
  return 'See docs/kernels.md for what each kernel can do, or switch off what this one cannot.';
}

export const program_runs: Check = {
  id: 'program-runs',
  what: 'the kernel runs every program, every time',
  why: 'it skips a program that interrupts itself on one CPU, and counts that: events were missed',
  cure: `A few in millions come from interrupts. If it grows, look for another BPF program that loads the same hooks:
  bpftool prog list`,
  look: ({ running }) => {
    try {
      const programs = running.programs();
      if (programs.length === 0) return skip('no collector has programs pinned here');
      const missed = programs.filter((one) => one.missed > 0);
      if (missed.length === 0) return ok(`${programs.length} programs, no run skipped`);
      return warn(missed.map((one) => `${one.program} skipped ${one.missed}`).join(', '));
    } catch (error) {
      return skip(`the pinned programs cannot be read: ${wordsOf(error)}`);
    }
  },
};
