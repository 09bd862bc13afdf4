/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The state of a connection: its entry, what was reported of its socket's counters, and the claims on them. The hooks that
 * make, move and end it are in tcp.bpf.h, which tells the whole idea.
 */
#ifndef SONDE_CONN_H
#define SONDE_CONN_H

#include "sock.bpf.h"
#include "../nat/nat.bpf.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10

#define CLAIM_BITS 48 /* a claim: 48 bits of counter below 16 bits of the entry's generation */
#define CLAIM_DEAD (0xffffULL << CLAIM_BITS)
#define PORT_OF_CONNECT (-1) /* fastreuse of a bucket */
#define OWNER_SOUGHT_MAX 3 /* a sweep makes two passes: this is the second sweep */

/* Counters of a socket that are reported as differences. */
enum claim {
	CLAIM_READ = 0,
	CLAIM_WRITTEN = 1,
	CLAIM_SEGS_IN = 2,
	CLAIM_SEGS_OUT = 3,
	CLAIM_RETRANS = 4,
	CLAIM_MAX = 5,
};

enum conn_state {
	CONN_CONNECTING = 0,
	CONN_ESTABLISHED = 1, /* established, no record yet */
	CONN_PREEXISTING = 2, /* found by the sweep of files, no record yet */
	CONN_REPORTED = 3,    /* the establishment was reported */
	CONN_DEAD = 4,
};

struct conn {
	u64 claimed[CLAIM_MAX]; /* reported so far, plus `base` */
	u64 ident; /* of the socket: while it says another, its memory is no longer this connection's */
	u64 base; /* generation << CLAIM_BITS: makes a claim fail that was begun on the entry's former life */
	u64 born_ns; /* of connect() */
	u64 connect_ns;
	u64 since_ns; /* when its TCP state began, where tcpstate is on; 0: unknown */
	struct owner owner;
	u32 state; /* enum conn_state */
	u8 role;
	u8 owner_changes; /* since the last sweep */
	u8 reset_flags; /* FLOW_RESET_IN, FLOW_RESET_OUT, and FLOW_NAT */
	u8 owner_sought; /* passes of sweeps that met it without an owner */
	u32 tcp_state; /* of the socket at the last sweep, where tcpstate is on; 0: not met yet */
	u32 early; /* 1: made before the end of its handshake */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* configuration: collector.maps.sockets_max */
	__uint(map_flags, BPF_F_NO_PREALLOC); /* memory only for what is open */
	__type(key, u64);
	__type(value, struct conn);
} tcp_conns SEC(".maps");

/*
 * Who was last seen to read or write, by socket cookie: one load instead of a look-up in `tcp_conns` for each call. Slots are
 * shared by cookies that are equal in their low bits; a slot that holds another socket costs a look-up, nothing else.
 */
#define OWNER_SLOTS 16384
#define TGID_BITS 22 /* PID_MAX_LIMIT */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OWNER_SLOTS);
	__type(key, u32);
	__type(value, u64); /* cookie << TGID_BITS | tgid */
} tcp_last_owner SEC(".maps");

struct listener {
	u32 netns;
	u32 port;
};

/* Ports with a listening socket, filled by the sweep of files: tells who opened an older connection. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* memory only for what is open */
	__type(key, struct listener);
	__type(value, u32);
} tcp_listeners SEC(".maps");

extern const volatile bool tcpstate_enabled; /* sonde.bpf.c */

/* What the socket's counters say now. */
struct counters {
	u64 value[CLAIM_MAX];
	u64 received;
	u64 sent;
	u32 srtt_us;
	u32 rttvar_us;
};

/*
 * In two steps. bytes_received counts the peer's FIN as one byte before SOCK_DONE tells so, and bytes_sent counts a repeat
 * before bytes_retrans does: the correcting field is read last, so that a socket that moves meanwhile is reported too low
 * (and made good by the next record), never too high.
 */
#define DEFINE_COUNTERS(way, READ) \
static __always_inline void counters_##way(struct tcp_sock *tp, struct counters *now) \
{ \
	now->received = READ(tp, bytes_received); \
	now->sent = READ(tp, bytes_sent); \
	now->value[CLAIM_SEGS_IN] = READ(tp, segs_in); \
	now->value[CLAIM_SEGS_OUT] = READ(tp, segs_out); \
	now->value[CLAIM_RETRANS] = READ(tp, total_retrans); \
	now->srtt_us = READ(tp, srtt_us) >> 3; \
	now->rttvar_us = READ(tp, mdev_us) >> 2; \
} \
static __always_inline void settle_##way(struct tcp_sock *tp, struct counters *now) \
{ \
	unsigned long flags = READ(tp, inet_conn.icsk_inet.sk.__sk_common.skc_flags); \
	u64 fin = now->received && (flags & (1UL << SOCK_DONE_BIT)); \
	now->value[CLAIM_READ] = now->received - fin; \
	now->value[CLAIM_WRITTEN] = now->sent - READ(tp, bytes_retrans); \
}

/* What makes a report. */
enum call {
	CALL_NONE = 0, /* the sweep */
	CALL_ANY = 1, /* a call of a process, without its length */
	CALL_READ = 2,
	CALL_WRITE = 3,
};

/*
 * Leaves in `now` what was done before the call that has just moved `length` bytes. What came and is not read yet is no
 * share of the past either; what was written and is not sent yet, is: its claim runs ahead of the socket's counter, and what is
 * never sent is missing from the last record (`negative_delta`). Whatever moves meanwhile makes it less, never more.
 */
static __always_inline void before_call(struct tcp_sock *tp, struct counters *now, int length,
					enum call call)
{
	s64 moved = length > 0 ? length : 0;
	s64 read = now->received - (call == CALL_READ ? moved : 0);
	s64 written = now->value[CLAIM_WRITTEN] - (call == CALL_WRITE ? moved : 0);

	read -= BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, copied_seq);
	written += BPF_CORE_READ(tp, write_seq) - BPF_CORE_READ(tp, snd_nxt);
	if (read < (s64)now->value[CLAIM_READ])
		now->value[CLAIM_READ] = read > 0 ? read : 0;
	now->value[CLAIM_WRITTEN] = written > 0 ? written : 0;
}

DEFINE_COUNTERS(direct, READ_DIRECT)
DEFINE_COUNTERS(probe, READ_PROBE)

/*
 * The difference between the counter `now` and what was reported of it, claimed for the caller: 0 when somebody else has
 * it. Kernels before 5.12 have no compare-and-exchange: there two claims within some 50 ns of each other may both get it.
 */
static __always_inline s64 claim(struct conn *conn, u32 what, u64 now, bool atomics)
{
	u64 want = conn->base + (now & ((1ULL << CLAIM_BITS) - 1));
	u64 old = conn->claimed[what];

	if (old >= want || (old ^ want) >> CLAIM_BITS)
		return 0; /* nothing new, or a dead entry */
	if (!atomics)
		conn->claimed[what] = want;
	else if (__sync_val_compare_and_swap(&conn->claimed[what], old, want) != old)
		return 0;
	return want - old;
}

/* The last claim: leaves CLAIM_DEAD, with which no other claim on this entry can succeed. */
static __always_inline s64 claim_last(struct conn *conn, u32 what, u64 now, bool atomics)
{
	u64 want = conn->base + (now & ((1ULL << CLAIM_BITS) - 1));
	u64 old = conn->claimed[what];

	if (atomics)
		old = __sync_lock_test_and_set(&conn->claimed[what], CLAIM_DEAD);
	else
		conn->claimed[what] = CLAIM_DEAD;
	return (old ^ want) >> CLAIM_BITS ? 0 : want - old;
}

#define CLAIM_ALL(how, conn, now, flow, atomics) \
({ \
	const u64 *value = (now)->value; \
	(flow)->bytes_read = how(conn, CLAIM_READ, value[CLAIM_READ], atomics); \
	(flow)->bytes_written = how(conn, CLAIM_WRITTEN, value[CLAIM_WRITTEN], atomics); \
	(flow)->packets_read = how(conn, CLAIM_SEGS_IN, value[CLAIM_SEGS_IN], atomics); \
	(flow)->packets_written = how(conn, CLAIM_SEGS_OUT, value[CLAIM_SEGS_OUT], atomics); \
	(flow)->retransmits = how(conn, CLAIM_RETRANS, value[CLAIM_RETRANS], atomics); \
	(flow)->srtt_us = (now)->srtt_us; \
	(flow)->rttvar_us = (now)->rttvar_us; \
})

/* Moves the entry from `state` to `next`; false: somebody else did. */
static __always_inline bool claim_state(struct conn *conn, u32 state, u32 next, bool atomics)
{
	if (atomics)
		return __sync_val_compare_and_swap(&conn->state, state, next) == state;
	if (conn->state != state)
		return false;
	conn->state = next;
	return true;
}

/* The peer, from connect() or the handshake to the end: tells whether a socket is still the one of an entry. */
#define DEFINE_IDENT(way, READ) \
static __always_inline u64 sock_ident_##way(struct sock *sk) \
{ \
	u64 address = (u64)READ(sk, __sk_common.skc_daddr) + \
		      READ(sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32[3]); \
	return address << 16 | READ(sk, __sk_common.skc_dport); \
}

DEFINE_IDENT(direct, READ_DIRECT)
DEFINE_IDENT(probe, READ_PROBE)

static __always_inline void new_conn(struct conn *conn, u64 ident, u8 role, u32 state)
{
	conn->ident = ident;
	conn->base = (u64)bpf_get_prandom_u32() << CLAIM_BITS;
	if (conn->base == CLAIM_DEAD)
		conn->base = 0;
	conn->role = role;
	conn->state = state;
	if (tcpstate_enabled && state != CONN_PREEXISTING)
		conn->since_ns = bpf_ktime_get_boot_ns();
	for (int i = 0; i < CLAIM_MAX; i++)
		conn->claimed[i] = conn->base;
}

/* What does not come from the socket, and nothing that must be claimed. */
static __always_inline void flow_head(struct flow_record *flow, struct conn *conn)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->head.kind = RECORD_FLOW;
	flow->transport = IPPROTO_TCP;
	flow->owner = conn->owner;
	flow->role = conn->role;
}

/* The age is taken first: nothing that came before connect() may seem to have come after it. */
static __always_inline u64 conn_begin(struct conn *conn)
{
	u64 age_ns = bpf_ktime_get_boot_ns() - conn->born_ns;

	return conn->born_ns ? bpf_ktime_get_ns() - age_ns : 0;
}

/* The establishment is part of a connection's first record, whoever sends it. */
static __always_inline void flow_established(struct flow_record *flow, struct conn *conn, u32 state)
{
	flow->head.flags |= FLOW_ESTABLISHED;
	if (state == CONN_PREEXISTING)
		flow->head.flags |= FLOW_PREEXISTING;
	flow->connections_established = 1;
	flow->connect_ns = conn->connect_ns;
	flow->begin_ns = conn_begin(conn);
}

/* The last record; `state`: the entry's until now. */
static __always_inline void flow_ended(struct flow_record *flow, struct conn *conn, u32 state,
				       bool failed)
{
	if (failed) {
		flow->head.flags |= FLOW_FAILED;
		flow->connections_failed = 1;
		flow->begin_ns = conn_begin(conn);
		return;
	}
	flow->head.flags |= FLOW_CLOSED;
	flow->connections_closed = 1;
	if (state != CONN_REPORTED)
		flow_established(flow, conn, state);
}

/*
 * The end of a connection that nobody saw, and whose socket is another's by now: counted, under its owner. What it sent and
 * received since its last record, and its addresses, are gone with the socket.
 */
static __noinline int conn_lost(struct conn *conn)
{
	struct flow_record flow;
	u32 state;

	if (!conn)
		return 0;
	state = conn->state;
	if (state == CONN_DEAD)
		return 0;
	conn->state = CONN_DEAD;
	count(COUNT_STALE);
	flow_head(&flow, conn);
	flow_ended(&flow, conn, state, state == CONN_CONNECTING);
	emit_flow(&flow);
	return 0;
}

/* An entry that is there already is of a former socket at this address, whose end the kernel skipped. */
static __always_inline void keep_conn(u64 key, struct conn *conn)
{
	if (!bpf_map_update_elem(&tcp_conns, &key, conn, BPF_NOEXIST))
		return;
	conn_lost(bpf_map_lookup_elem(&tcp_conns, &key));
	if (bpf_map_update_elem(&tcp_conns, &key, conn, BPF_ANY))
		count(COUNT_CONN_FULL); /* reported at its end from the socket alone */
}

#endif
