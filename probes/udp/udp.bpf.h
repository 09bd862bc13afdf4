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
 * Flow entries hold totals. Who reports them (the sweep, or a call of another process than the last) claims the difference to
 * what was reported with a compare-and-exchange.
 */
#ifndef SONDE_UDP_H
#define SONDE_UDP_H

#include "flow.bpf.h"

#define UDP_IDLE_NS (10ULL * 1000 * 1000 * 1000)

/*
 * The address that a datagram is sent from, where the call or bind() names one. To the unspecified address it goes to that,
 * or to the loopback.
 */
static __always_inline void udp_name_source4(struct bpf_sock_addr *ctx, struct udp_peer *peer)
{
	u32 *to = (u32 *)peer->key.peer_addr;
	u32 from = ctx->msg_src_ip4;

	*(u32 *)peer->local_addr = from;
	if (!*to)
		*to = from ? from : bpf_htonl(0x7f000001);
}

static __always_inline void udp_name_source6(struct bpf_sock_addr *ctx, struct udp_peer *peer)
{
	u32 *from = (u32 *)peer->local_addr;
	u32 *to = (u32 *)peer->key.peer_addr;

	from[0] = ctx->msg_src_ip6[0];
	from[1] = ctx->msg_src_ip6[1];
	from[2] = ctx->msg_src_ip6[2];
	from[3] = ctx->msg_src_ip6[3];
	if (peer->key.family == AF_INET6 && !(to[0] | to[1] | to[2] | to[3]))
		to[3] = bpf_htonl(1);
}

static __always_inline int udp_remember_peer(struct bpf_sock_addr *ctx, u8 family, bool sends)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct udp_peer peer = {};

	if (level_of(LEVEL_UDP) != UDP_WHOLE)
		return 1;
	peer.key.cookie = bpf_get_socket_cookie(ctx);
	peer.key.family = named_peer(ctx, family, peer.key.peer_addr, &peer.key.peer_port);
	if (sends && family == AF_INET)
		udp_name_source4(ctx, &peer);
	else if (sends)
		udp_name_source6(ctx, &peer);
	bpf_map_update_elem(&udp_peers, &thread, &peer, BPF_ANY);
	return 1; /* let the call pass */
}

SEC("cgroup/sendmsg4")
int udp_sendmsg4(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET, true);
}

SEC("cgroup/sendmsg6")
int udp_sendmsg6(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET6, true);
}

SEC("cgroup/recvmsg4")
int udp_recvmsg4(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET, false);
}

SEC("cgroup/recvmsg6")
int udp_recvmsg6(struct bpf_sock_addr *ctx)
{
	return udp_remember_peer(ctx, AF_INET6, false);
}

/* The local end of a socket, and its peer where it is connected. */
static __always_inline void udp_socket_ends(struct sock *sk, struct datagram *gram)
{
	struct flow_record ends;

	sock_ends_direct(sk, &ends);
	gram->netns = ends.netns;
	gram->local_port = sk->__sk_common.skc_num;
	if (is_zero(gram->local_addr))
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
		if (peer->key.cookie == cookie) {
			gram.key = peer->key;
			__builtin_memcpy(gram.local_addr, peer->local_addr, 16);
		}
		bpf_map_delete_elem(&udp_peers, &thread);
	}
	if (length < 0)
		return 0; /* the call failed: nothing went */
	gram.key.cookie = cookie;
	gram.bytes = length;
	if (udp_is_reduced(&gram))
		return 0;
	udp_socket_ends(sk, &gram);
	udp_count(&gram, true);
	return 0;
}

static __always_inline int udp_on_recv(struct sock *sk, int length, int flags)
{
	u64 thread;

	if (flags & (MSG_PEEK | MSG_ERRQUEUE)) {
		thread = bpf_get_current_pid_tgid();
		bpf_map_delete_elem(&udp_peers, &thread);
		return 0; /* it will be read again, or was sent by this end */
	}
	return udp_on_call(sk, length, ROLE_INCOMING);
}

static __always_inline u32 udp_resting_max(void)
{
	u32 quarter = ((struct bpf_map *)&udp_flows)->max_entries / 4;

	return quarter < UDP_RESTING_MAX ? quarter : UDP_RESTING_MAX;
}

/* At the end of a pass. */
static __always_inline void udp_settle_rest(void)
{
	u32 zero = 0;
	struct udp_rest *rest = bpf_map_lookup_elem(&udp_rests, &zero);

	if (!rest)
		return; /* cannot be */
	if (!rest->rest_ns)
		rest->rest_ns = UDP_REST_NS_MAX;
	else if (rest->resting >= udp_resting_max() && rest->rest_ns > UDP_REST_NS_MIN)
		rest->rest_ns /= 2;
	else if (rest->resting < udp_resting_max() / 2 && rest->rest_ns < UDP_REST_NS_MAX)
		rest->rest_ns *= 2;
	rest->resting = 0;
}

/* False: the entry has rested long enough, or too many do. */
static __always_inline bool udp_may_rest(u64 idle_ns)
{
	u32 zero = 0;
	struct udp_rest *rest = bpf_map_lookup_elem(&udp_rests, &zero);

	if (!rest || rest->resting >= udp_resting_max())
		return false;
	if (rest->rest_ns && idle_ns - UDP_IDLE_NS > rest->rest_ns)
		return false;
	rest->resting++;
	return true;
}

static __always_inline int udp_sweep_one(struct bpf_iter__bpf_map_elem *ctx, bool atomics)
{
	struct udp_key *key_now = ctx->key;
	struct udp_flow *flow;
	struct udp_key key;
	u64 idle_ns;

	if (!key_now) {
		udp_settle_rest();
		return 0; /* the end of the pass */
	}
	key = *key_now;
	flow = bpf_map_lookup_elem(&udp_flows, &key);
	if (!flow || ring_nearly_full())
		return 0;
	idle_ns = bpf_ktime_get_boot_ns() - flow->last_ns;
	if (flow->owner_changes)
		flow->owner_changes = 0;
	udp_report(&key, flow, atomics);
	if (idle_ns <= UDP_IDLE_NS || (s64)idle_ns < 0)
		return 0;
	if (flow->state == UDP_LIVE) {
		flow->state = UDP_IDLE;
		return 0;
	}
	if (udp_may_rest(idle_ns))
		return 0;
	bpf_map_delete_elem(&udp_flows, &key);
	udp_report(&key, flow, atomics); /* what a call counted between the report and the removal */
	return 0;
}

SEC("iter/bpf_map_elem")
int udp_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	return udp_sweep_one(ctx, true);
}

SEC("iter/bpf_map_elem")
int udp_sweep_510(struct bpf_iter__bpf_map_elem *ctx)
{
	return udp_sweep_one(ctx, false);
}

#endif
