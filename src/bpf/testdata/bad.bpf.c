// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The verifier must refuse `refused` and no other: it reads through a look-up that may be NULL.
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

SEC("cgroup_skb/egress")
int accepted(struct __sk_buff *skb)
{
	return 1;
}

SEC("cgroup_skb/egress")
int refused(struct __sk_buff *skb)
{
	__u32 key = skb->len;
	__u64 *value = bpf_map_lookup_elem(&table, &key);

	return *value == 7;
}
