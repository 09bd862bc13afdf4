/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Packets that the kernel throws away, by its own reason and by network namespace. kfree_skb is called for these alone: a
 * packet that was used up goes by consume_skb. Reader: probes/network/network.ts, which also reads the protocol counters of
 * each network namespace.
 */
#ifndef SONDE_NETWORK_H
#define SONDE_NETWORK_H

#include "../../bpf/turns.bpf.h"

#define DROP_KEYS_MAX 8192
#define NETNS_INUM_MIN 0xf0000000 /* PROC_DYNAMIC_FIRST: what is below is no network namespace */

struct drop_key {
	u32 netns; /* 0: not known */
	u32 reason; /* enum skb_drop_reason of the kernel that runs; 0 where it has none */
	u16 protocol; /* ETH_P_*, host order; 0: not of a network */
	u16 unused[3];
};

struct drop_sums {
	u64 packets;
	u64 bytes;
};

DEFINE_TURNS_FLAGS(net_drops, struct drop_key, struct drop_sums, DROP_KEYS_MAX, BPF_F_NO_PREALLOC)

/* While a datagram waits in a socket, its `dev` holds something else: what does not look like a namespace is none. */
static __always_inline u32 skb_netns(struct sk_buff *skb)
{
	struct sock *sk = BPF_CORE_READ(skb, sk);
	u32 netns;

	if (sk)
		netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	else
		netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
	return netns >= NETNS_INUM_MIN ? netns : 0;
}

static __always_inline int network_on_drop(struct sk_buff *skb, u32 reason)
{
	struct drop_key key = {
		.netns = skb_netns(skb),
		.reason = reason,
		.protocol = bpf_ntohs(skb->protocol),
	};
	struct drop_sums *sums = net_drops_find(&key);
	struct drop_sums fresh = {};

	if (!sums)
		sums = net_drops_make(&key, &fresh);
	if (!sums) {
		count(COUNT_DROP_FULL);
		return 0;
	}
	TURN_ADD(sums->packets, 1);
	TURN_ADD(sums->bytes, skb->len);
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(net_drop, struct sk_buff *skb, void *location, int reason)
{
	return network_on_drop(skb, reason);
}

/* Before 5.17 the kernel does not say why. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(net_drop_510, struct sk_buff *skb, void *location)
{
	return network_on_drop(skb, 0);
}

#endif
