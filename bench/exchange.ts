// What the kernel programs add to a request and its response, where one thread has both ends of the connection: nothing but the
// kernel's way of both packets and the programs on it, so that some tens of nanoseconds show. Turn about as in attached.ts;
// `node bench/exchange.ts` prints it, of other sources with `--sources tcp,udp,dns`.

import { type Arm, loadArms, turnAbout } from './arms.ts';
import { type Figure, printFigures, quartiles, type RunOptions } from './figure.ts';
import { attach } from './floor.ts';
import { tool } from './loads.ts';
import { undoOnSignals, withCleanup } from './process.ts';
import { cannotRun } from './sonde.ts';

interface Case {
  readonly name: string;
  readonly words: Readonly<Record<string, number>>;
}

const CASES: readonly Case[] = [
  { name: 'keep-alive', words: { count: 8000, connections: 16, close: 0 } },
  { name: 'a connection each', words: { count: 1500, close: 1 } },
];

async function exchange(arm: Arm, { words }: Case): Promise<number> {
  const links = arm.programs.map(attach);
  const { count, ns } = await tool<{ count: number; ns: number }>('exchange', words);
  for (const link of links) link.close();
  return ns / count;
}

async function caseFigures(one: Case, arms: readonly Arm[], rounds: number): Promise<Figure[]> {
  const done = await turnAbout(arms, rounds, (arm) => exchange(arm, one));
  return arms.flatMap(({ name }, i) => {
    const label = `${one.name}, ${name}`;
    if (i === 0)
      return [
        quartiles(
          label,
          'ns/request',
          done.map(([nothing]) => nothing!),
        ),
      ];
    const more = done.map((round) => round[i]! - round[0]!);
    return [quartiles(`${label}: more than nothing`, 'ns/request', more)];
  });
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const arms = await loadArms();
  const figures: Figure[] = [];
  for (const one of CASES) figures.push(...(await caseFigures(one, arms, options.quick ? 5 : 40)));
  return figures;
}

export async function run(options: RunOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [{ name: 'exchange', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
