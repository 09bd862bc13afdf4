// What the kernel programs cost a server, by the processor time of server and client: a load of a third of a second without
// them, with empty ones, and with sonde's, turn about, so that whatever else the machine does falls on all alike. Each load has
// connections of its own: those that are older than the programs go other ways in them.
// `node bench/attached.ts` prints it, of other sources with `--sources tcp,udp,dns`, against another server with
// `--server go` or `--server node`, of empty programs alone with `--empty cgroup_skb/ingress,cgroup_skb/egress`. Empty programs
// on the same hooks show what calling any program costs there: the kernel's own statistics (programs.ts) leave that out.

import { setTimeout as delay } from 'node:timers/promises';
import { type Arm, loadArms, turnAbout } from './arms.ts';
import { type Figure, printFigures, quartiles, type RunOptions } from './figure.ts';
import { attach } from './floor.ts';
import { startWrk } from './loads.ts';
import { cpuTimeUs } from './machine.ts';
import { undoOnSignals, withCleanup } from './process.ts';
import { cannotRun } from './sonde.ts';
import { type Server, startAskedServer } from './web.ts';

const SLICE_MS = 300;
/** Attaching is through, the load has begun, and what they disturbed is over. */
const SETTLE_MS = 60;
const LOAD_SECONDS = 2;

interface Slice {
  readonly cpu_us: number;
  readonly per_second: number;
}

async function slice(arm: Arm, server: Server, close: boolean): Promise<Slice> {
  const links = arm.programs.map(attach);
  const load = { port: server.port, connections: 16, close, seconds: LOAD_SECONDS };
  const client = await startWrk(load);
  await delay(SETTLE_MS);
  const cpu = () => server.cpuUs() + cpuTimeUs(client.pid);
  const before = { cpu: cpu(), requests: await server.requests(), ms: performance.now() };
  await delay(SLICE_MS);
  const after = { cpu: cpu(), requests: await server.requests(), ms: performance.now() };
  await client.stop('SIGINT');
  for (const link of links) link.close();
  const requests = after.requests - before.requests;
  return {
    cpu_us: (after.cpu - before.cpu) / requests,
    per_second: (requests / (after.ms - before.ms)) * 1000,
  };
}

function loadFigures(
  load: string,
  unit: string,
  arms: readonly Arm[],
  all: readonly (readonly Slice[])[],
): Figure[] {
  return arms.flatMap(({ name }, i) => {
    const cpu = quartiles(
      `${load}, ${name}: CPU`,
      unit,
      all.map((round) => round[i]!.cpu_us),
    );
    if (i === 0) return [cpu];
    const more = all.map((round) => round[i]!.cpu_us - round[0]!.cpu_us);
    const share = all.map((round) => round[0]!.cpu_us / round[i]!.cpu_us);
    const served = all.map((round) => round[i]!.per_second / round[0]!.per_second);
    return [
      cpu,
      quartiles(`${load}, ${name}: CPU, more than nothing`, unit, more),
      quartiles(`${load}, ${name}: RATIO by CPU`, '1', share),
      quartiles(`${load}, ${name}: RATIO of requests`, '1', served),
    ];
  });
}

async function measure(options: RunOptions): Promise<readonly Figure[]> {
  const count = options.quick ? 5 : 40;
  const arms = await loadArms();
  const server = await startAskedServer();
  const keepalive = await turnAbout(arms, count, (arm) => slice(arm, server, false));
  const churn = await turnAbout(arms, count, (arm) => slice(arm, server, true));
  return [
    ...loadFigures('keep-alive', 'us/request', arms, keepalive),
    ...loadFigures('churn', 'us/connection', arms, churn),
  ];
}

export async function run(options: RunOptions = {}): Promise<readonly Figure[]> {
  const why = cannotRun();
  if (why !== undefined) return [{ name: 'attached', value: Number.NaN, unit: '', note: why }];
  return withCleanup(() => measure(options));
}

if (import.meta.main) {
  undoOnSignals();
  printFigures(await run({ quick: process.argv.includes('--quick') }));
}
