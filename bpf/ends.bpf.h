/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Both ends of a connection as a key: what a packet that came on the listening socket (TCP_DEFER_ACCEPT; data with the last
 * step of the handshake, or after its loss) has in common with the socket that it made.
 */
#ifndef SONDE_ENDS_H
#define SONDE_ENDS_H

#include "packet.bpf.h"
#include "sock.bpf.h"

struct conn_ends {
	u8 local_addr[16];
	u8 peer_addr[16];
	u16 local_port;
	u16 peer_port;
	u32 netns;
	u32 family;
};

static __always_inline u64 full_sock_of(struct packet *p)
{
	return address_of(p->sk);
}

/* Of a connected socket; the local port is the caller's to fill in. With a stack of its own: the callers' are deep. */
static __noinline int conn_ends_of_sock(u64 sk, struct conn_ends *ends)
{
	struct flow_record flow;

	__builtin_memset(&flow, 0, sizeof(flow));
	sock_ends_probe((struct sock *)sk, &flow);
	__builtin_memset(ends, 0, sizeof(*ends));
	__builtin_memcpy(ends->local_addr, flow.local_addr, 16);
	__builtin_memcpy(ends->peer_addr, flow.peer_addr, 16);
	ends->peer_port = flow.peer_port;
	ends->netns = flow.netns;
	ends->family = flow.family;
	return 0;
}

/* Of a packet on its connection's own socket. */
static __always_inline void conn_ends_of_connected(struct packet *p, struct conn_ends *ends)
{
	conn_ends_of_sock(full_sock_of(p), ends);
	ends->local_port = p->local_port;
}

/* Of a packet on the listening socket. */
static __always_inline void conn_ends_of_packet(struct packet *p, struct conn_ends *ends)
{
	__builtin_memset(ends, 0, sizeof(*ends));
	ends->local_port = p->local_port;
	ends->peer_port = p->peer_port;
	ends->family = p->family;
	ends->netns = sock_netns_probe((struct sock *)full_sock_of(p));
	packet_ends(p, ends->local_addr, ends->peer_addr);
}

#endif
