/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The UDP source on kernels before 6.3: datagrams are counted in cgroup_skb, those that the receiver's full buffer drops as
 * read too. udp.bpf.h tells the whole idea.
 */
#ifndef SONDE_UDP_PACKETS_H
#define SONDE_UDP_PACKETS_H

#include "udp.bpf.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

struct udp_header {
	u16 source;
	u16 dest;
	u16 length;
	u16 check;
};

/* Addresses and length of a UDP packet that begins with its IP header; false: not UDP, or cut. */
static __always_inline bool udp_parse(struct __sk_buff *skb, u8 *source, u8 *dest,
				      struct udp_header *udp, u8 *family)
{
	u8 protocol;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		u8 first;
		u16 fragment;

		if (bpf_skb_load_bytes(skb, 9, &protocol, 1) || protocol != IPPROTO_UDP)
			return false;
		if (bpf_skb_load_bytes(skb, 0, &first, 1))
			return false;
		if (bpf_skb_load_bytes(skb, 6, &fragment, 2))
			return false;
		if (fragment & bpf_htons(0x1fff))
			return false; /* a later fragment: the first one carries the datagram's length */
		*family = AF_INET;
		return !bpf_skb_load_bytes(skb, 12, source, 4) &&
		       !bpf_skb_load_bytes(skb, 16, dest, 4) &&
		       !bpf_skb_load_bytes(skb, (first & 15) * 4, udp, sizeof(*udp));
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6))
		return false;
	if (bpf_skb_load_bytes(skb, 6, &protocol, 1) || protocol != IPPROTO_UDP)
		return false;
	*family = AF_INET6;
	return !bpf_skb_load_bytes(skb, 8, source, 16) && !bpf_skb_load_bytes(skb, 24, dest, 16) &&
	       !bpf_skb_load_bytes(skb, 40, udp, sizeof(*udp));
}

static __always_inline int udp_on_packet(struct __sk_buff *skb, u8 role, bool atomics)
{
	struct datagram gram = { .role = role, .in_process = role == ROLE_OUTGOING };
	bool out = role == ROLE_OUTGOING;
	struct udp_header udp;

	if (!udp_parse(skb, out ? gram.local_addr : gram.key.peer_addr,
		       out ? gram.key.peer_addr : gram.local_addr, &udp, &gram.key.family))
		return 1;
	gram.key.cookie = bpf_get_socket_cookie(skb);
	gram.key.peer_port = bpf_ntohs(out ? udp.dest : udp.source);
	gram.local_port = bpf_ntohs(out ? udp.source : udp.dest);
	gram.bytes = skb->len - ((skb->protocol == bpf_htons(ETH_P_IP)) ? 28 : 48);
	if (udp_is_reduced(&gram))
		return 1;
	if (out)
		gram.netns = current_netns();
	udp_count(&gram, atomics);
	return 1; /* let the packet pass */
}

SEC("cgroup_skb/egress")
int udp_egress(struct __sk_buff *skb)
{
	return udp_on_packet(skb, ROLE_OUTGOING, true);
}

SEC("cgroup_skb/egress")
int udp_egress_510(struct __sk_buff *skb)
{
	return udp_on_packet(skb, ROLE_OUTGOING, false);
}

SEC("cgroup_skb/ingress")
int udp_ingress(struct __sk_buff *skb)
{
	return udp_on_packet(skb, ROLE_INCOMING, false); /* it knows no owner, and reports nothing */
}

/* The receiver calls: the packet was counted in softirq without its owner. */
static __always_inline int udp_own(struct bpf_sock_addr *ctx, u8 family)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct udp_peer *peer;
	struct udp_flow *flow;

	if (level_of(LEVEL_UDP) != UDP_WHOLE)
		return 1;
	udp_remember_peer(ctx, family, false);
	peer = bpf_map_lookup_elem(&udp_peers, &thread);
	if (!peer)
		return 1;
	flow = bpf_map_lookup_elem(&udp_flows, &peer->key);
	if (!flow)
		return 1;
	if (flow->owner.tgid != thread >> 32)
		owner_of_current(&flow->owner);
	if (!flow->netns)
		flow->netns = current_netns();
	return 1;
}

SEC("cgroup/recvmsg4")
int udp_owner4(struct bpf_sock_addr *ctx)
{
	return udp_own(ctx, AF_INET);
}

SEC("cgroup/recvmsg6")
int udp_owner6(struct bpf_sock_addr *ctx)
{
	return udp_own(ctx, AF_INET6);
}

#endif
