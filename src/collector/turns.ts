// Which of each pair of maps the programs fill (bpf/turns.bpf.h), and how far what they filled is told. Turns are counted:
// an even one fills the maps `_0`, an odd one `_1`. What a turn has filled stays in its maps until its rows are safe, and the
// number of the turn stands with them in the spool. So a successor knows whether what it finds is told: it is neither lost
// with a collector that is killed, nor told twice.

import type { BpfMap } from '../bpf/map.ts';
import { waitForPrograms } from '../bpf/wait.ts';

type TurnMap = Pick<BpfMap, 'lookup' | 'update'>;

export interface TurnsOptions {
  /** `sonde_turn`: the number of the turn that programs are at. */
  readonly map: TurnMap;
  /** A predecessor left the maps. */
  readonly taken_over: boolean;
  /** The last turn whose rows are safe, from a run before this one; undefined: none is known. */
  readonly told: number | undefined;
  /** Returns when no program is left that began before the call. */
  readonly wait?: () => void;
}

export class Turns {
  readonly #map: TurnMap;
  readonly #wait: () => void;
  /** The one that programs are at. */
  #now: number;
  #left: boolean;
  #reached: number | undefined;

  constructor({ map, taken_over, told, wait = waitForPrograms }: TurnsOptions) {
    this.#map = map;
    this.#wait = wait;
    this.#now = this.#read();
    this.#reached = told;
    this.#left = taken_over && told !== this.#before;
  }

  /** A predecessor ended a turn and did not tell it: that comes first, by itself. */
  get left(): boolean {
    return this.#left;
  }

  /** The last turn that `end` gave; before that, what was told by a predecessor. */
  get reached(): number | undefined {
    return this.#reached;
  }

  /** The maps of the turn before this one, 0 or 1: no program fills them. */
  get idle(): number {
    return this.#before & 1;
  }

  /**
   * Ends the turn that programs are at, or finds the one that was left. When this returns, no program fills its maps (`idle`)
   * any more. Those of the turn before must be empty: programs go on with them.
   */
  end(): void {
    if (!this.#left) this.#write((this.#now + 1) >>> 0);
    this.#wait();
    this.#left = false;
    this.#reached = this.#before;
  }

  get #before(): number {
    return (this.#now - 1) >>> 0;
  }

  #read(): number {
    const value = new Uint32Array(1);
    this.#map.lookup(new Uint8Array(4), new Uint8Array(value.buffer));
    return value[0]!;
  }

  #write(turn: number): void {
    this.#map.update(new Uint8Array(4), new Uint8Array(Uint32Array.of(turn).buffer));
    this.#now = turn;
  }
}
