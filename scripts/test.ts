// Runs every test in two turns and closes with one summary: first the ordinary ones, two files at a time; then the
// `*.live.test.ts`, which load programs into the running kernel and count what it does, one at a time and alone.
import { globSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const FILES = '{src,probes,native,bpf,test,scripts}/**/*.test.ts';
const CLOSING = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([\d.]+)$/;

interface Turn {
  readonly files: readonly string[];
  readonly concurrency: number;
  /** Whether a file that fails is run once more. */
  readonly retried: boolean;
}

export function turns(paths: readonly string[], narrow: readonly string[]): readonly Turn[] {
  const files = paths
    .filter((path) => narrow.length === 0 || narrow.some((part) => path.includes(part)))
    .sort();
  const live = files.filter((path) => path.endsWith('.live.test.ts'));
  const ordinary = files.filter((path) => !path.endsWith('.live.test.ts'));
  return [
    { files: ordinary, concurrency: 2, retried: false },
    { files: live, concurrency: 1, retried: true },
  ].filter((turn) => turn.files.length > 0);
}

type TestEvent = ReturnType<typeof run> extends AsyncIterable<infer Event> ? Event : never;

/** Passes an event on, but for the closing counts of a run, which are added to `counts`. */
function pass(event: TestEvent, to: PassThrough, counts: Map<string, number>): void {
  const nesting = 'nesting' in event.data ? event.data.nesting : 0;
  const closing = event.type === 'test:diagnostic' && nesting === 0;
  const match = closing ? CLOSING.exec(event.data.message) : null;
  if (match) counts.set(match[1], (counts.get(match[1]) ?? 0) + Number(match[2]));
  else if (event.type !== 'test:summary') to.write(event);
}

async function passOn(turn: Turn, to: PassThrough, counts: Map<string, number>): Promise<void> {
  if (turn.retried) {
    for (const file of turn.files) await passTwice(file, to, counts);
    return;
  }
  for await (const event of run({ files: [...turn.files], concurrency: turn.concurrency })) {
    pass(event, to, counts);
  }
}

/**
 * A file that fails is run once more, and what failed at first is told: some kernels hide a process from tracing, and with
 * it what the network does in its interrupts, a few events in a million (docs/decisions/0003). What fails twice has failed.
 */
async function passTwice(
  file: string,
  to: PassThrough,
  counts: Map<string, number>,
): Promise<void> {
  const first = await eventsOf(file);
  const failed = first.filter(({ type }) => type === 'test:fail');
  if (failed.length === 0) {
    for (const event of first) pass(event, to, counts);
    return;
  }
  const names = failed.map(({ data }) => ('name' in data ? data.name : ''));
  const message = `${file} failed at first and is run again: ${names.join('; ')}`;
  to.write({ type: 'test:diagnostic', data: { nesting: 0, message, level: 'warn' } });
  for (const event of await eventsOf(file)) pass(event, to, counts);
}

async function eventsOf(file: string): Promise<readonly TestEvent[]> {
  const events: TestEvent[] = [];
  for await (const event of run({ files: [file], concurrency: 1 })) events.push(event);
  return events;
}

async function main(narrow: readonly string[]): Promise<void> {
  const counts = new Map<string, number>();
  const events = new PassThrough({ objectMode: true });
  const printed = events.compose(spec);
  printed.pipe(process.stdout);
  for (const turn of turns(globSync(FILES), narrow)) await passOn(turn, events, counts);
  for (const [name, count] of counts) {
    const message = `${name} ${name === 'duration_ms' ? Math.round(count) : count}`;
    events.write({ type: 'test:diagnostic', data: { nesting: 0, message, level: 'info' } });
  }
  events.end();
  const failed = (counts.get('fail') ?? 0) + (counts.get('cancelled') ?? 0);
  if (!counts.get('tests')) console.error('no test matched');
  process.exitCode = failed > 0 || !counts.get('tests') ? 1 : 0;
}

if (import.meta.main) await main(process.argv.slice(2));
