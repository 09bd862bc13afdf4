// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The program of `sonde cgroup-demo` (src/cli/cgroup_demo.ts), an object of its own: it counts the packets that leave the
 * processes of one cgroup, and lets every one pass.
 */
#include "kernel.bpf.h"

#define ETH_P_IPV6 0x86DD
#define PASS 1

enum family {
	FAMILY_IPV4 = 0,
	FAMILY_IPV6 = 1,
	FAMILY_MAX = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FAMILY_MAX);
	__type(key, u32);
	__type(value, u64);
} count SEC(".maps");

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("cgroup_skb/egress")
int count_egress(struct __sk_buff *skb)
{
	u32 family = skb->protocol == bpf_htons(ETH_P_IPV6) ? FAMILY_IPV6 : FAMILY_IPV4;
	u64 *slot = bpf_map_lookup_elem(&count, &family);

	if (slot)
		__sync_fetch_and_add(slot, 1);
	return PASS;
}
