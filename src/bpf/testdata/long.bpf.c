// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The verifier follows every turn of the loop, which takes it some tens of milliseconds.
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define TURNS 60000

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("cgroup_skb/egress")
int turns(struct __sk_buff *skb)
{
	__u64 sum = skb->len;

	for (int i = 0; i < TURNS; i++)
		sum += i ^ (sum >> 3);
	return sum != 0;
}
