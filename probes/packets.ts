// The hooks that show packets: two programs at the root cgroup that all who look at packets share (bpf/sonde.bpf.c).

import type { Variant } from '../src/table/probe.ts';

/** `misses`: what the probe cannot see in packets, for the capability report. */
export function packetVariants(misses?: string): readonly Variant[] {
  const told = misses === undefined ? {} : { misses };
  return [
    { name: 'packets', programs: ['skb_in', 'skb_out'], needs: ['atomics'], ...told },
    {
      name: 'packets without atomics',
      programs: ['skb_in_510', 'skb_out_510'],
      needs: ['no-atomics'],
      ...told,
    },
  ];
}
