// Names by address: the last symbol that begins at or before it.

export class SymbolTable {
  #addresses: number[] = [];
  #sizes: number[] = [];
  #names: string[] = [];
  #sorted = true;

  get size(): number {
    return this.#names.length;
  }

  /** `size` 0: it goes on until the next symbol. */
  add(address: number, size: number, name: string): void {
    this.#sorted = false;
    this.#addresses.push(address);
    this.#sizes.push(size);
    this.#names.push(name);
  }

  /** Undefined: the address lies in none. */
  find(address: number): string | undefined {
    if (!this.#sorted) this.#sort();
    let low = 0;
    let high = this.#addresses.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#addresses[middle]! <= address) low = middle + 1;
      else high = middle;
    }
    const at = low - 1;
    if (at < 0) return undefined;
    const size = this.#sizes[at]!;
    return size === 0 || address < this.#addresses[at]! + size ? this.#names[at] : undefined;
  }

  /** Of names for one address the first that was added stays. */
  #sort(): void {
    const order = this.#addresses.map((_, i) => i);
    order.sort((a, b) => this.#addresses[a]! - this.#addresses[b]! || b - a);
    this.#addresses = order.map((i) => this.#addresses[i]!);
    this.#sizes = order.map((i) => this.#sizes[i]!);
    this.#names = order.map((i) => this.#names[i]!);
    this.#sorted = true;
  }
}
