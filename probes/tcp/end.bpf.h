/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The end of a connection: its last record, whoever sees it. tcp.bpf.h tells the whole idea. */
#ifndef SONDE_TCP_END_H
#define SONDE_TCP_END_H

#include "conn.bpf.h"

#define EADDRNOTAVAIL 99

/* Bits of sk_flags. */
#define SOCK_DONE 1 /* the peer's FIN has come */
#define SOCK_LINGER 4

/* Leaving FIN_WAIT_2 is most often an orderly end: the peer's FIN has come, or nobody waits for it any more. */
static __noinline int aborts_half_closed(struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	u64 flags = BPF_CORE_READ(sk, __sk_common.skc_flags);

	if (flags & 1 << SOCK_DONE)
		return 0;
	if (flags & 1 << SOCK_LINGER && !BPF_CORE_READ(sk, sk_lingertime))
		return 1;
	return BPF_CORE_READ(tp, rcv_nxt) != BPF_CORE_READ(tp, copied_seq);
}

/*
 * close() with unread data or with linger 0 sets TCP_CLOSE first and sends its RST after, when the entry is gone: an end
 * straight from an open state, with no RST from the peer and no error, is such a reset; but not of a socket under repair
 * (CRIU), which sends nothing.
 */
static __always_inline bool aborts(struct sock *sk, struct conn *conn, int oldstate)
{
	if (sk->sk_err || conn->reset_flags & FLOW_RESET_IN)
		return false;
	if (oldstate == TCP_FIN_WAIT2)
		return aborts_half_closed(sk);
	return (oldstate == TCP_ESTABLISHED || oldstate == TCP_CLOSE_WAIT ||
		oldstate == TCP_FIN_WAIT1) &&
	       !BPF_CORE_READ_BITFIELD_PROBED((struct tcp_sock *)sk, repair);
}

/*
 * connect() has refused: it found no free port, or the connection is there already. What it says is not in the socket, but
 * no SYN was sent either. A fast open that waits for the first write has sent none yet, and is given up.
 */
static __always_inline bool no_port(struct tcp_sock *tp, int oldstate, u64 segs_out)
{
	return oldstate == TCP_SYN_SENT && !segs_out &&
	       !BPF_CORE_READ_BITFIELD_PROBED(tp, fastopen_connect);
}

static __always_inline void end_record(struct sock *sk, struct tcp_sock *tp, struct conn *conn,
				       int oldstate, bool atomics)
{
	struct flow_record flow;
	struct counters now;
	u32 state = conn->state;
	bool failed;

	if (atomics)
		state = __sync_lock_test_and_set(&conn->state, CONN_DEAD);
	if (state == CONN_DEAD)
		return; /* a sweep found it ended before */
	flow_head(&flow, conn);
	flow.head.flags |= conn->reset_flags;
	sock_ends_direct(sk, &flow);
	flow.local_port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport); /* skc_num is 0 by now */
	counters_direct(tp, &now);
	settle_direct(tp, &now);
	CLAIM_ALL(claim_last, conn, &now, &flow, atomics);
	flow.error = sk->sk_err ? sk->sk_err : sk->sk_err_soft;
	failed = state == CONN_CONNECTING && (oldstate == TCP_SYN_SENT || oldstate == TCP_SYN_RECV);
	if (failed && !flow.error && no_port(tp, oldstate, now.value[CLAIM_SEGS_OUT]))
		flow.error = EADDRNOTAVAIL;
	if (!failed && aborts(sk, conn, oldstate))
		flow.head.flags |= FLOW_RESET_OUT;
	nat_of_tcp((u64)sk, conn->reset_flags, &flow);
	flow_ended(&flow, conn, state, failed);
	emit_flow(&flow);
}

/*
 * Kernels before 6.13 count the frames of a program and of all that it calls against 512 bytes: what follows is in functions
 * of their own, each with few variables or calling little.
 */
static __noinline int conn_own(struct conn *conn)
{
	if (conn)
		owner_of_current(&conn->owner);
	return 0;
}

static __always_inline void end_known(struct sock *sk, struct conn *conn, int oldstate,
				      bool atomics)
{
	u64 key = (u64)sk;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!tp)
		return; /* not a full TCP socket: nothing was counted on it */
	end_record(sk, tp, conn, oldstate, atomics);
	nat_forget_tcp(key, conn->reset_flags);
	bpf_map_delete_elem(&tcp_conns, &key);
}

/* The end of a connection without an entry. */
static __always_inline void end_unknown(struct sock *sk, int oldstate, bool atomics)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct conn unseen;

	if (!tp || oldstate == TCP_CLOSE || oldstate == TCP_LISTEN || oldstate == TCP_SYN_RECV)
		return; /* never a connection */
	__builtin_memset(&unseen, 0, sizeof(unseen));
	new_conn(&unseen, 0, ROLE_UNKNOWN,
		 oldstate == TCP_SYN_SENT ? CONN_CONNECTING : CONN_PREEXISTING);
	end_record(sk, tp, &unseen, oldstate, atomics);
}

#define DEFINE_ENDS(way, atomics) \
static __noinline int end_known_##way(struct sock *sk, struct conn *conn, int oldstate) \
{ \
	if (conn) \
		end_known(sk, conn, oldstate, atomics); \
	return 0; \
} \
static __noinline int end_unknown_##way(struct sock *sk, int oldstate) \
{ \
	end_unknown(sk, oldstate, atomics); \
	return 0; \
}

DEFINE_ENDS(now, true)
DEFINE_ENDS(510, false)

static __always_inline void tcp_on_close(struct sock *sk, int oldstate, bool atomics)
{
	u64 key = (u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);

	if (conn && !conn->owner.tgid && aborts(sk, conn, oldstate))
		conn_own(conn); /* within close(), of the listener perhaps */
	if (conn && atomics)
		end_known_now(sk, conn, oldstate);
	else if (conn)
		end_known_510(sk, conn, oldstate);
	else if (atomics)
		end_unknown_now(sk, oldstate);
	else
		end_unknown_510(sk, oldstate);
}

static __noinline int tcp_closed(struct sock *sk, int oldstate)
{
	tcp_on_close(sk, oldstate, true);
	return 0;
}

#endif
