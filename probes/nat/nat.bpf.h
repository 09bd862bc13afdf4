/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where the packets of an outgoing flow really go. The egress hook of a cgroup runs after the netfilter hooks of the socket's
 * own network namespace, so that a header whose destination is not the socket's tells of a destination NAT there, without
 * any look at conntrack and whatever made it (iptables, nftables, IPVS on OUTPUT). A flow without NAT costs a comparison
 * for each packet, an entry in `nat_peers` is made for those with it alone. Read when a flow is reported: nat_of_flow.
 */
#ifndef SONDE_NAT_H
#define SONDE_NAT_H

#include "../../bpf/packet.bpf.h"

const volatile bool nat_enabled = false;

/* A TCP connection by the address of its struct sock, as in tcp_conns, and no peer; a UDP flow as in udp_flows. */
struct nat_key {
	u64 socket;
	u8 peer_addr[16];
	u16 peer_port;
	u8 family;
	u8 unused[5];
};

struct nat_peer {
	u8 addr[16];
	u16 port;
	u8 unused[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct nat_key);
	__type(value, struct nat_peer);
} nat_peers SEC(".maps");

/*
 * Peers that are asked for: where NAT leads one elsewhere, the ends of each single connection count. The collector hears of
 * it from connection tracking and says so here; as long as it may not have heard, a peer is taken for such a one.
 */
struct nat_service {
	u8 addr[16];
	u16 port;
	u8 unused[6];
};

#define NAT_HEARD_NS 1000000000ULL /* some turns of the collector */

struct nat_sight {
	u64 first_ns;
	u64 led; /* not 0: NAT leads it elsewhere */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, struct nat_service);
	__type(value, struct nat_sight);
} nat_services SEC(".maps");

/* What nat_may_lead works with, in the caller's map: its stack is deep. */
struct nat_room {
	struct nat_service service;
	struct nat_sight sight;
};

/* `addr`: aligned as its words, which spares the copy a stack. */
static __always_inline bool nat_may_lead(struct nat_room *room, const u32 *addr, u16 port)
{
	u32 *to = (u32 *)room->service.addr;
	u64 now = bpf_ktime_get_ns();
	struct nat_sight *seen;

	__builtin_memset(room, 0, sizeof(*room));
	for (int i = 0; i < 4; i++)
		to[i] = addr[i];
	room->service.port = port;
	seen = bpf_map_lookup_elem(&nat_services, &room->service);
	if (seen)
		return seen->led || now - seen->first_ns < NAT_HEARD_NS;
	room->sight.first_ns = now;
	bpf_map_update_elem(&nat_services, &room->service, &room->sight, BPF_NOEXIST);
	return true;
}

/* The peer after NAT, if there is one: into the record. */
static __always_inline bool nat_of_flow(struct nat_key *key, struct flow_record *flow)
{
	struct nat_peer *peer = bpf_map_lookup_elem(&nat_peers, key);

	flow->head.flags &= ~FLOW_NAT;
	if (!peer)
		return false;
	flow->head.flags |= FLOW_NAT;
	__builtin_memcpy(flow->nat_addr, peer->addr, sizeof(flow->nat_addr));
	flow->nat_port = peer->port;
	return true;
}

/* `mark`: of the connection's entry, where skb_out left FLOW_NAT when it made the one in `nat_peers`. */
static __always_inline void nat_of_tcp(u64 socket, u8 mark, struct flow_record *flow)
{
	struct nat_key key = { .socket = socket };

	if (!nat_enabled || !(mark & FLOW_NAT))
		return;
	if (!nat_of_flow(&key, flow))
		count(COUNT_NAT_LOST);
}

/* No other connection at this address of a struct sock shall find it. */
static __always_inline void nat_forget_tcp(u64 socket, u8 mark)
{
	struct nat_key key = { .socket = socket };

	if (nat_enabled && mark & FLOW_NAT)
		bpf_map_delete_elem(&nat_peers, &key);
}

#endif
