// src/store/slots.ts
// A fixed number of places and a bounded line of those who wait for one.

export interface Slot {
  /** Calling it twice frees one place. */
  release(): void;
}

export class Slots {
  readonly #max: number;
  readonly #waiting_max: number;
  readonly #waiting: (() => void)[] = [];
  #used = 0;

  constructor(max: number, waiting_max: number) {
    this.#max = max;
    this.#waiting_max = waiting_max;
  }

  get inUse(): number {
    return this.#used;
  }

  /** A place, at once or in turn; undefined if the line is full. */
  async take(): Promise<Slot | undefined> {
    if (this.#used >= this.#max) {
      if (this.#waiting.length >= this.#waiting_max) return undefined;
      // Whoever releases hands its place over without freeing it.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#used += 1;
    }
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        const next = this.#waiting.shift();
        if (next === undefined) this.#used -= 1;
        else next();
      },
    };
  }

  /** Waits until no place is taken. New takers are the caller's to refuse. */
  async drain(): Promise<void> {
    const slots: (Slot | undefined)[] = [];
    for (let i = 0; i < this.#max; i += 1) slots.push(await this.take());
    for (const slot of slots) slot?.release();
  }
}
