// `sonde query 'SQL'`: the answer on standard output, everything else on standard error.

import type { OutputFormat } from '../store/query.ts';
import { safeLines } from '../table/text.ts';
import { openQuestions } from './asking.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_FAILED, EXIT_OPERATOR } from './failure.ts';
import { print } from './output.ts';

const FORMATS: readonly string[] = ['table', 'json', 'csv', 'arrow'];

export async function run(call: Call): Promise<number> {
  const sql = call.args[0] ?? '';
  const format = String(call.options['--format']);
  if (!isFormat(format)) {
    throw new CliError(`--format ${format}: take one of ${FORMATS.join(', ')}`, EXIT_OPERATOR);
  }
  const questions = await openQuestions(call);
  try {
    let status = 0;
    if (call.options['--fresh'] === true) {
      const stale = await questions.fresh();
      if (stale !== undefined) {
        process.stderr.write(`sonde: the answer may lack the newest rows: ${safeLines(stale)}\n`);
        status = EXIT_FAILED;
      }
    }
    print(shownAnswer(format, await questions.query(sql, format)));
    return status;
  } finally {
    await questions.close();
  }
}

/** A table is for people: what a terminal would obey is taken out of it. The other formats stay exact. */
export function shownAnswer(format: OutputFormat, answer: Buffer): Buffer {
  return format === 'table' ? Buffer.from(safeLines(answer.toString('utf8'))) : answer;
}

function isFormat(text: string): text is OutputFormat {
  return FORMATS.includes(text);
}
