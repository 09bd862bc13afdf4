/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Changes of state of TCP sockets, and how long each state lasted, by the owner of the connection, not by who runs when
 * a packet brings the change about. Part of the program that the tcp
 * probe has on the same hook (tcp_on_state): one program there, whoever looks. When a state began stands in the entry of the
 * connection; which state a connection is in now is written there by the sweep. Reader: probes/tcpstate/tcpstate.ts.
 */
#ifndef SONDE_TCPSTATE_H
#define SONDE_TCPSTATE_H

#include "../../bpf/histogram.bpf.h"
#include "../../bpf/turns.bpf.h"
#include "../tcp/conn.bpf.h"

#define TCPSTATE_CHANGES_MAX 8192 /* a process has some six */

struct tcpstate_key {
	u32 netns;
	u32 tgid; /* owner of the connection; 0: not known yet, or no connection */
	u16 from;
	u16 to;
	u32 unused;
};

struct tcpstate_change {
	u64 count;
	struct owner owner;
	struct histogram lasted; /* ns in `from`; of those changes whose begin is known */
};

DEFINE_TURNS_FLAGS(tcpstate, struct tcpstate_key, struct tcpstate_change, TCPSTATE_CHANGES_MAX,
		   BPF_F_NO_PREALLOC)

static __always_inline struct tcpstate_change *
tcpstate_fresh(struct tcpstate_key *key, struct conn *conn)
{
	struct tcpstate_change fresh = {}, *change;

	if (conn)
		fresh.owner = conn->owner;
	change = tcpstate_make(key, &fresh);
	if (change)
		return change;
	count(COUNT_TCPSTATE_FULL);
	key->netns = key->tgid = 0; /* all that find no room are one */
	__builtin_memset(&fresh.owner, 0, sizeof(fresh.owner));
	change = tcpstate_find(key);
	return change ? change : tcpstate_make(key, &fresh);
}

/* When connect() has made the connection's entry, and before its end removes it. */
static __always_inline void tcpstate_on_change(struct sock *sk, int oldstate, int newstate)
{
	u64 address = (u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&tcp_conns, &address);
	struct tcpstate_key key = {
		.netns = sock_netns_direct(sk),
		.tgid = conn ? conn->owner.tgid : 0,
		.from = oldstate,
		.to = newstate,
	};
	struct tcpstate_change *change = tcpstate_find(&key);
	u64 now;

	if (!change)
		change = tcpstate_fresh(&key, conn);
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

#endif
