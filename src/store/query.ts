// A user's SQL: guarded, limited, read-only, in a session of its own; the answer as a stream.

import type { Readable } from 'node:stream';
import type { Engine, Settings } from './engine.ts';
import { failure, failureOf, type StoreFailure } from './failure.ts';
import { refusal, withoutEnd } from './guard.ts';

export type OutputFormat = 'table' | 'json' | 'csv' | 'arrow';

export interface QueryLimits {
  readonly time_s: number;
  readonly memory_bytes: number;
  readonly result_bytes: number;
  readonly result_rows: number;
}

export const LIMITS_DEFAULT: QueryLimits = {
  time_s: 30,
  memory_bytes: 1024 ** 3,
  result_bytes: 256 * 1024 ** 2,
  result_rows: 10_000_000,
};

export interface Question {
  readonly sql: string;
  readonly format: OutputFormat;
  readonly limits: Partial<QueryLimits>;
  /** Aborts when nobody waits for the answer any more: the engine then stops working on it. */
  readonly signal: AbortSignal | undefined;
}

export interface QueryOutput {
  readonly ok: true;
  readonly content_type: string;
  /** Must be read to its end or destroyed: it holds a place among the queries. */
  readonly stream: Readable;
}

export type QueryResult = QueryOutput | StoreFailure;

interface FormatSpec {
  readonly name: string;
  readonly content_type: string;
  readonly settings: Settings;
}

/** `json` is one array of objects; 64-bit numbers are numbers, exact below 2^53. */
const FORMATS: Readonly<Record<OutputFormat, FormatSpec>> = {
  table: {
    name: 'PrettyCompactMonoBlock',
    content_type: 'text/plain; charset=utf-8',
    settings: {
      output_format_pretty_color: '0',
      output_format_pretty_row_numbers: 0,
      output_format_pretty_max_rows: 10_000,
      output_format_pretty_single_large_number_tip_threshold: 0,
      output_format_pretty_highlight_digit_groups: 0,
    },
  },
  json: {
    name: 'JSONEachRow',
    content_type: 'application/json',
    settings: {
      output_format_json_array_of_rows: 1,
      output_format_json_quote_64bit_integers: 0,
    },
  },
  csv: {
    name: 'CSVWithNames',
    content_type: 'text/csv; charset=utf-8',
    // Nothing at all, which is not the empty text (""): most readers take \N for a text.
    settings: { format_csv_null_representation: '' },
  },
  arrow: {
    name: 'ArrowStream',
    content_type: 'application/vnd.apache.arrow.stream',
    settings: {
      output_format_arrow_compression_method: 'none',
      output_format_arrow_low_cardinality_as_dictionary: 1,
      output_format_arrow_string_as_string: 1,
    },
  },
};

export function isOutputFormat(text: string): text is OutputFormat {
  return Object.hasOwn(FORMATS, text);
}

/** `release` is called once, when nothing of the query is left. */
export async function runQuery(
  engine: Engine,
  { sql, format, limits, signal }: Question,
  release: () => void,
): Promise<QueryResult> {
  const refused = refusal(sql);
  if (refused !== undefined) {
    release();
    return refused;
  }
  const { name, content_type, settings } = FORMATS[format];
  const all = { ...settings, ...limitSettings({ ...LIMITS_DEFAULT, ...limits }) };
  try {
    const stream = await engine.output(`${withoutEnd(sql)}\nFORMAT ${name}`, all, signal);
    stream.once('close', release);
    return { ok: true, content_type, stream };
  } catch (error) {
    release();
    return signal?.aborted ? cancelled() : failureOf(error, sql);
  }
}

/** Read by nobody but a log: who asked has gone. */
export function cancelled(): StoreFailure {
  return failure('cancelled', 'Nobody waits for the answer any more');
}

/** `readonly` comes last: after it the session takes no more settings. */
function limitSettings(limits: QueryLimits): Settings {
  return {
    max_execution_time: limits.time_s,
    timeout_overflow_mode: 'throw',
    max_memory_usage: String(limits.memory_bytes),
    max_result_bytes: String(limits.result_bytes),
    max_result_rows: String(limits.result_rows),
    result_overflow_mode: 'throw',
    allow_introspection_functions: 0,
    readonly: '1',
  };
}

/** The whole output in memory, for answers known to be small; a failure of the stream as a value. */
export async function collect(result: QueryResult): Promise<Buffer | StoreFailure> {
  if (!result.ok) return result;
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of result.stream) chunks.push(Buffer.from(chunk));
  } catch (error) {
    return failure('engine', failureOf(error).message);
  }
  return Buffer.concat(chunks);
}
