// What probes that keep totals in the kernel say about their maps.

import type { Front, Need } from '../src/table/probe.ts';

/**
 * Of kernels that have storage of a task and offer it to these programs. A map of that type cannot be tried like a program:
 * `src/collector/kernel_options.ts` asks for a type that came right after it.
 */
export const TASK_STORAGE: readonly Need[] = ['task storage'];

/** The two maps of a `turns` source (bpf/turns.bpf.h). */
export function pair(map: string): readonly string[] {
  return [`${map}_0`, `${map}_1`];
}

/** The slots before such a pair (bpf/front.bpf.h), by the layout of one; `first`: where the sums begin in a value. */
export function front(
  map: string,
  slot: { readonly SIZE: number; readonly sums: number },
  first: number,
): Front {
  return { map: frontOf(map), slot_bytes: slot.SIZE, sums: slot.sums, first };
}

export function frontOf(map: string): string {
  return `${map}_cpu`;
}

/** Both with room for `entries`. */
export function sizes(map: string, entries: number): Record<string, number> {
  return Object.fromEntries(pair(map).map((name) => [name, entries]));
}
