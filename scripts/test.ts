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
}

export function turns(paths: readonly string[], narrow: readonly string[]): readonly Turn[] {
  const files = paths
    .filter((path) => narrow.length === 0 || narrow.some((part) => path.includes(part)))
    .sort();
  const live = files.filter((path) => path.endsWith('.live.test.ts'));
  const ordinary = files.filter((path) => !path.endsWith('.live.test.ts'));
  return [
    { files: ordinary, concurrency: 2 },
    { files: live, concurrency: 1 },
  ].filter((turn) => turn.files.length > 0);
}

/** Passes a turn's events on, except its closing counts, which are added to `counts`. */
async function passOn(turn: Turn, to: PassThrough, counts: Map<string, number>): Promise<void> {
  for await (const event of run({ files: [...turn.files], concurrency: turn.concurrency })) {
    const nesting = 'nesting' in event.data ? event.data.nesting : 0;
    const closing = event.type === 'test:diagnostic' && nesting === 0;
    const match = closing ? CLOSING.exec(event.data.message) : null;
    if (match) counts.set(match[1], (counts.get(match[1]) ?? 0) + Number(match[2]));
    else if (event.type !== 'test:summary') to.write(event);
  }
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
