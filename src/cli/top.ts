// `sonde top`: the same table live, where there is no browser. Keys: r w n c t p sort, q ends.

import { setTimeout as delay } from 'node:timers/promises';
import { openQuestions, type Questions } from './asking.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { connectionsTable, type Sort } from './flows.ts';
import { print } from './output.ts';

const REFRESH_MS = 2000;
const WINDOW_MS = 60_000;
const ROWS_UNLIMITED = 1000;
const KEYS: Readonly<Record<string, Sort>> = {
  r: 'read',
  w: 'written',
  n: 'new',
  c: 'closed',
  t: 'rtt',
  p: 'process',
};
const SORTS: readonly string[] = Object.values(KEYS);
const ALTERNATE_SCREEN = '\x1b[?1049h\x1b[?25l';
const MAIN_SCREEN = '\x1b[?25h\x1b[?1049l';

export async function run(call: Call): Promise<number> {
  const sort = String(call.options['--sort']);
  if (!isSort(sort)) {
    throw new CliError(`--sort ${sort}: take one of ${SORTS.join(', ')}`, EXIT_OPERATOR);
  }
  const questions = await openQuestions(call);
  try {
    if (call.options['--once'] === true || !process.stdout.isTTY) await once(questions, sort);
    else await live(questions, sort);
    return 0;
  } finally {
    await questions.close();
  }
}

function isSort(text: string): text is Sort {
  return SORTS.includes(text);
}

async function once(questions: Questions, sort: Sort): Promise<void> {
  await questions.fresh();
  const from = new Date(Date.now() - WINDOW_MS);
  print(`${await connectionsTable(questions, { from, rows: ROWS_UNLIMITED, sort })}\n`);
}

async function live(questions: Questions, first: Sort): Promise<void> {
  let sort = first;
  const stop = new AbortController();
  let wake = new AbortController();
  const onKey = (key: Buffer) => {
    const name = key.toString('latin1');
    if (name === 'q' || name === '\x03') stop.abort();
    sort = KEYS[name] ?? sort;
    wake.abort();
  };
  const end = () => {
    stop.abort();
    wake.abort();
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  process.stdin.setRawMode?.(true);
  process.stdin.resume().on('data', onKey);
  print(ALTERNATE_SCREEN);
  try {
    while (!stop.signal.aborted) {
      await draw(questions, sort);
      wake = new AbortController();
      await delay(REFRESH_MS, undefined, { signal: wake.signal }).catch(() => undefined); // a key
    }
  } finally {
    print(MAIN_SCREEN);
    process.stdin.setRawMode?.(false);
    process.stdin.pause();
  }
}

async function draw(questions: Questions, sort: Sort): Promise<void> {
  const { columns: width = 120, rows: height = 40 } = process.stdout;
  const from = new Date(Date.now() - WINDOW_MS);
  const stale = await questions.fresh();
  const table = await connectionsTable(questions, {
    from,
    rows: Math.max(1, height - 4),
    sort,
    width,
  });
  const note = stale === undefined ? '' : `   (${stale})`;
  const head = `sonde top   last ${WINDOW_MS / 1000} s, by ${sort}   r w n c t p: sort   q: end${note}`;
  print(`\x1b[H\x1b[2J${head.slice(0, width)}\n\n${table}`);
}
