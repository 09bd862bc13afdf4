// Which programs are loaded, as kernels and refusals would have it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { probes } from '../../probes/index.ts';
import type { Need, Probe, Right, Variant } from '../table/probe.ts';
import { probeOptions } from '../table/testing.ts';
import { giveWay, makePlan, type Plan, type SourceReport } from './plan.ts';

const best: Variant = { name: 'best', programs: ['a', 'b'], needs: ['tp:new'] };
const next: Variant = { name: 'next', programs: ['c'], needs: [], misses: 'the half' };

const sample: Probe = {
  name: 'sample',
  help: 'a source',
  tables: [],
  sweeps: [],
  rights: ['CAP_BPF'],
  enabled_variable: 'sample_enabled',
  parts: [
    { name: 'core', help: 'what it is for', required: true, variants: [best, next] },
    {
      name: 'more',
      help: 'what it can do without',
      required: false,
      variants: [{ name: 'only', programs: ['d'], needs: ['btf:thing'] }],
    },
  ],
};

function plan(options: {
  probes?: readonly Probe[];
  off?: string;
  lacks?: readonly Need[];
  refused?: Readonly<Record<string, string>>;
  lacking?: readonly Right[];
  failing?: string;
}): Plan {
  return makePlan({
    probes: options.probes ?? [sample],
    isEnabled: ({ name }) => name !== options.off,
    options: probeOptions,
    unmet: (need) => (options.lacks?.includes(need) ? `no ${need}` : undefined),
    lacking: ({ rights }) => rights.filter((right) => options.lacking?.includes(right)),
    refused: new Map(Object.entries(options.refused ?? {})),
    fail_sources: options.failing === undefined ? [] : [options.failing],
  });
}

function only({ sources }: Plan): SourceReport {
  assert.equal(sources.length, 1);
  return sources[0]!;
}

test('the best variant of each part is taken', () => {
  const made = plan({});
  assert.deepEqual([...made.programs].sort(), ['a', 'b', 'd']);
  const { state, reason, parts, rights } = only(made);
  assert.deepEqual([state, reason, rights], ['on', '', ['CAP_BPF']]);
  assert.deepEqual(
    parts.map(({ part, state, variant, reason }) => [part, state, variant, reason]),
    [
      ['core', 'on', 'best', ''],
      ['more', 'on', 'only', ''],
    ],
  );
});

test('an unmet need takes the next variant, and says why and what it misses', () => {
  const made = plan({ lacks: ['tp:new'] });
  assert.deepEqual([...made.programs].sort(), ['c', 'd']);
  const [core] = only(made).parts;
  assert.deepEqual(
    [core?.state, core?.variant, core?.reason],
    ['on', 'next', 'best: no tp:new; misses: the half'],
  );
});

test('one refused program takes its whole variant out', () => {
  const made = plan({ refused: { b: 'invalid argument' } });
  assert.deepEqual([...made.programs].sort(), ['c', 'd']);
  assert.equal(only(made).parts[0]?.reason, 'best: b: invalid argument; misses: the half');
});

test('a part that is not required may be missing', () => {
  const made = plan({ lacks: ['btf:thing'] });
  assert.deepEqual([...made.programs].sort(), ['a', 'b']);
  const { state, parts } = only(made);
  assert.deepEqual([state, parts[1]?.state, parts[1]?.variant], ['on', 'unsupported', '']);
  assert.equal(parts[1]?.reason, 'only: no btf:thing');
});

test('without a required part nothing of the source is loaded', () => {
  const refused = { a: 'first reason', c: 'second reason' };
  const made = plan({ refused });
  assert.deepEqual([...made.programs], []);
  const { state, reason, parts } = only(made);
  assert.deepEqual([state, reason], ['failed', 'best: a: first reason; next: c: second reason']);
  assert.deepEqual(
    parts.map(({ programs }) => programs),
    [[], []],
  );
});

test('what no variant of can be had for want of the kernel is unsupported', () => {
  const [core, more] = sample.parts;
  const needy = { ...core!, variants: [best] };
  const made = plan({ probes: [{ ...sample, parts: [needy, more!] }], lacks: ['tp:new'] });
  assert.deepEqual([only(made).state, only(made).reason], ['unsupported', 'best: no tp:new']);
});

test('what is switched off asks for nothing', () => {
  const made = plan({ off: 'sample', refused: { a: 'x', c: 'x' } });
  assert.deepEqual([...made.programs], []);
  assert.deepEqual([only(made).state, only(made).parts], ['off', []]);
});

/** Kernels by what they lack; `no-atomics` is lacking where atomics are there. */
const KERNELS: Readonly<Record<string, readonly Need[]>> = {
  '6.18': ['no-atomics'],
  '6.1': ['no-atomics', 'tp:sock_recv_length', 'tp:sock_send_length'],
  '5.10': ['atomics', 'task storage', 'tp:sock_recv_length', 'tp:sock_send_length'],
};

/** Parts that have no way there. */
const MISSING_510 = [
  ...['tcp: unsent', 'http', 'tls'],
  ...['syscalls: latency', 'fileio: latency', 'scheduler', 'memory: totals'],
];

for (const [kernel, lacks] of Object.entries(KERNELS)) {
  test(`on a kernel like ${kernel} every part of every probe has a variant`, () => {
    const { sources, programs } = plan({ probes, lacks });
    const missing: string[] = [];
    for (const { source, state, parts } of sources) {
      if (state !== 'on') missing.push(source);
      for (const part of parts) {
        if (state === 'on' && part.state !== 'on') missing.push(`${source}: ${part.part}`);
      }
    }
    assert.deepEqual(missing, kernel === '5.10' ? MISSING_510 : []);
    const both = [...programs].filter((name) => programs.has(`${name}_510`));
    assert.deepEqual(both, [], 'two variants of one program would count twice');
  });
}

test('a source that lacks a right is off, says which, and the others go on', () => {
  const other: Probe = { ...sample, name: 'other', rights: ['CAP_BPF', 'CAP_NET_ADMIN'] };
  const made = plan({ probes: [sample, other], lacking: ['CAP_NET_ADMIN'] });
  assert.deepEqual(
    made.sources.map(({ source, state, lacking }) => [source, state, lacking]),
    [
      ['sample', 'on', []],
      ['other', 'off', ['CAP_NET_ADMIN']],
    ],
  );
  assert.match(made.sources[1]!.reason, /lacks CAP_NET_ADMIN \(sonde doctor --grant\)/);
});

test('a source that is made to fail takes no program with it that another needs', () => {
  const other: Probe = { ...sample, name: 'other' };
  const made = plan({ probes: [sample, other], failing: 'sample' });
  assert.deepEqual(
    made.sources.map(({ source, state }) => [source, state]),
    [
      ['sample', 'failed'],
      ['other', 'on'],
    ],
  );
  assert.deepEqual([...made.programs].sort(), ['a', 'b', 'd']);
});

test('of sources that share a refused program the one that yields first gives way', () => {
  const heavy: Probe = { ...sample, name: 'heavy', yields: 2 };
  const heavier: Probe = { ...sample, name: 'heavier', yields: 1 };
  const all = [sample, heavy, heavier];
  const program = sample.parts[0]!.variants[0]!.programs[0]!;
  const made = plan({ probes: all });
  assert.equal(giveWay(program, made, all), 'heavier');
  assert.equal(giveWay(program, plan({ probes: [sample, heavy] }), [sample, heavy]), 'heavy');
  assert.equal(giveWay(program, plan({ probes: [heavy] }), [heavy]), undefined, 'it is alone');
  assert.equal(giveWay(program, plan({ probes: [sample] }), [sample]), undefined);
  const gave_way = new Map([['heavier', 'too large']]);
  const { sources } = makePlan({
    ...{ probes: all, isEnabled: () => true, options: probeOptions, gave_way },
    ...{ unmet: () => undefined, lacking: () => [], refused: new Map() },
  });
  const is = sources.find(({ source }) => source === 'heavier');
  assert.deepEqual([is?.state, is?.reason], ['unsupported', 'too large']);
});
