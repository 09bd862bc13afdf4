// A reader of a database's protocol under test: what both sides say, cut as told, and what it makes of it.

import type { Command, Talk, TalkSink, Understood } from './talk.ts';

/** What one side says: `>` the client, `<` the server; and how many bytes are missing behind it. */
export type Said = readonly (readonly [side: '>' | '<', text: string, missing?: number])[];

export interface Heard {
  /** Operation, and its error behind a blank. */
  readonly commands: readonly string[];
  readonly whole: readonly Command[];
  readonly notes: Readonly<Record<string, number>>;
  readonly understood: Understood;
  readonly settled: boolean;
  readonly waiting: readonly Command[];
}

/** Each text one byte a letter, in pieces of `piece` bytes; the clock goes on by one a piece. */
export function hear(make: (sink: TalkSink) => Talk, said: Said, piece = 1 << 20): Heard {
  const whole: Command[] = [];
  const notes: Record<string, number> = {};
  const talk = make({
    done: (command) => whole.push({ ...command }),
    note: (what, count) => {
      notes[what] = (notes[what] ?? 0) + count;
    },
  });
  let understood: Understood = 'ok';
  let now_ns = 0;
  for (const [side, text, missing = 0] of said) {
    const bytes = Buffer.from(text, 'latin1');
    for (let at = 0; at < bytes.length && understood === 'ok'; at += piece) {
      now_ns += 1;
      const part = bytes.subarray(at, at + piece);
      understood = side === '>' ? talk.asked(part, now_ns) : talk.answered(part, now_ns);
    }
    if (missing > 0 && understood === 'ok') {
      now_ns += 1;
      understood = talk.missed(side === '>', missing, now_ns);
    }
  }
  const { settled } = talk;
  const waiting = talk.takeWaiting();
  const commands = whole.map(({ operation, error }) => `${operation} ${error}`.trim());
  return { commands, whole, notes, understood, settled, waiting };
}
