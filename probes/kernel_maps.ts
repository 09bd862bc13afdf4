// What probes that keep totals in the kernel say about their maps.

import type { Need } from '../src/table/probe.ts';

/**
 * Of kernels that have storage of a task and offer it to these programs (5.11 and later). A map of that type cannot be tried
 * like a program, so a type that came right after it must do.
 */
export const TASK_STORAGE: readonly Need[] = ['btf:bpf_iter__task_vma'];

/** The two maps of a `turns` source (bpf/turns.bpf.h). */
export function pair(map: string): readonly string[] {
  return [`${map}_0`, `${map}_1`];
}

/** Both with room for `entries`. */
export function sizes(map: string, entries: number): Record<string, number> {
  return Object.fromEntries(pair(map).map((name) => [name, entries]));
}
