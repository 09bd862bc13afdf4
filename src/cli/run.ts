// `sonde run`: collector and reducer on one machine, each a process of its own, and a table of the connections seen.

import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { probes } from '../../probes/index.ts';
import { ConfigError } from '../config/error.ts';
import { formatHostPort } from '../config/leaf.ts';
import { refusalOf } from '../config/rights.ts';
import { disagreements, intakeOf, listenOf, ownReducer, type Role } from '../config/role.ts';
import type { Config } from '../config/schema.ts';
import { openReducer, type Questions, seconds } from './asking.ts';
import type { Call } from './call.ts';
import { Child, type RoleMessage } from './child.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { connectionsTable } from './flows.ts';
import { configOf, configWords } from './options.ts';

const STOP_MS = 15_000;
const FIRST_TABLE_MS = 1000;
const ANSWER_S = 30;
/** Who ends it by a signal waits for the last table no longer than this. */
const LAST_TABLE_MS = 5000;
const ROWS = 25;

export async function run(given: Call): Promise<number> {
  const call = withListen(given);
  const { config, originOf } = configOf('run', call);
  const faults = disagreements(config, originOf);
  if (faults.length > 0) throw new ConfigError(faults);
  const for_s = call.options['--for'];
  const limit_ms = for_s === undefined ? undefined : seconds(for_s, '--for') * 1000;
  const gathers = config.collector.enabled && process.platform === 'linux';
  if (gathers) checkRights();
  else say(`INFO eBPF collector: ${idleReason()}, metrics will be empty`);
  const from = new Date();
  const stop = whenAsked();
  const ended = stop.signal;
  const roles = makeRoles(call, config, gathers);
  for (const role of roles) {
    const status = await Promise.race([role.start(), asked(ended)]);
    if (status === undefined) continue;
    await stopAll(roles);
    return status;
  }
  // Whoever read the table has gone (`| head`): the roles go on, the table does not.
  process.stdout.on('error', () => undefined);
  process.on('SIGHUP', () => {
    for (const role of roles) role.signal('SIGHUP');
  });
  if (limit_ms !== undefined) setTimeout(() => stop.abort(TIME_IS_UP), limit_ms).unref();
  try {
    await watch(config, from, ended);
  } catch (error) {
    // The reducer is away, or its store is: the roles take care of themselves, the tables end here.
    say(error instanceof Error ? error.message : String(error));
    if (!ended.aborted) await once(ended, 'abort');
  }
  return await stopAll(roles);
}

function withListen(call: Call): Call {
  const { config, originOf } = configOf('run', call);
  const listen = listenOf(config, originOf);
  if (listen === undefined) return call;
  return { ...call, options: { ...call.options, '--listen': formatHostPort(listen) } };
}

/** Tables until it is time to stop, and a last one with all that was seen. */
async function watch(config: Config, from: Date, ended: AbortSignal): Promise<void> {
  const at = { ...ownReducer(config), origin: '--reducer' };
  const questions = await openReducer(at, ANSWER_S * 1000);
  const tables = async () => {
    await showTables(questions, from, config.collector.interval, ended);
    await questions.fresh();
    await show(questions, from);
  };
  try {
    if ((await Promise.race([tables(), late(ended)])) === 'late') {
      say('no last table: the reducer does not answer, or has not stored all rows yet');
    }
  } finally {
    await questions.close();
  }
}

async function late(ended: AbortSignal): Promise<'late'> {
  if (!ended.aborted) await once(ended, 'abort');
  const limit_ms = ended.reason === TIME_IS_UP ? 2 * ANSWER_S * 1000 : LAST_TABLE_MS;
  return await delay(limit_ms, 'late', { ref: false });
}

/** Before anything is started: there is no half start. */
function checkRights(): void {
  const refusal = refusalOf(probes.map(({ name, rights }) => ({ name, rights })));
  if (refusal !== undefined) throw new CliError(refusal, EXIT_OPERATOR);
}

function idleReason(): string {
  return process.platform === 'linux' ? 'switched off by configuration' : 'not running on Linux';
}

function makeRoles(call: Call, config: Config, gathers: boolean): readonly Child[] {
  const words = (role: Role) => configWords(call, role);
  const { host, port } = intakeOf(config);
  const intake = ['--intake-host', host, '--intake-port', String(port)];
  const common = { say, onReady: announce };
  const reducer = new Child({ ...common, role: 'reducer', words: words('reducer') });
  if (!gathers) return [reducer];
  const collector = [...words('collector'), ...intake];
  return [reducer, new Child({ ...common, role: 'kernel-collector', words: collector })];
}

function announce(message: RoleMessage): void {
  if (message.ready === 'reducer') {
    say(
      `reducer: intake on port ${message.port}, ` +
        `metrics at http://127.0.0.1:${message.metrics_port}/metrics`,
    );
    return;
  }
  const sources = message.sources as readonly { source: string; state: string; reason: string }[];
  for (const { source, state, reason } of sources) {
    say(`collector: ${source} ${state}${reason === '' ? '' : ` (${reason})`}`);
  }
}

function say(line: string): void {
  process.stderr.write(`sonde: ${line}\n`);
}

const TIME_IS_UP = 'the time given is up';

/** Aborted by INT or TERM; a second INT ends it at once. */
function whenAsked(): AbortController {
  const stop = new AbortController();
  process.on('SIGINT', () => (stop.signal.aborted ? process.exit(1) : stop.abort()));
  process.on('SIGTERM', () => stop.abort());
  return stop;
}

/** The exit status of who is asked to end before all is up. */
async function asked(ended: AbortSignal): Promise<0> {
  if (!ended.aborted) await once(ended, 'abort');
  return 0;
}

/** The first as soon as there is something, then one each interval; in place on a terminal. */
async function showTables(
  questions: Questions,
  from: Date,
  interval_ms: number,
  ended: AbortSignal,
): Promise<void> {
  let wait = FIRST_TABLE_MS;
  while (!ended.aborted) {
    // aborted: the last table comes next
    await delay(wait, undefined, { signal: ended }).catch(() => undefined);
    if (ended.aborted) return;
    // without it the table shows what there is
    if (wait === FIRST_TABLE_MS) await questions.fresh().catch(() => undefined);
    if (process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[2J');
    await show(questions, from).catch((error: Error) => say(`no table: ${error.message}`));
    wait = interval_ms;
  }
}

async function show(questions: Questions, from: Date): Promise<void> {
  const rows = process.stdout.isTTY ? Math.max(5, (process.stdout.rows ?? ROWS) - 5) : ROWS;
  process.stdout.write(`${await connectionsTable(questions, { from, rows, sort: 'read' })}\n`);
}

async function stopAll(roles: readonly Child[]): Promise<number> {
  let status = 0;
  for (const role of [...roles].reverse()) status = Math.max(status, await role.stop(STOP_MS));
  return status;
}
