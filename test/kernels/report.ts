// What a run of the matrix shows: lines with their kernel in front while it goes, and a table at its end.

import type { Outcome } from './machine.ts';

export interface Result {
  readonly series: string;
  readonly release: string;
  readonly outcome: Outcome;
}

/** Cuts a stream into lines with `prefix` before each; what has no line end yet waits for `flush`. */
export class PrefixedLines {
  readonly #prefix: string;
  readonly #write: (text: string) => void;
  #rest = '';
  readonly #decoder = new TextDecoder();

  constructor(prefix: string, write: (text: string) => void) {
    this.#prefix = prefix;
    this.#write = write;
  }

  push(chunk: Buffer): void {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#write(`${this.#prefix}${line.replace(/\r$/, '')}\n`);
  }

  flush(): void {
    if (this.#rest !== '') this.push(Buffer.from('\n'));
  }
}

export function verdict({ how, status, boots }: Outcome): string {
  const retried = boots > 1 && how !== 'boot' ? `, at boot ${boots}` : '';
  if (how === 'limit') return `time limit${retried}`;
  if (how === 'boot') return `did not boot in ${boots} tries`;
  if (how === 'stopped') return 'stopped';
  if (status === 125) return `ended without a status${retried}`;
  return `${status === 0 ? 'ok' : `exit ${status}`}${retried}`;
}

export function table(results: readonly Result[]): string {
  const rows = results.map(({ series, release, outcome }) => [
    series,
    release,
    verdict(outcome),
    `${(outcome.wall_ms / 1000).toFixed(1)} s`,
  ]);
  const all = [['kernel', 'release', 'result', 'time'], ...rows];
  const widths = all[0].map((_, at) => Math.max(...all.map((row) => row[at].length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, at) => cell.padEnd(widths[at]))
      .join('  ')
      .trimEnd();
  return all.map((row) => `${line(row)}\n`).join('');
}

/** 0 if every kernel gave 0, else the status of the first that did not. */
export function statusOf(results: readonly Result[]): number {
  return results.find((result) => result.outcome.status !== 0)?.outcome.status ?? 0;
}
