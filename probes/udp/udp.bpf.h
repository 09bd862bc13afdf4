/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every UDP flow of the host: a socket and a peer, with what the programs sent and received.
 *
 * Variant "calls" (kernels with sock_send_length and sock_recv_length, 6.3 and later): counted where the call of the
 * program ends, in its own context, so that bytes are the program's own count and the owner is certain. The peer of an
 * unconnected socket comes from the cgroup hooks of the same call, which run just before. TCP pays nothing for it.
 * Variant "packets" (older kernels): counted in cgroup_skb; datagrams that the receiver's full buffer drops are counted
 * as read.
 *
 * Flow entries hold totals; only the sweep reads and removes them, so it needs no compare-and-exchange.
 */
#ifndef SONDE_UDP_H
#define SONDE_UDP_H

#include "level.bpf.h"
#include "sock.bpf.h"
#include "../nat/nat.bpf.h"

#define UDP_IDLE_NS (10ULL * 1000 * 1000 * 1000)
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

struct udp_key {
	u64 cookie; /* of the socket */
	u8 peer_addr[16];
	u16 peer_port;
	u8 family;
	u8 unused[5];
};

enum udp_total {
	UDP_BYTES_READ = 0,
	UDP_BYTES_WRITTEN = 1,
	UDP_READ = 2,
	UDP_WRITTEN = 3,
	UDP_TOTAL_MAX = 4,
};

enum udp_state {
	UDP_LIVE = 0,
	UDP_IDLE = 1, /* a sweep found it idle; the next one removes it unless something comes */
};

struct udp_flow {
	u64 total[UDP_TOTAL_MAX];
	u64 claimed[UDP_TOTAL_MAX]; /* what the sweep has reported */
	u64 last_ns;
	struct owner owner;
	u8 local_addr[16]; /* zero: the socket is bound to the wildcard address */
	u32 netns;
	u16 local_port;
	u8 role; /* who sent first */
	u8 state;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* configuration: collector.maps.sockets_max */
	__uint(map_flags, BPF_F_NO_PREALLOC); /* memory only for what is open */
	__type(key, struct udp_key);
	__type(value, struct udp_flow);
} udp_flows SEC(".maps");

/* The peer named in the call that this thread is in. */
struct udp_peer {
	struct udp_key key;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, u64); /* pid_tgid */
	__type(value, struct udp_peer);
} udp_peers SEC(".maps");

/* One datagram, one way. */
struct datagram {
	struct udp_key key;
	u64 bytes;
	u8 local_addr[16];
	u32 netns;
	u16 local_port;
	u8 role; /* ROLE_OUTGOING: sent; ROLE_INCOMING: received */
	bool in_process; /* the current process is the one that sent or received it */
};

/* Steps of the source over its budget. */
enum udp_level {
	UDP_WHOLE = 0,
	UDP_TOTALS = 1,
};

/* Adds to the totals of all datagrams that no flow has. `why`: what counts them for the ledger. */
static __always_inline void udp_overflow(struct datagram *gram, u32 why)
{
	u32 slot = overflow_slot(IPPROTO_UDP, gram->role);
	struct overflow *sum = bpf_map_lookup_elem(&sonde_overflow, &slot);

	count(why);
	if (!sum)
		return; /* cannot be: the slot is within the array */
	if (gram->role == ROLE_OUTGOING) {
		__sync_fetch_and_add(&sum->bytes_written, gram->bytes);
		__sync_fetch_and_add(&sum->packets_written, 1);
	} else {
		__sync_fetch_and_add(&sum->bytes_read, gram->bytes);
		__sync_fetch_and_add(&sum->packets_read, 1);
	}
}

static __always_inline void udp_add(struct udp_flow *flow, struct datagram *gram)
{
	if (gram->role == ROLE_OUTGOING) {
		__sync_fetch_and_add(&flow->total[UDP_BYTES_WRITTEN], gram->bytes);
		__sync_fetch_and_add(&flow->total[UDP_WRITTEN], 1);
	} else {
		__sync_fetch_and_add(&flow->total[UDP_BYTES_READ], gram->bytes);
		__sync_fetch_and_add(&flow->total[UDP_READ], 1);
	}
	flow->last_ns = bpf_ktime_get_boot_ns();
	if (flow->state != UDP_LIVE)
		flow->state = UDP_LIVE;
	if (gram->in_process && flow->owner.tgid != current_task_tgid())
		owner_of_current_task(&flow->owner);
}

static __always_inline struct udp_flow *udp_new_flow(struct datagram *gram)
{
	struct udp_flow flow = {};

	__builtin_memcpy(flow.local_addr, gram->local_addr, sizeof(flow.local_addr));
	flow.local_port = gram->local_port;
	flow.netns = gram->netns;
	flow.role = gram->role;
	/* NOEXIST: of two threads that come first at once, one makes the entry and both count in it */
	bpf_map_update_elem(&udp_flows, &gram->key, &flow, BPF_NOEXIST);
	return bpf_map_lookup_elem(&udp_flows, &gram->key);
}

static __always_inline void udp_count(struct datagram *gram)
{
	struct udp_flow *flow = bpf_map_lookup_elem(&udp_flows, &gram->key);

	if (!flow)
		flow = udp_new_flow(gram);
	if (flow)
		udp_add(flow, gram);
	else
		udp_overflow(gram, COUNT_UDP_FULL);
}

/* True: the source does less than all, and what it does is done. */
static __always_inline bool udp_is_reduced(struct datagram *gram)
{
	u32 level = level_of(LEVEL_UDP);

	if (level == UDP_TOTALS)
		udp_overflow(gram, COUNT_UDP_COARSE);
	return level != UDP_WHOLE;
}

/* ---- variant "calls" ---- */

static __always_inline int udp_remember_peer(struct bpf_sock_addr *ctx, u8 family)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct udp_peer peer = {};
	u32 *words = (u32 *)peer.key.peer_addr;

	if (level_of(LEVEL_UDP) != UDP_WHOLE)
		return 1;
	peer.key.cookie = bpf_get_socket_cookie(ctx);
	peer.key.peer_port = bpf_ntohs((u16)ctx->user_port);
	peer.key.family = family;
	if (family == AF_INET) {
		words[0] = ctx->user_ip4;
	} else {
		words[0] = ctx->user_ip6[0];
		words[1] = ctx->user_ip6[1];
		words[2] = ctx->user_ip6[2];
		words[3] = ctx->user_ip6[3];
		if (is_mapped(words)) {
			words[0] = words[3];
			words[2] = words[3] = 0;
			peer.key.family = AF_INET;
		}
	}
	bpf_map_update_elem(&udp_peers, &thread, &peer, BPF_ANY);
	return 1; /* let the call pass */
}

SEC("cgroup/sendmsg4")
int udp_sendmsg4(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET);
}

SEC("cgroup/sendmsg6")
int udp_sendmsg6(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET6);
}

SEC("cgroup/recvmsg4")
int udp_recvmsg4(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET);
}

SEC("cgroup/recvmsg6")
int udp_recvmsg6(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET6);
}

/* The local end of a socket, and its peer where it is connected. */
static __always_inline void udp_socket_ends(struct sock *sk, struct datagram *gram)
{
	struct flow_record ends;

	sock_ends_direct(sk, &ends);
	gram->netns = ends.netns;
	gram->local_port = sk->__sk_common.skc_num;
	__builtin_memcpy(gram->local_addr, ends.local_addr, sizeof(gram->local_addr));
	if (gram->key.family)
		return; /* the call named the peer */
	__builtin_memcpy(gram->key.peer_addr, ends.peer_addr, sizeof(ends.peer_addr));
	gram->key.peer_port = ends.peer_port;
	gram->key.family = ends.family;
	if (!ends.peer_port)
		count(COUNT_NO_PEER);
}

static __always_inline int udp_on_call(struct sock *sk, int length, u8 role)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct udp_peer *peer = bpf_map_lookup_elem(&udp_peers, &thread);
	struct datagram gram = { .role = role, .in_process = true };
	u64 cookie;

	if (!sock_is_inet_direct(sk, SOCK_DGRAM))
		return 0;
	cookie = bpf_get_socket_cookie(sk);
	if (peer) {
		if (peer->key.cookie == cookie)
			gram.key = peer->key;
		bpf_map_delete_elem(&udp_peers, &thread);
	}
	if (length < 0)
		return 0; /* the call failed: nothing went */
	gram.key.cookie = cookie;
	gram.bytes = length;
	if (udp_is_reduced(&gram))
		return 0;
	udp_socket_ends(sk, &gram);
	udp_count(&gram);
	return 0;
}

static __always_inline int udp_on_recv(struct sock *sk, int length, int flags)
{
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0; /* it will be read again, or was sent by this end */
	return udp_on_call(sk, length, ROLE_INCOMING);
}

/* ---- variant "packets" ---- */

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

static __always_inline int udp_on_packet(struct __sk_buff *skb, u8 role)
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
	udp_count(&gram);
	return 1; /* let the packet pass */
}

SEC("cgroup_skb/egress")
int udp_egress(struct __sk_buff *skb)
{
	return udp_on_packet(skb, ROLE_OUTGOING);
}

SEC("cgroup_skb/ingress")
int udp_ingress(struct __sk_buff *skb)
{
	return udp_on_packet(skb, ROLE_INCOMING);
}

/* The receiver calls: the packet was counted in softirq without its owner. */
static __always_inline int udp_own(struct bpf_sock_addr *ctx, u8 family)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct udp_peer *peer;
	struct udp_flow *flow;

	if (level_of(LEVEL_UDP) != UDP_WHOLE)
		return 1;
	udp_remember_peer(ctx, family);
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

/* ---- the sweep of both variants ---- */

static __always_inline u64 udp_claim(struct udp_flow *flow, u32 what)
{
	u64 now = flow->total[what];
	u64 delta = now - flow->claimed[what];

	flow->claimed[what] = now;
	return delta;
}

static __always_inline void udp_report(struct udp_key *key, struct udp_flow *from)
{
	struct flow_record flow;

	__builtin_memset(&flow, 0, sizeof(flow));
	flow.bytes_read = udp_claim(from, UDP_BYTES_READ);
	flow.bytes_written = udp_claim(from, UDP_BYTES_WRITTEN);
	flow.packets_read = udp_claim(from, UDP_READ);
	flow.packets_written = udp_claim(from, UDP_WRITTEN);
	if (!flow.packets_read && !flow.packets_written)
		return;
	flow.head.kind = RECORD_FLOW;
	flow.transport = IPPROTO_UDP;
	flow.family = key->family;
	flow.owner = from->owner;
	flow.role = from->role;
	flow.netns = from->netns;
	flow.local_port = from->local_port;
	flow.peer_port = key->peer_port;
	__builtin_memcpy(flow.local_addr, from->local_addr, sizeof(flow.local_addr));
	__builtin_memcpy(flow.peer_addr, key->peer_addr, sizeof(flow.peer_addr));
	if (nat_enabled && from->role == ROLE_OUTGOING)
		nat_of_flow((struct nat_key *)key, &flow); /* of the same shape */
	emit_flow(&flow);
}

SEC("iter/bpf_map_elem")
int udp_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	struct udp_key *key_now = ctx->key;
	struct udp_flow *flow;
	struct udp_key key;
	bool idle;

	if (!key_now)
		return 0; /* the end of the pass */
	key = *key_now;
	flow = bpf_map_lookup_elem(&udp_flows, &key);
	if (!flow || ring_nearly_full())
		return 0;
	idle = bpf_ktime_get_boot_ns() - flow->last_ns > UDP_IDLE_NS;
	udp_report(&key, flow);
	if (!idle)
		return 0;
	if (flow->state == UDP_LIVE) {
		flow->state = UDP_IDLE;
		return 0;
	}
	bpf_map_delete_elem(&udp_flows, &key);
	udp_report(&key, flow); /* what a call counted between the report and the removal */
	return 0;
}

#endif
