/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every TCP connection of the host, in all network namespaces, from the socket's own counters.
 *
 * A connection has one entry in `tcp_conns`, keyed by the address of its struct sock, from connect() or the end of the
 * handshake until TCP_CLOSE. The entry says who owns it and how much of the socket's counters was reported. Whoever
 * reports (the end of the connection, the sweep, a change of owner) claims the difference with a compare-and-exchange,
 * so that the records of a connection add up to its final counters whatever races.
 *
 * Why not bpf_sk_storage: its creation costs a short connection 640-880 ns, an entry here 100-200.
 */
#ifndef SONDE_TCP_H
#define SONDE_TCP_H

#include "../capture/capture.bpf.h"
#include "../tcpstate/tcpstate.bpf.h"
#include "end.bpf.h"
#include "unsent.bpf.h"

extern const volatile bool tcp_enabled; /* sonde.bpf.c */

/* connect() was called: this process opens the connection. */
static __always_inline void tcp_on_connect(struct sock *sk)
{
	u64 key = (u64)sk;
	struct conn conn = {};

	new_conn(&conn, sock_ident_direct(sk), ROLE_OUTGOING, CONN_CONNECTING);
	conn.born_ns = bpf_ktime_get_boot_ns();
	if (!tcp_attempt_sent(key, &conn.owner))
		owner_of_current(&conn.owner);
	keep_conn(key, &conn);
}

static __always_inline void tcp_on_established(struct sock *sk, int oldstate)
{
	u64 key = (u64)sk;
	struct conn *known = bpf_map_lookup_elem(&tcp_conns, &key);
	struct conn conn = {};

	if (known && known->state == CONN_CONNECTING) {
		known->connect_ns = bpf_ktime_get_boot_ns() - known->born_ns;
		known->state = CONN_ESTABLISHED;
		return;
	}
	if (known && known->early && known->ident == sock_ident_direct(sk)) {
		known->early = 0;
		return;
	}
	/* softirq: the owner comes with its first call */
	new_conn(&conn, sock_ident_direct(sk),
		 oldstate == TCP_SYN_SENT ? ROLE_OUTGOING : ROLE_INCOMING, CONN_ESTABLISHED);
	keep_conn(key, &conn);
}

/* close() or shutdown() by a process: the last chance to learn the owner of a socket that nobody read or wrote. */
static __always_inline void tcp_on_closing(struct sock *sk)
{
	u64 key = (u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);

	if (conn && !conn->owner.tgid)
		owner_of_current(&conn->owner);
}

static __noinline int tcpstate_looks(struct sock *sk, int oldstate, int newstate)
{
	tcpstate_on_change(sk, oldstate, newstate);
	return 0;
}

/* All changes but the end. */
static __always_inline int tcp_on_state(struct sock *sk, int oldstate, int newstate)
{
	if (newstate == TCP_SYN_SENT)
		tcp_on_connect(sk);
	if (tcpstate_enabled)
		tcpstate_looks(sk, oldstate, newstate);
	if (newstate == TCP_ESTABLISHED)
		tcp_on_established(sk, oldstate);
	else if (newstate == TCP_FIN_WAIT1 || newstate == TCP_LAST_ACK)
		tcp_on_closing(sk);
	else if (capture_enabled && newstate == TCP_LISTEN)
		capture_on_listen(sk);
	return 0;
}

/* Before 5.12; later kernels have tcp_state and tcp_destroy, which other sources use too (sonde.bpf.c). */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_510, struct sock *sk, int oldstate, int newstate)
{
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (tcpstate_enabled && !tcp_enabled)
		tcpstate_alone(sk, oldstate, newstate);
	if (newstate != TCP_CLOSE)
		return tcp_enabled ? tcp_on_state(sk, oldstate, newstate) : 0;
	if (tcpstate_enabled && tcp_enabled)
		tcpstate_looks(sk, oldstate, newstate);
	if (tcp_enabled)
		tcp_on_close(sk, oldstate, false);
	return 0;
}

/* The socket goes; an entry that is still there has missed its TCP_CLOSE. */
static __always_inline int tcp_on_destroy(struct sock *sk, bool atomics)
{
	u64 key = (u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);
	struct tcp_sock *tp;

	if (!conn)
		return 0;
	count(COUNT_MENDED);
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		end_record(sk, tp, conn, conn->state == CONN_CONNECTING ? TCP_SYN_SENT : TCP_CLOSE,
			   atomics);
	bpf_map_delete_elem(&tcp_conns, &key);
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy_510, struct sock *sk)
{
	return tcp_on_destroy(sk, false);
}

/*
 * A record of a live connection. `key` may be the address of a socket that is being closed: all is read first and claimed
 * last, and a claim on a dead entry fails, so what was read belongs to a socket that lived until then.
 */
static __always_inline void tcp_report_live(u64 key, struct conn *conn, int length, enum call call,
					    bool atomics)
{
	struct sock *sk = (struct sock *)key;
	struct flow_record flow;
	struct counters now;
	u32 state = conn->state;
	bool changed = conn->owner_changes;
	bool first;

	if (state == CONN_CONNECTING &&
	    BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_ESTABLISHED &&
	    claim_state(conn, CONN_CONNECTING, CONN_ESTABLISHED, atomics))
		state = CONN_ESTABLISHED; /* missed */
	first = state == CONN_ESTABLISHED || state == CONN_PREEXISTING;
	if (state == CONN_CONNECTING || state == CONN_DEAD)
		return;
	if (!conn->owner.tgid && conn->owner_sought < OWNER_SOUGHT_MAX) {
		/* nobody read or wrote yet: the collector looks through the open files and comes again. Only
		 * what stays unowned until its next sweep (nobody has accepted it) is reported so */
		conn->owner_sought++;
		count(COUNT_OWNER_SOUGHT);
		return;
	}
	if (changed && call == CALL_NONE)
		conn->owner_changes = 0;
	counters_probe((struct tcp_sock *)sk, &now);
	if (!first && !changed &&
	    conn->claimed[CLAIM_SEGS_IN] == conn->base + now.value[CLAIM_SEGS_IN] &&
	    conn->claimed[CLAIM_SEGS_OUT] == conn->base + now.value[CLAIM_SEGS_OUT])
		return; /* nothing came or went, and no record of a former owner has left anything */
	flow_head(&flow, conn);
	sock_ends_probe(sk, &flow);
	/* not skc_num, which a close sets to 0 some moments before the entry is dead */
	flow.local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	settle_probe((struct tcp_sock *)sk, &now);
	if (call > CALL_ANY) {
		before_call((struct tcp_sock *)sk, &now, length, call);
		if (state == CONN_ESTABLISHED &&
		    !(now.value[CLAIM_READ] | now.value[CLAIM_WRITTEN]))
			return; /* the former owner has but accepted it, or looked at it: all is the next one's */
	}
	if (conn->ident != sock_ident_probe(sk))
		return; /* what was read is another's; the next sweep finds this one ended */
	CLAIM_ALL(claim, conn, &now, &flow, atomics);
	if (first && claim_state(conn, state, CONN_REPORTED, atomics))
		flow_established(&flow, conn, state);
	else if (!(flow.bytes_read | flow.bytes_written | flow.packets_read |
		   flow.packets_written | flow.retransmits))
		return; /* the entry is dead: nothing was got, and the addresses may be another's */
	nat_of_tcp(key, conn->reset_flags, &flow);
	emit_flow(&flow);
}

#define DEFINE_REPORT(way, atomics) \
static __noinline int tcp_report_##way(u64 key, struct conn *conn, int length, enum call call) \
{ \
	if (conn) \
		tcp_report_live(key, conn, length, call, atomics); \
	return 0; \
}

DEFINE_REPORT(now, true)
DEFINE_REPORT(510, false)

/* Another process reads or writes: what was until now is reported as the former owner's. */
static __always_inline void tcp_owner_changed(u64 key, struct conn *conn, int length,
					      enum call call, bool atomics)
{
	if (conn->owner.tgid && conn->owner_changes < OWNER_CHANGES_MAX) {
		conn->owner_changes++;
		if (atomics)
			tcp_report_now(key, conn, length, call);
		else
			tcp_report_510(key, conn, length, call);
	} else if (conn->owner.tgid) {
		count(COUNT_OWNER_CHANGES);
	}
	conn_own(conn);
}

/*
 * A call on a socket without an entry: its establishment was missed, or the map was full then; or it is to come, for a
 * connection that begins with data (TCP Fast Open) is accepted, read and written before its handshake ends.
 */
static __noinline int tcp_missed(struct sock *sk)
{
	u8 state = sk->__sk_common.skc_state;
	u64 key = (u64)sk;
	struct conn conn = {};

	if (state == TCP_CLOSE || state == TCP_LISTEN || state == TCP_SYN_SENT || !files_swept() ||
	    !sock_is_inet_direct(sk, SOCK_STREAM))
		return 0;
	/* incoming: connect() makes its entry in its own call */
	new_conn(&conn, sock_ident_direct(sk), ROLE_INCOMING, CONN_ESTABLISHED);
	conn.early = state == TCP_SYN_RECV;
	if (!conn.early)
		count(COUNT_MENDED);
	owner_of_current(&conn.owner);
	keep_conn(key, &conn);
	return 0;
}

/* `length`: what the call moved; below 0: nothing. False: the caller is not the owner, or there is no entry. */
static __always_inline bool tcp_on_io(struct sock *sk, int length, enum call call, bool atomics)
{
	u64 key = (u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);

	if (!conn) {
		tcp_missed(sk);
		return false;
	}
	if (conn->owner.tgid == current_tgid())
		return true;
	if (conn->owner.tgid && length < 0)
		return false;
	tcp_owner_changed(key, conn, length, call, atomics);
	return true;
}

static __noinline int tcp_new_caller(struct sock *sk, int length, int flags, enum call call)
{
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		length = -1; /* it is still there, or was never part of the stream */
	return tcp_on_io(sk, length, call, true);
}

/*
 * Each read and write of a TCP socket passes here: some ten instructions unless the caller is another than last.
 */
static __always_inline void tcp_on_call(struct sock *sk, int length, int flags, enum call call)
{
	u64 cookie = sk->__sk_common.skc_cookie.counter;
	u64 *last, caller;
	u32 slot;

	if (!cookie) /* nobody has asked for it yet */
		cookie = bpf_get_socket_cookie(sk);
	caller = cookie << TGID_BITS | current_tgid();
	slot = cookie & (OWNER_SLOTS - 1);
	last = bpf_map_lookup_elem(&tcp_last_owner, &slot);
	if (!last || *last == caller)
		return;
	if (tcp_new_caller(sk, length, flags, call))
		*last = caller;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_read_510, struct sock *sk)
{
	tcp_on_io(sk, 0, CALL_ANY, false);
	return 0;
}

static __always_inline int tcp_on_reset(const struct sock *sk, u8 flag)
{
	u64 key = (u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &key);

	if (conn)
		conn->reset_flags |= flag;
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_reset_in, struct sock *sk)
{
	return tcp_on_reset(sk, FLOW_RESET_IN);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_reset_out, const struct sock *sk)
{
	return tcp_on_reset(sk, FLOW_RESET_OUT);
}

enum unseen {
	UNSEEN_NO = 0,
	UNSEEN_ENDED = 1,
	UNSEEN_LOST = 2, /* its memory is another's: the caller counts its end, with the stack that takes */
};

/*
 * True: the connection has ended, and no hook saw it. Its socket is closed and still as it was, or the memory is another's:
 * then all that can be said is that it ended. The state of a socket is written after the hook has run, so that an entry
 * whose end is seen is gone before.
 */
static __always_inline int tcp_end_unseen(u64 key, struct conn *conn, bool atomics)
{
	struct sock *sk = (struct sock *)key;
	bool same = conn->ident == sock_ident_probe(sk);
	u32 state = conn->state;
	struct flow_record flow;
	struct counters now;

	if (state == CONN_DEAD ||
	    (same && BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_CLOSE))
		return UNSEEN_NO;
	flow_head(&flow, conn);
	sock_ends_probe(sk, &flow);
	flow.local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	flow.error = BPF_CORE_READ(sk, sk_err);
	counters_probe((struct tcp_sock *)sk, &now);
	settle_probe((struct tcp_sock *)sk, &now);
	if (!same || conn->ident != sock_ident_probe(sk))
		return UNSEEN_LOST;
	if (claim_state(conn, state, CONN_DEAD, atomics)) {
		count(COUNT_MENDED);
		CLAIM_ALL(claim_last, conn, &now, &flow, atomics);
		flow_ended(&flow, conn, state, state == CONN_CONNECTING);
		nat_of_tcp(key, conn->reset_flags, &flow);
		emit_flow(&flow);
	}
	return UNSEEN_ENDED;
}

#define DEFINE_UNSEEN(way, atomics) \
static __noinline int tcp_unseen_##way(u64 key, struct conn *conn) \
{ \
	return conn ? tcp_end_unseen(key, conn, atomics) : UNSEEN_NO; \
}

DEFINE_UNSEEN(now, true)
DEFINE_UNSEEN(510, false)

/* The periodic sweep: one record for each connection on which something happened since the last. */
static __always_inline int tcp_sweep_one(struct bpf_iter__bpf_map_elem *ctx, bool atomics)
{
	u64 *key_now = ctx->key;
	struct conn *conn;
	u64 key;
	int unseen;

	if (!key_now)
		return 0; /* the end of the pass */
	key = *key_now;
	conn = bpf_map_lookup_elem(&tcp_conns, &key);
	if (conn && tcpstate_enabled)
		conn->tcp_state = BPF_CORE_READ((struct sock *)key, __sk_common.skc_state);
	if (!conn || ring_nearly_full())
		return 0;
	unseen = atomics ? tcp_unseen_now(key, conn) : tcp_unseen_510(key, conn);
	if (unseen == UNSEEN_LOST)
		conn_lost(conn);
	if (unseen != UNSEEN_NO)
		bpf_map_delete_elem(&tcp_conns, &key);
	else if (atomics)
		tcp_report_now(key, conn, 0, CALL_NONE);
	else
		tcp_report_510(key, conn, 0, CALL_NONE);
	return 0;
}

SEC("iter/bpf_map_elem")
int tcp_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	return tcp_sweep_one(ctx, true);
}

SEC("iter/bpf_map_elem")
int tcp_sweep_510(struct bpf_iter__bpf_map_elem *ctx)
{
	return tcp_sweep_one(ctx, false);
}

/*
 * A connection found among a process's open files: one that is older than sonde, or one without an owner so far. Its owner
 * is the first process found with it, until another uses it.
 */
static __always_inline void tcp_found(struct sock *sk, struct task_struct *task)
{
	u64 key = (u64)sk;
	u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	struct listener local = { .port = BPF_CORE_READ(sk, __sk_common.skc_num) };
	u32 one = 1;
	u8 role = ROLE_UNKNOWN;
	struct conn conn = {};
	struct conn *known;
	bool listens;

	local.netns = sock_netns_probe(sk);
	if (state == TCP_LISTEN) {
		bpf_map_update_elem(&tcp_listeners, &local, &one, BPF_ANY);
		return;
	}
	known = bpf_map_lookup_elem(&tcp_conns, &key);
	if (known && !known->owner.tgid)
		owner_of_probe(task, cgroup_of_task(task), &known->owner);
	listens = bpf_map_lookup_elem(&tcp_listeners, &local);
	if (known && known->state == CONN_PREEXISTING && listens)
		known->role = ROLE_INCOMING; /* it was found before its listener was */
	if (known || state == TCP_CLOSE || state == TCP_SYN_SENT)
		return;
	if (listens)
		role = ROLE_INCOMING;
	else if (BPF_CORE_READ((struct inet_connection_sock *)sk, icsk_bind_hash, fastreuse) ==
		 PORT_OF_CONNECT)
		role = ROLE_OUTGOING; /* else it was bound, or accepted by one that listens no more */
	new_conn(&conn, sock_ident_probe(sk), role, CONN_PREEXISTING);
	conn.early = state == TCP_SYN_RECV;
	owner_of_probe(task, cgroup_of_task(task), &conn.owner);
	if (bpf_map_update_elem(&tcp_conns, &key, &conn, BPF_NOEXIST))
		count(COUNT_CONN_FULL);
}

#endif
