// How commands reach a running reducer, or, where none runs, the embedded store in a data folder.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseHostPort } from '../config/leaf.ts';
import type { OutputFormat } from '../store/query.ts';
import { type Asker, asker, askFlush } from '../wire/ask.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import type { Call } from './program.ts';

export interface Questions {
  /** The answer in the format, whole. @throws {CliError} with the engine's words. */
  query(sql: string, format: OutputFormat): Promise<Buffer>;
  /** Rows as objects. */
  rows<Row>(sql: string): Promise<readonly Row[]>;
  /** Waits until all that the kernel saw is stored; returns words where that could not be had. */
  fresh(): Promise<string | undefined>;
  close(): Promise<void>;
}

export async function openQuestions({ options }: Call): Promise<Questions> {
  const address = text(options['--reducer']) ?? '127.0.0.1:8000';
  const where = parseHostPort(address);
  if (where === undefined) {
    throw new CliError(`--reducer ${address}: write HOST:PORT, IPv6 in brackets`, EXIT_OPERATOR);
  }
  const timeout_ms = seconds(options['--timeout'], '--timeout') * 1000;
  const token = text(options['--token']) ?? process.env.SONDE_TOKEN;
  const ca = text(options['--ca']);
  const asking = asker({
    ...where,
    timeout_ms,
    ...(token !== undefined && { token }),
    ...(ca !== undefined && { tls: { ca } }),
  });
  try {
    await asking.action('health', {}, 5000);
    return askReducer(asking, timeout_ms);
  } catch (error) {
    asking.close();
    const dir = text(options['--data-dir']);
    if (dir !== undefined && existsSync(join(dir, 'store'))) return await askStore(dir);
    const why = error instanceof Error ? error.message : String(error);
    const cure =
      dir === undefined
        ? 'start `sonde run`, or name it: --reducer HOST:PORT'
        : `and ${dir} has no store`;
    throw new CliError(`no reducer answers at ${address} (${why}); ${cure}`);
  }
}

export function seconds(value: string | boolean | undefined, flag: string): number {
  const number = Number(value);
  if (Number.isFinite(number) && number > 0) return number;
  throw new CliError(`${flag} ${String(value)}: give a number of seconds above 0`, EXIT_OPERATOR);
}

function text(value: string | boolean | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function askReducer(asking: Asker, timeout_ms: number): Questions {
  const query = async (sql: string, format: OutputFormat): Promise<Buffer> => {
    try {
      return await asking.action('query', { sql, format }, timeout_ms);
    } catch (error) {
      throw new CliError(error instanceof Error ? error.message : String(error));
    }
  };
  return {
    query,
    rows: async (sql) => JSON.parse((await query(sql, 'json')).toString('utf8')),
    fresh: async () => {
      const report = await askFlush(asking, timeout_ms);
      if (report.collectors.length === 0) return 'no collector is connected';
      return report.complete ? undefined : report.message;
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
