// `sonde start`: the document's agent. The collector alone, with a page of `tfo_ebpf_*` metrics of its own: no reducer,
// no store, nothing on disk.

import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { probes, tables } from '../../probes/index.ts';
import { configInForce } from '../config/describe.ts';
import { SUB_COLLECTORS } from '../config/document.ts';
import { formatHostPort } from '../config/leaf.ts';
import { type Log, openLog } from '../config/log.ts';
import { refusalOf } from '../config/rights.ts';
import type { Config } from '../config/schema.ts';
import { PrometheusOutlet } from '../outlet/prometheus.ts';
import { tfo_metrics } from '../outlet/tfo.ts';
import { TfoOutlet } from '../outlet/tfo_series.ts';
import { alive, type HttpPort, servePages } from '../reducer/http.ts';
import type { Batch } from '../table/columns.ts';
import { ledgerTable } from '../table/ledger.ts';
import { isWanted } from '../table/probe.ts';
import { selfTables } from '../table/self.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { keepSmall } from './kernel-collector.ts';
import { lifetime, tellParent } from './lifetime.ts';
import { configOf } from './options.ts';
import { reloadOnHup } from './reload.ts';

const NAME = 'tfo-agent';

/** What the collector holds back for no one: there is nobody to wait for. */
const STOP_MS = 0;

export async function run(call: Call): Promise<number> {
  const { config, warnings } = configOf('agent', call);
  const gathers = config.collector.enabled && process.platform === 'linux';
  if (gathers) checkRights(config);
  const log = openLog(config.log, { name: NAME });
  for (const warning of warnings) log.logger.warn(warning);
  const agent = new Agent(config);
  const { port } = await agent.serve(config.agent.metrics);
  const at = formatHostPort({ ...config.agent.metrics, port });
  const { stop, ended } = gathers
    ? await gather(call, config, agent, log)
    : idle(call, config, log);
  log.logger.info(`metrics at ${at}/metrics`);
  tellParent({ ready: 'agent', port });
  log.logger.info(`stopping: ${await ended}`);
  await stop();
  await agent.close();
  return 0;
}

interface Work {
  readonly ended: Promise<string>;
  readonly stop: () => Promise<void>;
}

/** Elsewhere than on Linux the page is there and empty. */
function idle(call: Call, config: Config, log: Log): Work {
  const why =
    process.platform === 'linux' ? 'switched off by configuration' : 'not running on Linux';
  log.logger.info(`eBPF collector: ${why}, metrics will be empty`);
  reloadOnHup('agent', call, config, log);
  const { ended } = lifetime(log.logger, () => undefined);
  // The page alone does not keep the process where it has no connection.
  const stay = setInterval(() => undefined, 1 << 30);
  return { ended, stop: async () => clearInterval(stay) };
}

async function gather(call: Call, config: Config, agent: Agent, log: Log): Promise<Work> {
  log.logger.info({ config: configInForce(config) }, 'the configuration in force');
  const { Collector } = await import('../collector/collector.ts');
  const started: { collector?: Awaited<ReturnType<typeof Collector.start>> } = {};
  // Before the first program is attached: who ends us from here on ends us in order.
  const { ended } = lifetime(log.logger, () => started.collector?.abandon());
  const { logger } = log;
  const collector = await Collector.start({
    config,
    log: logger,
    version: call.version,
    to: { reader: (batch, now_ms) => agent.take(batch, now_ms) },
    nameOf: subCollectorOf,
  });
  started.collector = collector;
  reloadOnHup('agent', call, config, log, (next) => collector.reload(next));
  keepSmall();
  return { ended, stop: async () => void (await collector.stop(STOP_MS)) };
}

/** The name that the document has for the work of a source. */
function subCollectorOf(source: string): string {
  const found = [...SUB_COLLECTORS].find(([, sources]) => sources.includes(source));
  return found?.[0] ?? source;
}

/** Of the sources that are wanted. */
function checkRights({ collector }: Config): void {
  const wanted = probes.filter((probe) => isWanted(probe, collector.probes));
  const refusal = refusalOf(wanted.map(({ name, rights }) => ({ name, rights })));
  if (refusal !== undefined) throw new CliError(refusal, EXIT_OPERATOR);
}

/** The page: the document's metrics, and what the collector says of itself. */
class Agent {
  readonly #page = new PrometheusOutlet([...selfTables, ledgerTable]);
  readonly #tfo: TfoOutlet;
  readonly #host = hostname();
  #port: HttpPort | undefined;

  constructor({ collector }: Config) {
    const inside = join(collector.host_dir, 'proc');
    const proc = existsSync(join(inside, 'stat')) ? inside : '/proc';
    const isAlive = (pid: string) => existsSync(join(proc, pid));
    this.#tfo = new TfoOutlet(this.#page, tfo_metrics, tables, { isAlive });
  }

  take(batch: Batch, now_ms: number): void {
    this.#page.add(batch, this.#host, now_ms);
    this.#tfo.add(batch, now_ms);
    if (batch.definition === ledgerTable) this.#tfo.expire(now_ms); // once an interval
  }

  async serve(at: Config['agent']['metrics']): Promise<HttpPort> {
    const page = { content_type: this.#page.content_type, text: () => this.#page.text() };
    const pages = new Map([
      ['/metrics', page],
      ['/healthz', alive],
      ['/livez', alive],
    ]);
    this.#port = await servePages(at, pages);
    return this.#port;
  }

  async close(): Promise<void> {
    await this.#port?.close();
  }
}
