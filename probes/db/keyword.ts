// The first word of a statement of SQL, behind spaces, brackets and comments: what a command is called where its answer does
// not tell.

/** Where the text goes on behind what may be passed over at `from`; `from`: there is nothing such. */
export type Skip = (text: string, from: number) => number;

const WORD = /[A-Za-z]{1,24}(?![A-Za-z0-9_$])/y;

/** A skip by a pattern, which is sticky. */
export function skipping(pattern: RegExp): Skip {
  return (text, from) => {
    pattern.lastIndex = from;
    return pattern.test(text) ? pattern.lastIndex : from;
  };
}

const skipSpace = skipping(/[ \t\r\n\f\v;(]*/y);

/** In upper case; '': there is none in this text, which may be the beginning of a longer one. */
export function keyword(text: string, comments: readonly Skip[]): string {
  let at = 0;
  for (;;) {
    const before = at;
    at = skipSpace(text, at);
    for (const skip of comments) at = skip(text, at);
    if (at === before) break;
  }
  WORD.lastIndex = at;
  return WORD.exec(text)?.[0].toUpperCase() ?? '';
}
