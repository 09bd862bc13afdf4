/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Changes of state of TCP sockets, and how long each state lasted, by the owner of the connection, not by who runs when
 * a packet brings the change about. Part of the program that the tcp
 * probe has on the same hook (tcp_on_state): one program there, whoever looks. When a state began stands in the entry of the
 * connection; which state a connection is in now is written there by the sweep. Reader: probes/tcpstate/tcpstate.ts.
 */
#ifndef SONDE_TCPSTATE_H
#define SONDE_TCPSTATE_H

#include "../../bpf/front.bpf.h"
#include "../../bpf/histogram.bpf.h"
#include "../tcp/conn.bpf.h"

#define TCPSTATE_CHANGES_MAX 8192 /* a process has some six */

/* 8 bytes, which the kernel compares and hashes in one step. */
struct tcpstate_key {
	u32 netns;
	u32 change; /* tgid << 8 | from << 4 | to; tgid: owner of the connection; 0: not known yet, or no connection */
};

#define TCPSTATE_BITS 4 /* states are less than 16 */

struct tcpstate_change {
	struct owner owner;
	u64 count;
	struct histogram lasted; /* ns in `from`; of those changes whose begin is known */
};

DEFINE_TURNS_FLAGS(tcpstate, struct tcpstate_key, struct tcpstate_change, TCPSTATE_CHANGES_MAX,
		   BPF_F_NO_PREALLOC)
/*
 * Used where there are no connections, and so no times: without the tcp source. By tcp_state alone, which the kernel never
 * lets interrupt itself.
 */
DEFINE_FRONT(tcpstate, struct tcpstate_key, struct tcpstate_change, count, 1, 5)

extern const volatile bool tcp_enabled; /* sonde.bpf.c */

static __always_inline u64 tcpstate_key_of(struct sock *sk, u32 tgid, int oldstate, int newstate)
{
	u32 change = tgid << 2 * TCPSTATE_BITS | (oldstate & 15) << TCPSTATE_BITS |
		     (newstate & 15);

	return sock_netns_direct(sk) | (u64)change << 32;
}

/* The entry of `key`, or that of all that found the map full, which is then the key. */
static __always_inline struct tcpstate_change *
tcpstate_fresh(bool turn, u64 *key, struct conn *conn)
{
	struct tcpstate_change fresh = {}, *change;

	if (conn)
		fresh.owner = conn->owner;
	change = tcpstate_make_in(turn, (struct tcpstate_key *)key, &fresh);
	if (change)
		return change;
	count(COUNT_TCPSTATE_FULL);
	*key &= 0xffull << 32; /* all that find no room are one for each change */
	__builtin_memset(&fresh.owner, 0, sizeof(fresh.owner));
	change = tcpstate_find_in(turn, (struct tcpstate_key *)key);
	return change ? change : tcpstate_make_in(turn, (struct tcpstate_key *)key, &fresh);
}

static __always_inline struct tcpstate_change *
tcpstate_of(bool turn, u64 *key, struct conn *conn)
{
	struct tcpstate_change *change = tcpstate_find_in(turn, (struct tcpstate_key *)key);

	return change ? change : tcpstate_fresh(turn, key, conn);
}

/* When connect() has made the connection's entry, and before its end removes it. */
static __always_inline void tcpstate_on_change(struct sock *sk, int oldstate, int newstate)
{
	u64 address = (u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &address);
	u64 key = tcpstate_key_of(sk, conn ? conn->owner.tgid : 0, oldstate, newstate);
	struct tcpstate_change *change = tcpstate_of(turn_now(), &key, conn);
	u64 now;

	if (!change)
		return; /* cannot be but for a map without any room: it is counted */
	TURN_ADD(change->count, 1);
	if (!conn)
		return; /* a socket that listens, or one that begins */
	now = bpf_ktime_get_boot_ns();
	if (conn->since_ns && oldstate != TCP_CLOSE)
		histogram_add(&change->lasted, now - conn->since_ns);
	conn->since_ns = now;
}

static __noinline int tcpstate_at_entry(u64 known, bool turn)
{
	struct tcpstate_slot *slot = tcpstate_slot_of(turn, known);
	u64 key = known;
	struct tcpstate_change *change = tcpstate_of(turn, &key, NULL);

	if (!change)
		return 0; /* counted, as above */
	TURN_ADD(change->count, 1);
	if (key == known && slot)
		tcpstate_settle(turn, slot, key, change->count);
	return 0;
}

/* Without the tcp source. */
static __always_inline void tcpstate_alone(struct sock *sk, int oldstate, int newstate)
{
	u64 key = tcpstate_key_of(sk, 0, oldstate, newstate);
	u32 turn = turn_now();
	struct tcpstate_slot *slot = tcpstate_slot_of(turn, key);

	if (slot && slot->key == key)
		slot->sums[0] += 1;
	else
		tcpstate_at_entry(key, turn);
}

#endif
