// Strings become small numbers, so that the fold compares numbers only and each string is held once.
//
// Ids hold until the interner is renewed, which happens between two intervals and only if it is more than half full:
// within an interval an id never changes its meaning. Whoever keeps ids longer compares `epoch`. An LRU would have
// to prove that no row of the interval still uses what it evicts; starting anew needs no proof.

/** What stands for a string that found no room, and for all keys that found none. */
export const OTHER = '<other>';
export const ID_EMPTY = 0;
export const ID_OTHER = 1;

/** Code units of the longest string; what is longer is cut there. */
export const TEXT_LENGTH_MAX = 8192;

export class Interner {
  readonly strings_max: number;
  #ids = new Map<string, number>();
  #texts: string[] = [];
  /** Grows by one whenever all ids but `ID_EMPTY` and `ID_OTHER` lose their meaning. */
  epoch = 0;
  /** Strings that became `<other>` since there was no room for them. */
  refused = 0;
  /** Strings that were cut, or held half a surrogate pair, which UTF-8 cannot say. */
  mended = 0;

  constructor(strings_max: number) {
    this.strings_max = Math.max(strings_max, 2);
    this.#reset();
  }

  get size(): number {
    return this.#texts.length;
  }

  intern(text: string): number {
    const known = this.#ids.get(text);
    if (known !== undefined) return known;
    return this.#add(text);
  }

  text(id: number): string {
    const text = this.#texts[id];
    if (text === undefined) throw new Error(`string id ${id} is not from this interval`);
    return text;
  }

  /** To be called between two intervals. */
  renew(): void {
    if (this.#texts.length * 2 <= this.strings_max) return;
    this.#reset();
    this.epoch += 1;
  }

  #add(text: string): number {
    const whole = text.length <= TEXT_LENGTH_MAX && text.isWellFormed();
    if (!whole) {
      this.mended += 1;
      return this.intern(text.slice(0, TEXT_LENGTH_MAX).toWellFormed());
    }
    const id = this.#texts.length;
    if (id >= this.strings_max) {
      this.refused += 1;
      return ID_OTHER;
    }
    this.#texts.push(text);
    this.#ids.set(text, id);
    return id;
  }

  #reset(): void {
    this.#texts = ['', OTHER];
    this.#ids = new Map(this.#texts.map((text, id) => [text, id]));
  }
}
