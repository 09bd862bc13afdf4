// "Did you mean": the known name nearest to a mistyped one.

/** Edits between two short words: a letter changed, added, left out, or swapped with its neighbour. */
function distance(a: string, b: string): number {
  let [before, row]: number[][] = [[], Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j] + 1, next[j - 1] + 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        next[j] = Math.min(next[j], before[j - 2] + 1);
      }
    }
    [before, row] = [row, next];
  }
  return row[b.length];
}

const NAME_LENGTH_MAX = 64;

/** The nearest of `known`, when at most a third of it would have to change; else undefined. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  if (name.length > NAME_LENGTH_MAX) return undefined;
  const folded = name.toLowerCase().replaceAll('-', '_');
  const ranked = known
    .map((candidate) => ({ candidate, edits: distance(folded, candidate.toLowerCase()) }))
    .sort((a, b) => a.edits - b.edits);
  const best = ranked.at(0);
  return best && best.edits <= Math.ceil(best.candidate.length / 3) ? best.candidate : undefined;
}

/** The cure for an unknown name: the nearest known one, or all of them. */
export function didYouMean(name: string, known: readonly string[]): string {
  const found = nearest(name, known);
  return found ? `did you mean ${found}?` : `known here: ${known.join(', ')}`;
}
