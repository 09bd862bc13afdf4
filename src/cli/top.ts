// `sonde top`: the same table live, where there is no browser. Keys: r w n c t p sort, q ends.

import type { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fitLine } from '../table/text.ts';
import { openQuestions, type Questions } from './asking.ts';
import type { Call } from './call.ts';
import { CliError, EXIT_OPERATOR } from './failure.ts';
import { connectionsTable, type Sort } from './flows.ts';
import { print } from './output.ts';

const REFRESH_MS = 2000;
const WINDOW_MS = 60_000;
/** So long the newest rows are waited for; then what the store has is shown. */
const FRESH_MS = 2000;
const LATE = 'the newest rows are still to come';
/** Above the table: what is shown, and what it lacks. */
const HEAD_LINES = 2;
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
    else await onTerminal(questions, sort);
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

interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** Where the live table is shown, and whence the keys come. */
export interface Terminal {
  readonly keys: EventEmitter;
  readonly size: () => Size;
  readonly print: (text: string) => void;
}

async function onTerminal(questions: Questions, sort: Sort): Promise<void> {
  const stop = new AbortController();
  const end = () => stop.abort();
  process.on('SIGINT', end).on('SIGTERM', end);
  const { stdin, stdout } = process;
  stdin.setRawMode?.(true);
  stdin.resume();
  print(ALTERNATE_SCREEN);
  try {
    const size = () => ({ columns: stdout.columns ?? 120, rows: stdout.rows ?? 40 });
    await live(questions, sort, { keys: stdin, size, print }, stop);
  } finally {
    print(MAIN_SCREEN);
    stdin.setRawMode?.(false);
    stdin.pause();
  }
}

/** Until `stop`, which the keys may be: no answer that is slow to come is waited for then. */
export async function live(
  questions: Questions,
  first: Sort,
  { keys, size, print: show }: Terminal,
  stop: AbortController,
): Promise<void> {
  let sort = first;
  let wake = new AbortController();
  const onData = (typed: Buffer) => {
    for (const key of typed.toString('latin1')) {
      if (key === 'q' || key === '\x03') stop.abort();
      sort = KEYS[key] ?? sort;
    }
    wake.abort();
  };
  const fresh = freshness(questions);
  keys.on('data', onData);
  try {
    show(screen(size(), sort, '', 'asking the reducer'));
    while (!stop.signal.aborted) {
      wake = new AbortController(); // before the answer, so that a key meanwhile counts
      const hurry = wake.signal;
      const drawn = await until(
        stop.signal,
        draw(questions, () => fresh(hurry), sort, size()),
      );
      if (drawn === undefined) return;
      show(drawn);
      const signal = AbortSignal.any([stop.signal, hurry]);
      await delay(REFRESH_MS, undefined, { signal }).catch(() => undefined); // a key
    }
  } finally {
    keys.off('data', onData);
  }
}

/** What `work` brings, or undefined if `signal` comes first. Nothing of it stays behind on a signal that lives long. */
function until<T>(signal: AbortSignal, work: Promise<T>): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const onAbort = () => resolve(undefined);
    signal.addEventListener('abort', onAbort);
    const end = () => signal.removeEventListener('abort', onAbort);
    void work.then(resolve, reject).finally(end);
  });
}

type Fresh = (hurry: AbortSignal) => Promise<string | undefined>;

/** Asks for the newest rows and waits a moment for them, or until `hurry`. A question that is not answered yet is not asked again. */
function freshness(questions: Questions): Fresh {
  let asked: Promise<string | undefined> | undefined;
  return async (hurry) => {
    if (asked !== undefined) return LATE;
    asked = questions.fresh().finally(() => {
      asked = undefined;
    });
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, hurry]);
    const late = delay(FRESH_MS, LATE, { signal }).catch(() => LATE); // waited for no longer
    try {
      return await Promise.race([asked, late]);
    } finally {
      over.abort();
    }
  };
}

async function draw(
  questions: Questions,
  fresh: () => Promise<string | undefined>,
  sort: Sort,
  { columns: width, rows: height }: Size,
): Promise<string> {
  const from = new Date(Date.now() - WINDOW_MS);
  const stale = await fresh();
  const rows = Math.max(1, height - HEAD_LINES - 1);
  const table = await connectionsTable(questions, { from, rows, sort, width });
  return screen({ columns: width, rows: height }, sort, stale ?? '', table);
}

function screen({ columns }: Size, sort: Sort, note: string, table: string): string {
  const head = `sonde top   q: end   last ${WINDOW_MS / 1000} s, by ${sort}   r w n c t p: sort`;
  const lines = [head, note].map((line) => fitLine(line, columns));
  return `\x1b[H\x1b[2J${[...lines, table].join('\n')}`;
}
