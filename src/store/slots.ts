// A fixed number of places and a bounded line of those who wait for one.

export interface Slot {
  /** Calling it twice frees one place. */
  release(): void;
}

export class Slots {
  readonly #max: number;
  readonly #waiting_max: number;
  readonly #waiting = new Set<(has_place: boolean) => void>();
  #used = 0;

  constructor(max: number, waiting_max: number) {
    this.#max = max;
    this.#waiting_max = waiting_max;
  }

  get inUse(): number {
    return this.#used;
  }

  /** A place, at once or in turn; undefined if the line is full, or `signal` came first. */
  async take(signal?: AbortSignal): Promise<Slot | undefined> {
    if (signal?.aborted) return undefined;
    if (this.#used >= this.#max) {
      if (this.#waiting.size >= this.#waiting_max || !(await this.#turn(signal))) return undefined;
    } else {
      this.#used += 1;
    }
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        const [next] = this.#waiting;
        if (next === undefined) this.#used -= 1;
        else next(true);
      },
    };
  }

  /** Stands in line. True: whoever released handed its place over without freeing it; false: left. */
  async #turn(signal: AbortSignal | undefined): Promise<boolean> {
    return await new Promise((resolve) => {
      const leave = () => end(false);
      const end = (has_place: boolean) => {
        this.#waiting.delete(end);
        signal?.removeEventListener('abort', leave);
        resolve(has_place);
      };
      this.#waiting.add(end);
      signal?.addEventListener('abort', leave);
    });
  }

  /** Waits until no place is taken. New takers are the caller's to refuse. */
  async drain(): Promise<void> {
    const slots: (Slot | undefined)[] = [];
    for (let i = 0; i < this.#max; i += 1) slots.push(await this.take());
    for (const slot of slots) slot?.release();
  }
}
