// Puts every check to the machine and keeps the answers in one form, for the table and for JSON.

import { type Check, type Finding, fail, type Place, type State, wordsOf } from './check.ts';
import { linux } from './platform.ts';

/** Stable: `sonde doctor --json` prints these. */
export interface Result {
  readonly id: string;
  /** Empty, or which of several: a source, a port. */
  readonly subject: string;
  readonly what: string;
  readonly state: State;
  readonly found: string;
  readonly why: string;
  /** Empty where nothing is to be done. */
  readonly cure: string;
}

export async function examine(checks: readonly Check[], place: Place): Promise<readonly Result[]> {
  // Elsewhere than on Linux all else would fail for the one reason that this one gives.
  const asked = place.machine.platform === 'linux' ? checks : [linux];
  const results: Result[] = [];
  for (const check of asked) results.push(...(await ask(check, place)));
  return results;
}

async function ask(check: Check, place: Place): Promise<readonly Result[]> {
  const { id, what, why } = check;
  const answer = await answerOf(check, place);
  return answer.map(({ subject = '', state, found, cure }) => {
    const own = state === 'warn' || state === 'fail' ? check.cure : '';
    return { id, subject, what, state, found, why, cure: cure ?? own };
  });
}

/** A check that breaks is a fault of sonde; the others are asked all the same. */
async function answerOf(check: Check, place: Place): Promise<readonly Finding[]> {
  try {
    const answer = await check.look(place);
    return 'state' in answer ? [answer] : answer;
  } catch (error) {
    return [fail(`the check itself broke: ${wordsOf(error)}`, 'Report this as a fault of sonde.')];
  }
}
