// How commands reach a running reducer, or, where none runs, the embedded store in a data folder.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { formatHostPort, isToken, parseHostPort } from '../config/leaf.ts';
import type { ReducerAt } from '../config/role.ts';
import type { OutputFormat } from '../store/query.ts';
import { type Asker, asker, askFlush } from '../wire/ask.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { reducerOf } from './options.ts';

export interface Questions {
  /** The answer in the format, whole. @throws {CliError} with the engine's words. */
  query(sql: string, format: OutputFormat): Promise<Buffer>;
  /** Rows as objects. */
  rows<Row>(sql: string): Promise<readonly Row[]>;
  /** Waits until all that the kernel saw is stored; returns words where that could not be had. */
  fresh(): Promise<string | undefined>;
  close(): Promise<void>;
}

export async function openQuestions(call: Call): Promise<Questions> {
  const { options } = call;
  const at = named(options) ?? reducerOf(call);
  const timeout_ms = seconds(options['--timeout'], '--timeout') * 1000;
  const token = text(options['--token']) ?? process.env.SONDE_TOKEN ?? at.token;
  if (token !== undefined && !isToken(token)) {
    const cure = 'give printable ASCII characters alone: --token, SONDE_TOKEN';
    throw new CliError(`the token cannot be sent in a header; ${cure}`, EXIT_OPERATOR);
  }
  const ca = text(options['--ca']);
  const tls = ca === undefined ? at.tls : { ca };
  const dir = text(options['--data-dir']);
  return await openReducer(
    { ...at, ...(token !== undefined && { token }), ...(tls !== undefined && { tls }) },
    timeout_ms,
    dir,
  );
}

/** `dir`: where its store is, if it does not run. */
export async function openReducer(
  at: ReducerAt,
  timeout_ms: number,
  dir?: string,
): Promise<Questions> {
  const asking = asker({ ...at, timeout_ms });
  try {
    await asking.action('health', {}, 5000);
    return askReducer(asking, timeout_ms);
  } catch (error) {
    asking.close();
    if (dir !== undefined && existsSync(join(dir, 'store'))) return await askStore(dir);
    const why = error instanceof Error ? error.message : String(error);
    if (why.startsWith('unauthenticated'))
      throw new CliError(`the reducer at ${place(at)} refuses (${why}): --token, collector.token`);
    const cure =
      dir === undefined
        ? 'start `sonde run`, or name it: --reducer HOST:PORT'
        : `and ${dir} has no store`;
    throw new CliError(`no reducer answers at ${place(at)} (${why}); ${cure}`);
  }
}

/** By its flag, which takes no token and no TLS from the configuration: these are of another reducer. */
function named(options: Call['options']): ReducerAt | undefined {
  const address = text(options['--reducer']);
  if (address === undefined) return undefined;
  const where = parseHostPort(address);
  if (where !== undefined) return { ...where, origin: '--reducer' };
  throw new CliError(`--reducer ${address}: write HOST:PORT, IPv6 in brackets`, EXIT_OPERATOR);
}

function place(at: ReducerAt): string {
  const { origin } = at;
  const address = formatHostPort(at);
  const plain = origin === 'default' || origin === '--reducer';
  return plain ? address : `${address}, as ${origin} says`;
}

/** Node's timers hold no more than 2^31 ms, less what is added to a time: 23 days. */
const SECONDS_MAX = 2_000_000;

export function seconds(value: string | boolean | undefined, flag: string): number {
  const number = Number(value);
  if (number > 0 && number <= SECONDS_MAX) return number;
  const cure = `give a number of seconds above 0, ${SECONDS_MAX} at most`;
  throw new CliError(`${flag} ${String(value)}: ${cure}`, EXIT_OPERATOR);
}

function text(value: string | boolean | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function askReducer(asking: Asker, timeout_ms: number): Questions {
  const query = async (sql: string, format: OutputFormat): Promise<Buffer> => {
    try {
      return await asking.action('query', { sql, format }, timeout_ms);
    } catch (error) {
      throw new CliError(messageOf(error));
    }
  };
  return {
    query,
    rows: async (sql) => JSON.parse((await query(sql, 'json')).toString('utf8')),
    fresh: async () => {
      const report = await askFlush(asking, timeout_ms).catch((error: unknown) => {
        throw new CliError(`the rows up to now: ${messageOf(error)}`);
      });
      if (report.complete && report.collectors.length > 0) return undefined;
      return report.message.slice(0, 1).toLowerCase() + report.message.slice(1);
    },
    close: async () => asking.close(),
  };
}

/** Opens the store itself: nobody else has it, or this fails with the cure. */
async function askStore(dir: string): Promise<Questions> {
  const { Store } = await import('../store/client.ts');
  const { collect } = await import('../store/query.ts');
  const { tables } = await import('../../probes/index.ts');
  const store = await Store.open({ target: { dir: join(dir, 'store') }, tables });
  const query = async (sql: string, format: OutputFormat): Promise<Buffer> => {
    const answer = await collect(await store.query(sql, format));
    if (!Buffer.isBuffer(answer)) throw new CliError(answer.message);
    return answer;
  };
  return {
    query,
    rows: async (sql) => JSON.parse((await query(sql, 'json')).toString('utf8')),
    fresh: async () => 'no reducer runs: this is what the store has',
    close: () => store.close(),
  };
}
