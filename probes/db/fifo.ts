// A queue that is taken from its front, in constant time.

const SPARE_MAX = 1024;

export class Fifo<Item> {
  #items: Item[] = [];
  #first = 0;

  get length(): number {
    return this.#items.length - this.#first;
  }

  get head(): Item | undefined {
    return this.#items[this.#first];
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  shift(): Item | undefined {
    const item = this.#items[this.#first];
    if (this.#first < this.#items.length) this.#first += 1;
    if (this.#first === this.#items.length) {
      this.#items.length = 0;
      this.#first = 0;
    } else if (this.#first > SPARE_MAX && this.#first * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#first);
      this.#first = 0;
    }
    return item;
  }

  /** Keeps the others, in their order. */
  remove(unwanted: (item: Item) => boolean): void {
    this.#items = this.#items.slice(this.#first).filter((item) => !unwanted(item));
    this.#first = 0;
  }

  /** All of them; the queue is empty then. */
  take(): readonly Item[] {
    const items = this.#items.slice(this.#first);
    this.#items = [];
    this.#first = 0;
    return items;
  }
}
