// Regular expressions of the operator's, run by the engine that takes time in proportion to the text, whatever the pattern:
// V8's linear one. Patterns that it cannot run (look-around, back-references) are refused at start.

import { setFlagsFromString } from 'node:v8';

/** Longer text is not matched as a whole: what is behind this is withheld. */
export const PATTERN_TEXT_MAX = 1 << 20;
export const PATTERNS_MAX = 64;
const PATTERN_LENGTH_MAX = 1024;

/** Needed once, before the first pattern: without it V8 does not know the flag `l`. */
setFlagsFromString('--enable-experimental-regexp-engine');

/** A pattern of our own, or of the operator's. @throws {Error} that says why it cannot be used. */
export function linearPattern(source: string): RegExp {
  if (source.length > PATTERN_LENGTH_MAX) {
    throw new Error(`the pattern has ${source.length} characters; give ${PATTERN_LENGTH_MAX}`);
  }
  try {
    return new RegExp(source, 'gl');
  } catch (error) {
    throw new Error(error instanceof Error ? error.message : String(error));
  }
}
