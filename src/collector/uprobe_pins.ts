// Placements that outlive a collector which was killed, so that its successor goes on with them: what programs of a library say
// meanwhile is seen, and no request is left without its response.
//
// FOLDER/<file>_<source>_<number>of<all>: one pin for each placement of a source in a file. Where a kernel cannot pin them
// (before 5.15) they end with their collector, as all that nobody has pinned.

import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { BpfError } from '../bpf/error.ts';
import { BpfLink, removePin } from '../bpf/link.ts';

export class UprobePins {
  readonly #folder: string;
  /** Names of pins that a predecessor left, by what they are of, until somebody takes them. */
  readonly #left = new Map<string, string[]>();

  constructor(folder: string) {
    this.#folder = folder;
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      const of = name.slice(0, name.lastIndexOf('_'));
      this.#left.set(of, [...(this.#left.get(of) ?? []), name]);
    }
  }

  /** A predecessor's placements in this file; undefined: there are none, or not all of them. */
  take(file: string, source: string): readonly BpfLink[] | undefined {
    const of = stem(file, source);
    const names = this.#left.get(of) ?? [];
    this.#left.delete(of);
    if (names.length > 0 && names.every((name) => name.endsWith(`of${names.length}`))) {
      return names.map((name) => BpfLink.openPinned(join(this.#folder, name)));
    }
    for (const name of names) removePin(join(this.#folder, name));
    return undefined;
  }

  keep(file: string, source: string, links: readonly BpfLink[]): void {
    const path = join(this.#folder, stem(file, source));
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    try {
      for (const [i, link] of links.entries()) link.pin(`${path}_${i + 1}of${links.length}`);
    } catch (error) {
      for (const link of links) link.unpin();
      if (!(error instanceof BpfError)) throw error;
    }
  }

  /** All files have been looked at: what nobody has taken is of files that nobody runs any more. */
  discardRest(): void {
    for (const name of [...this.#left.values()].flat()) removePin(join(this.#folder, name));
    this.#left.clear();
  }
}

/** A pin's name has no dots (bpffs); identities have colons. */
function stem(file: string, source: string): string {
  return `${file}_${source}`.replaceAll(/[^A-Za-z0-9_-]/g, '-');
}
