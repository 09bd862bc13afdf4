/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Changes of state of TCP sockets, and how long each state lasted, by network namespace. Part of the program that the tcp
 * probe has on the same hook (tcp_on_state): one program there, whoever looks. When a state began stands in the entry of the
 * connection; which state a connection is in now is written there by the sweep. Reader: probes/tcpstate/tcpstate.ts.
 */
#ifndef SONDE_TCPSTATE_H
#define SONDE_TCPSTATE_H

#include "../../bpf/histogram.bpf.h"
#include "../../bpf/turns.bpf.h"
#include "../tcp/conn.bpf.h"

#define TCPSTATE_CHANGES_MAX 4096 /* a network namespace has some twelve */

struct tcpstate_key {
	u32 netns;
	u16 from;
	u16 to;
};

struct tcpstate_change {
	u64 count;
	struct histogram lasted; /* ns in `from`; of those changes whose begin is known */
};

DEFINE_TURNS_FLAGS(tcpstate, struct tcpstate_key, struct tcpstate_change, TCPSTATE_CHANGES_MAX,
		   BPF_F_NO_PREALLOC)

static __noinline struct tcpstate_change *tcpstate_fresh(struct tcpstate_key *key)
{
	struct tcpstate_change fresh = {}, *change = tcpstate_make(key, &fresh);

	if (change)
		return change;
	count(COUNT_TCPSTATE_FULL);
	key->netns = 0; /* all that find no room are one */
	change = tcpstate_find(key);
	return change ? change : tcpstate_make(key, &fresh);
}

/* Before tcp_on_state makes or removes the connection's entry. */
static __always_inline void tcpstate_on_change(struct sock *sk, int oldstate, int newstate)
{
	struct tcpstate_key key = {
		.netns = sock_netns_direct(sk),
		.from = oldstate,
		.to = newstate,
	};
	struct tcpstate_change *change = tcpstate_find(&key);
	u64 address = (u64)sk;
	struct conn *conn;
	u64 now;

	if (!change)
		change = tcpstate_fresh(&key);
	if (!change)
		return; /* cannot be but for a map without any room: it is counted */
	TURN_ADD(change->count, 1);
	conn = bpf_map_lookup_elem(&tcp_conns, &address);
	if (!conn)
		return; /* a socket that listens, or one that begins */
	now = bpf_ktime_get_boot_ns();
	if (conn->since_ns)
		histogram_add(&change->lasted, now - conn->since_ns);
	conn->since_ns = now;
}

#endif
