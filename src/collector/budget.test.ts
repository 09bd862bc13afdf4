// Steps down and up of a source, sample by sample.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Budget, type BudgetLimits, type Cost } from './budget.ts';

const STEPS = new Map([
  ['udp', 2],
  ['tcp', 1],
]);

/** In a second. */
function cost(time_ns: number, runs = 1000): Cost {
  return { runs, time_ns, elapsed_ns: 1e9 };
}

const DEAR = cost(50_000_000);
const CHEAP = cost(1000);

function budget(limits: BudgetLimits) {
  const made = new Budget(limits, STEPS);
  const levels = (source: string, costs: readonly Cost[]) =>
    costs.map((one) => {
      made.judge(source, one);
      return made.levelOf(source);
    });
  return { made, levels };
}

test('without a budget nothing happens', () => {
  const { levels } = budget({});
  assert.deepEqual(levels('udp', [DEAR, DEAR]), [0, 0]);
});

test('a dear source takes a step with each sample, down to off and no further', () => {
  const { made, levels } = budget({ cpu: 0.01 });
  assert.deepEqual(levels('udp', [CHEAP, DEAR, DEAR, DEAR]), [0, 1, 2, 2]);
  assert.deepEqual(levels('tcp', [DEAR, DEAR]), [1, 1]);
  assert.equal(made.judge('unknown', DEAR), undefined);
});

test('by time of one run as well; the reason says the figures', () => {
  const { made } = budget({ ns: 50 });
  assert.equal(made.judge('udp', cost(50_000)), undefined);
  assert.deepEqual(made.judge('udp', cost(51_000)), {
    source: 'udp',
    from: 0,
    to: 1,
    reason: '51 ns a run, of 50 allowed',
  });
  assert.equal(made.judge('tcp', { runs: 0, time_ns: 0, elapsed_ns: 0 }), undefined);
  const { made: shares } = budget({ cpu: 0.005 });
  const change = shares.judge('udp', DEAR);
  assert.equal(change?.reason, '5% of a processor, of 0.5% allowed');
});

test('it comes back when it was calm, one step at a time', () => {
  const { levels } = budget({ cpu: 0.01 });
  assert.deepEqual(levels('udp', [DEAR, DEAR]), [1, 2]);
  const calm = Array.from({ length: 7 }, () => CHEAP);
  assert.deepEqual(levels('udp', calm), [2, 2, 1, 1, 1, 0, 0]);
});

test('who falls again at once has to be calm for longer each time', () => {
  const { levels, made } = budget({ cpu: 0.01 });
  const waits: number[] = [];
  levels('tcp', [DEAR]);
  for (let round = 0; round < 7; round += 1) {
    let samples = 0;
    while (made.levelOf('tcp') > 0) {
      levels('tcp', [CHEAP]);
      samples += 1;
    }
    waits.push(samples);
    levels('tcp', [DEAR]);
  }
  assert.deepEqual(waits, [3, 6, 12, 24, 48, 96, 96]);
  levels(
    'tcp',
    Array.from({ length: 96 + 7 }, () => CHEAP),
  );
  assert.deepEqual(levels('tcp', [DEAR, CHEAP, CHEAP, CHEAP]), [1, 1, 1, 0], 'forgiven');
});

test('a budget that is lifted brings everything back', () => {
  const { levels, made } = budget({ cpu: 0.01 });
  assert.deepEqual(levels('udp', [DEAR, DEAR]), [1, 2]);
  made.limits = {};
  assert.deepEqual(levels('udp', [DEAR, DEAR, DEAR]), [1, 0, 0]);
});
