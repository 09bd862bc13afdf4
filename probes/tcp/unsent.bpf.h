/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect() that the kernel refuses before a SYN: for want of a route, or of leave. Its socket never changes its state, so no
 * other hook sees it. A control group's hook notes that the call begins, and the change to SYN_SENT takes the note back: what
 * is still there when the call is over has failed. Why is not told to anybody but the caller.
 */
#ifndef SONDE_TCP_UNSENT_H
#define SONDE_TCP_UNSENT_H

#include "conn.bpf.h"

#define ATTEMPT_BITS 6
#define ATTEMPT_BEING_MADE 1

struct tcp_attempt {
	u64 sk; /* address of the socket; 0: nobody's; ATTEMPT_BEING_MADE */
	struct owner owner;
	u8 peer_addr[16];
	u16 peer_port;
	u8 family;
	u8 unused[5];
};

/* A place follows from the thread: a call that finds another's, which is under way, in its place, goes unnoted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << ATTEMPT_BITS);
	__type(key, u32);
	__type(value, struct tcp_attempt);
} tcp_attempts SEC(".maps");

static __always_inline struct tcp_attempt *tcp_attempt_here(void)
{
	u32 slot = (u32)bpf_get_current_pid_tgid() & ((1 << ATTEMPT_BITS) - 1);

	return bpf_map_lookup_elem(&tcp_attempts, &slot);
}

/* The SYN goes out. False: its call was not noted. */
static __always_inline bool tcp_attempt_sent(u64 sk, struct owner *owner)
{
	struct tcp_attempt *attempt = tcp_attempt_here();

	if (!attempt || attempt->sk != sk)
		return false;
	*owner = attempt->owner;
	attempt->sk = 0;
	return true;
}

/* Reports a call that is over; `again`: the same socket has begun another, so it is. */
static __noinline int tcp_attempt_failed(struct tcp_attempt *attempt, u64 key, bool again)
{
	struct sock *sk = (struct sock *)key;
	struct flow_record flow;

	if (!attempt || (!again && BPF_CORE_READ(sk, sk_lock.owned)))
		return 0;
	__builtin_memset(&flow, 0, sizeof(flow));
	flow.head.kind = RECORD_FLOW;
	flow.head.flags = FLOW_FAILED;
	flow.transport = IPPROTO_TCP;
	flow.role = ROLE_OUTGOING;
	flow.connections_failed = 1;
	flow.error = FLOW_NOT_SENT;
	flow.owner = attempt->owner;
	flow.family = attempt->family;
	flow.peer_port = attempt->peer_port;
	__builtin_memcpy(flow.peer_addr, attempt->peer_addr, sizeof(flow.peer_addr));
	flow.netns = sock_netns_probe(sk);
	if (__sync_val_compare_and_swap(&attempt->sk, key, 0) == key)
		emit_flow(&flow);
	return 0;
}

static __always_inline int tcp_attempt_begins(struct bpf_sock_addr *ctx, u8 family)
{
	struct tcp_attempt *attempt;
	u64 sk, old;

	if (ctx->protocol != IPPROTO_TCP || ctx->type != SOCK_STREAM || !ctx->sk)
		return 1;
	sk = address_of(ctx->sk);
	attempt = tcp_attempt_here();
	if (!attempt)
		return 1;
	old = attempt->sk;
	if (old > ATTEMPT_BEING_MADE)
		tcp_attempt_failed(attempt, old, old == sk);
	if (__sync_val_compare_and_swap(&attempt->sk, 0, ATTEMPT_BEING_MADE))
		return 1;
	owner_of_current(&attempt->owner);
	__builtin_memset(attempt->peer_addr, 0, sizeof(attempt->peer_addr));
	attempt->family = named_peer(ctx, family, attempt->peer_addr, &attempt->peer_port);
	barrier();
	attempt->sk = sk;
	return 1; /* let the call pass */
}

SEC("cgroup/connect4")
int tcp_connect4(struct bpf_sock_addr *ctx)
{
	return tcp_attempt_begins(ctx, AF_INET);
}

SEC("cgroup/connect6")
int tcp_connect6(struct bpf_sock_addr *ctx)
{
	return tcp_attempt_begins(ctx, AF_INET6);
}

SEC("iter/bpf_map_elem")
int tcp_unsent(struct bpf_iter__bpf_map_elem *ctx)
{
	u32 *slot_now = ctx->key;
	struct tcp_attempt *attempt;
	u32 slot;
	u64 sk;

	if (!slot_now || ring_nearly_full())
		return 0;
	slot = *slot_now;
	attempt = bpf_map_lookup_elem(&tcp_attempts, &slot);
	if (!attempt)
		return 0;
	sk = attempt->sk;
	if (sk > ATTEMPT_BEING_MADE)
		tcp_attempt_failed(attempt, sk, false);
	return 0;
}

#endif
