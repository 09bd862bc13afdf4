/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Packets that the kernel throws away, by its own reason and by network namespace. kfree_skb is called for these alone: a
 * packet that was used up goes by consume_skb. Reader: probes/network/network.ts, which also reads the protocol counters of
 * each network namespace.
 */
#ifndef SONDE_NETWORK_H
#define SONDE_NETWORK_H

#include "../../bpf/front.bpf.h"
#include "../../bpf/identity.bpf.h"

#define DROP_KEYS_MAX 8192
#define NETNS_INUM_MIN 0xf0000000 /* PROC_DYNAMIC_FIRST: what is below is no network namespace */

/* 8 bytes, which the kernel compares and hashes in one step. */
struct drop_key {
	u32 netns; /* 0: not known */
	u16 reason; /* see drop_reason; 0 where the kernel gives none */
	u16 protocol; /* ETH_P_*, host order; 0: not of a network */
};

struct drop_sums {
	u64 packets;
	u64 bytes;
};

DEFINE_TURNS_FLAGS(net_drops, struct drop_key, struct drop_sums, DROP_KEYS_MAX, BPF_F_NO_PREALLOC)
DEFINE_SHARED_FRONT(net_drops, struct drop_key, struct drop_sums, packets, 2, 4)

#define DROP_SUBSYSTEM_SHIFT 16 /* SKB_DROP_REASON_SUBSYS_SHIFT */
#define DROP_REASON_BITS 12
#define DROP_REASON_OTHER 0xffff

/* The kernel's enum skb_drop_reason in 16 bits: a subsystem and its reason; what does not fit is OTHER. */
static __always_inline u16 drop_reason(u32 reason)
{
	u32 subsystem = reason >> DROP_SUBSYSTEM_SHIFT;
	u32 number = reason & ((1 << DROP_SUBSYSTEM_SHIFT) - 1);

	if (subsystem >= 1 << (16 - DROP_REASON_BITS) || number >> DROP_REASON_BITS)
		return DROP_REASON_OTHER;
	return subsystem << DROP_REASON_BITS | number;
}

/*
 * While a datagram waits in a socket, its `dev` holds something else: what does not look like a namespace is none. In two
 * ways: plain loads, which are nothing where the address is none, and before 5.14 the helper, some 15 ns each.
 */
#define DEFINE_SKB_NETNS(way, READ) \
static __always_inline u32 skb_netns_##way(struct sk_buff *skb) \
{ \
	struct sock *sk = READ(skb, sk); \
	struct net_device *dev; \
	struct net *net; \
	u32 netns; \
\
	if (sk) { \
		net = READ(sk, __sk_common.skc_net.net); \
	} else { \
		dev = READ(skb, dev); \
		net = READ(dev, nd_net.net); \
	} \
	netns = READ(net, ns.inum); \
	return netns >= NETNS_INUM_MIN ? netns : 0; \
}

DEFINE_SKB_NETNS(direct, READ_DIRECT)
DEFINE_SKB_NETNS(probe, READ_PROBE)

/* The slot of the CPU; false: the key has none. */
static __always_inline bool drop_at_slot(struct net_drops_slot *slot, u64 key, u32 bytes)
{
	bool hit = false;

	if (slot && front_enter(&slot->busy)) {
		hit = slot->key == key;
		if (hit) {
			slot->sums[0] += 1;
			slot->sums[1] += bytes;
		}
		front_leave(&slot->busy);
	}
	return hit;
}

static __noinline int drop_at_entry(u64 bits, u32 bytes, bool turn)
{
	struct net_drops_slot *slot = net_drops_slot_of(turn, bits);
	struct drop_key *key = (struct drop_key *)&bits;
	struct drop_sums *sums = net_drops_find_in(turn, key);
	struct drop_sums fresh = {};

	if (!sums)
		sums = net_drops_make_in(turn, key, &fresh);
	if (!sums) {
		count(COUNT_DROP_FULL);
		return 0;
	}
	TURN_ADD(sums->packets, 1);
	TURN_ADD(sums->bytes, bytes);
	if (slot && front_enter(&slot->busy)) {
		net_drops_settle(turn, slot, bits, sums->packets);
		front_leave(&slot->busy);
	}
	return 0;
}

static __always_inline int network_on_drop(struct sk_buff *skb, u32 netns, u16 reason)
{
	u64 key = netns | (u64)reason << 32 | (u64)bpf_ntohs(skb->protocol) << 48;
	u32 turn = turn_now();

	if (!drop_at_slot(net_drops_slot_of(turn, key), key, skb->len))
		drop_at_entry(key, skb->len, turn);
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(net_drop, struct sk_buff *skb, void *location, int reason)
{
	return network_on_drop(skb, skb_netns_direct(skb), drop_reason(reason));
}

/* Before 5.17 the kernel does not say why. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(net_drop_510, struct sk_buff *skb, void *location)
{
	return network_on_drop(skb, skb_netns_probe(skb), 0);
}

#endif
