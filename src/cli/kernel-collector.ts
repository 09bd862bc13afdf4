// `sonde kernel-collector`: one per node, needs rights, holds no store.

import { hostname } from 'node:os';
import { probes } from '../../probes/index.ts';
import { trimMemory } from '../bpf/memory.ts';
import { Collector } from '../collector/collector.ts';
import { configInForce } from '../config/describe.ts';
import { openLog } from '../config/log.ts';
import { refusalOf } from '../config/rights.ts';
import { intakeOf, intakeTls } from '../config/role.ts';
import type { Config } from '../config/schema.ts';
import { asker, leaveControl, listenForControl } from '../wire/ask.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { lifetime, tellParent } from './lifetime.ts';
import { configOf } from './options.ts';
import { reloadOnHup } from './reload.ts';

/** What the reducer may take for the last rows when the collector stops. */
const STOP_MS = 5000;
/** Loading, and each compilation of a hot function, leave freed megabytes with the C library. */
const TRIM_MS = 10_000;

export async function run(call: Call): Promise<number> {
  const { config, warnings } = configOf('collector', call);
  const refusal = refusalOf(probes.map(({ name, rights }) => ({ name, rights })));
  if (refusal !== undefined) throw new CliError(refusal, EXIT_OPERATOR);
  const log = openLog(config.log, { name: 'kernel-collector' });
  for (const warning of warnings) log.logger.warn(warning);
  log.logger.info({ config: configInForce(config) }, 'the configuration in force');
  const intake = intakeOf(config);
  const started: { collector?: Collector } = {};
  // Before the first program is attached: who ends us from here on ends us in order.
  const { ended } = lifetime(log.logger, () => started.collector?.abandon());
  const { logger } = log;
  const { version } = call;
  const collector = await Collector.start({ config, log: logger, version, to: { intake } });
  started.collector = collector;
  reloadOnHup('collector', call, config, log, (next) => collector.reload(next));
  const stop = new AbortController();
  const listening = listen(collector, config, intake, stop.signal);
  const sources = collector.kernel.plan.sources.map(({ source, state, reason }) => ({
    source,
    state,
    reason,
  }));
  keepSmall();
  tellParent({ ready: 'collector', sources, taken_over: collector.kernel.taken_over });
  log.logger.info(`stopping: ${await ended}`);
  stop.abort();
  const whole = await collector.stop(STOP_MS);
  await listening.leave(collector.delivered);
  return whole ? 0 : 1;
}

/** What only the start needed goes at the first turn, code included; after that V8's own pace does. */
export function keepSmall(): void {
  setTimeout(() => globalThis.gc?.({ execution: 'sync', flavor: 'last-resort' }), TRIM_MS).unref();
  setInterval(trimMemory, TRIM_MS).unref();
}

/** The reducer asks for fresh rows over a call that the collector keeps open. */
function listen(
  collector: Collector,
  config: Config,
  intake: { host: string; port: number },
  signal: AbortSignal,
): { leave(delivered: boolean): Promise<void> } {
  const { token } = config.collector;
  const tls = intakeTls(config);
  const asking = asker({
    ...intake,
    ...(token !== undefined && { token }),
    ...(tls !== undefined && { tls }),
  });
  const who = { collector_id: collector.id, host: hostname() };
  void listenForControl(asking, { ...who, on_flush: () => collector.flush(), signal });
  return {
    leave: async (delivered) => {
      await leaveControl(asking, who, delivered);
      asking.close();
    },
  };
}
